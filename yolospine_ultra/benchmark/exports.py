"""What exporting a model gains and changes: time of the predict call, and its findings beside PyTorch's.

Written for this project. Every form is exported by the host, loaded as its users load it, and takes turns with the
others (`timing`). Findings are compared above `COMPARED`: below it, one of two equal scores may fall under the limit.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from yolospine_ultra.benchmark.detectors import load_detector
from yolospine_ultra.benchmark.timing import Latency, interleaved_latency, timer_for
from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.matching import match_by_class

NEEDS = {"torchscript": "torch", "onnx": "onnxruntime", "openvino": "openvino"}  # what runs each form
COMPARED = 0.01  # least score
SAME_FINDING = 0.9  # IoU from which two findings of a class are one, so that what differs more counts as missing


@dataclass(frozen=True)
class Agreement:
    """Findings of two forms of a model in the same images.

    Attributes:
        both: findings that both have.
        missing, added: those that only the first, only the second has.
        box: largest difference of a side's place, pixels of the image; of `both`.
        score: largest difference of a score; of `both`.
    """

    both: int
    missing: int
    added: int
    box: float
    score: float


def agreement(reference: Sequence[ImageFindings], other: Sequence[ImageFindings]) -> Agreement:
    """Compare the findings of each image, class by class, best score first."""
    box = score = 0.0
    both = missing = added = 0
    for a, b in zip(reference, other, strict=True):
        a, b = a.above(COMPARED), b.above(COMPARED)
        found = match_by_class(a, b, SAME_FINDING)
        first, second = np.flatnonzero(found >= 0), found[found >= 0]
        both += len(first)
        missing += len(a) - len(first)
        added += len(b) - len(first)
        box = max(box, np.abs(a.boxes[first] - b.boxes[second]).max(initial=0))
        score = max(score, np.abs(a.scores[first] - b.scores[second]).max(initial=0))
    return Agreement(both, missing, added, float(box), float(score))


def compare_exports(
    weights: Path, forms: Sequence[str], images: Sequence[Path], imgsz: int, rounds: int, threads: int, folder: Path
) -> dict[str, tuple[Latency, Agreement]]:
    """Export a model to several forms, time them against each other, and compare what they find.

    Args:
        weights: a checkpoint, which is copied to `folder`.
        forms: of `NEEDS`.
        images: files that every form takes in every round, one at a time.
        imgsz: side of the square input, pixels; exported graphs have this size.
        rounds: of the latency.
        threads: CPU threads of PyTorch and TorchScript; the other run times choose for themselves, at most the
            processors that this process may use.
        folder: where the exported files go; it exists.

    Returns:
        By form, PyTorch first, its latency and its agreement with PyTorch.

    Raises:
        ValueError: a form that is unknown, or whose run time is missing; weights that cannot be loaded.
    """
    for form in forms:
        if form not in NEEDS:
            raise ValueError(f"form {form!r} is unknown; expected some of {', '.join(NEEDS)}.")
        if find_spec(NEEDS[form]) is None:
            raise ValueError(f"{form} needs {NEEDS[form]}: pip install 'yolospine_ultra[export]'")
    own = Path(shutil.copy(weights, folder / "model.pt"))
    detectors = {"pytorch": load_detector(own, imgsz=imgsz)}
    for form in forms:
        # of a copy, because exporting changes the model that it is called on
        file = load_detector(own, imgsz=imgsz).facade.export(format=form, imgsz=imgsz, device="cpu", verbose=False)
        detectors[form] = load_detector(Path(file), imgsz=imgsz)
    for detector in detectors.values():
        detector.arguments["batch"] = 1  # what the graphs are made for

    found = {form: [d.detect([image])[0] for image in images] for form, d in detectors.items()}

    def call(form: str, image: Path) -> object:
        torch.set_num_threads(threads)  # the host sets its own when it begins
        return detectors[form].detect([image])

    calls = {form: (lambda image, form=form: call(form, image)) for form in detectors}
    taken = interleaved_latency(calls, images, rounds, timer_for("cpu"))
    return {form: (taken[form], agreement(found["pytorch"], found[form])) for form in detectors}
