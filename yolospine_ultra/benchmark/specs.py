"""What every model costs, without training any: true parameters, operations, and the latency of a whole predict call.

Written for this project. The figures are those of `engine.cost` (2 x MACs, attention and stage 2 in) and
`benchmark.timing` (calls of all models take turns) on untrained weights, on which neither parameters nor operations
depend. Latency hardly does: an untrained model gives suppression less, or other, boxes to work on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from yolospine_ultra.benchmark.environment import environment
from yolospine_ultra.benchmark.families.ultralytics_family import UltralyticsDetector
from yolospine_ultra.benchmark.family import Budget, CellData, Detector, ModelEntry
from yolospine_ultra.benchmark.timing import Latency, interleaved_latency, timer_for
from yolospine_ultra.benchmark.zoo import family_of, missing
from yolospine_ultra.data.phantom.slices import generate_slice, sample_patient
from yolospine_ultra.engine.cost import Cost, model_cost

# the models of the paper's cost table, and ours at its scale
PAPER_MODELS = (
    "yolov8m", "yolov9m", "yolov10m", "yolo11m", "yolo12m", "yolo26m", "unetpp-r50", "swin-unet", "transunet",
    "pvtv2-unet", "rtdetr-l", "rtdetr-x", "cascade-rcnn-r50", "yolospine-m",
)  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """Costs of a model.

    Attributes:
        parameters, flops: as it is trained.
        fused_parameters, fused_flops: as it predicts, with convolutions and normalisations merged and heads that only
            training needs removed; None for a family that does not merge.
        regions: regions of interest that a second stage pools from one image, which `flops` are counted with.
        latency: of the whole predict call, None where it was not asked for.
    """

    parameters: int
    flops: int
    fused_parameters: int | None
    fused_flops: int | None
    regions: int
    latency: Latency | None = None


class _Regions(TorchDispatchMode):
    """Counts the regions that RoIAlign pools."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is torch.ops.torchvision.roi_align.default:
            self.count += len(args[1])
        return func(*args, **(kwargs or {}))


def cost_of(module: nn.Module, imgsz: int, channels: int = 3) -> Spec:
    """Costs of a network on a square image, without latency.

    Args:
        module: the network; it is copied, not changed.
        imgsz: side of the input, pixels.
        channels: of the input.
    """
    with _Regions() as regions:
        cost = model_cost(module, imgsz, channels)
    fused: Cost | None = None
    if hasattr(module, "fuse"):  # the host's models
        fused = model_cost(deepcopy(module).float().eval().fuse(verbose=False), imgsz, channels)
    return Spec(
        cost.parameters,
        cost.flops,
        fused.parameters if fused else None,
        fused.flops if fused else None,
        regions.count,
    )


def measure(
    entries: Sequence[ModelEntry],
    imgsz: int = 384,
    nc: int = 6,
    rounds: int = 0,
    images: Sequence[Path] = (),
    batch: int = 1,
    device: str = "cpu",
    threads: int = 1,
    report: Callable[[str], None] = print,
    channels: int = 3,
) -> dict[str, Any]:
    """Costs of rows of the benchmark.

    Args:
        entries: the rows.
        imgsz: side of the square input, pixels.
        nc: number of classes.
        rounds: of the latency, in each of which every model takes every image; 0 leaves latency out.
        images: files to time with; a slice of the spine phantom where there are none.
        batch: images a predict call, the same file each; the latency is that of the call.
        device: "cpu" or the index of a GPU, for the latency.
        threads: CPU threads of torch, for the latency.
        report: called with a sentence for every row that is skipped because its packages are missing.
        channels: of the images, 1 or 3.

    Returns:
        JSON values: `imgsz`, `nc`, `channels`, `rounds`, `batch`, `device`, `environment`, and `models`, by name the
        fields of `Spec`.

    Raises:
        ValueError: a GPU that is not there, or an input that a model cannot take.
    """
    content = {"imgsz": imgsz, "nc": nc, "channels": channels, "rounds": rounds, "batch": batch, "device": device}
    content["environment"] = environment(device, threads)
    specs: dict[str, Spec] = {}
    detectors: dict[str, Detector] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = _no_data(Path(folder), nc, channels)
        budget = Budget(epochs=1, imgsz=imgsz, batch=1, device=device, seed=0, threads=threads)
        for entry in entries:
            if why := missing(entry):
                report(f"skipped: {why}")
                continue
            detector = family_of(entry).load(entry, None, data, budget)
            specs[entry.name] = cost_of(detector.module, imgsz, data.channels)
            if rounds:
                detectors[entry.name] = detector
        if detectors:
            files = list(images) or [_phantom(Path(folder))]
            taken = interleaved_latency(
                {name: _call(d, threads, batch) for name, d in detectors.items()}, files, rounds, timer_for(device)
            )
            specs = {name: Spec(**{**vars(spec), "latency": taken[name]}) for name, spec in specs.items()}
    return content | {"models": {name: asdict(spec) for name, spec in specs.items()}}


def _call(detector: Detector, threads: int, batch: int) -> Callable[[Path], object]:
    """The predict call that is timed; the host sets its own number of threads when it begins."""
    if isinstance(detector, UltralyticsDetector):  # the host takes a list one by one unless it is told
        detector.arguments["batch"] = batch

    def call(image: Path) -> object:
        torch.set_num_threads(threads)
        return detector.detect([image] * batch)

    return call


def _no_data(folder: Path, nc: int, channels: int) -> CellData:
    """Data without images, from which families read names and channels."""
    names = {i: f"class{i}" for i in range(nc)}
    file = folder / "data.yaml"
    content = {"path": str(folder), "train": "train.txt", "val": "val.txt", "channels": channels, "names": names}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return CellData(file, (), (), names, channels)


def _phantom(folder: Path) -> Path:
    """A slice of the spine phantom, 384 px, as a file."""
    file = folder / "phantom.png"
    cv2.imwrite(str(file), generate_slice(sample_patient(np.random.default_rng(0))).image)
    return file
