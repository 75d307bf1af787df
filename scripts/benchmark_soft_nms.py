"""Time of Soft-NMS beside torchvision's hard NMS and the package ensemble-boxes, on the same candidates.

Written for this project. The three take turns; times are of the processor, medians over the rounds. Candidates are
`spread` (every box anywhere in the image) or `clustered` (many boxes on each of a few objects, as detectors give them).
Example: `python scripts/benchmark_soft_nms.py`; `pip install ensemble-boxes` for the third column.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from yolospine_ultra.postprocess.soft_nms import soft_nms

SIDE = 384.0  # of the image, pixels
OBJECTS = 8  # of each class, in clustered candidates: the discs of a lumbar image
SIGMA, IOU = 0.5, 0.5


def candidates(kind: str, classes: int, each: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Boxes (C, M, 4) of about 60 x 30 pixels and scores (C, M), seeded."""
    if kind == "spread":
        centre = rng.uniform(0, SIDE, (classes, each, 2))
        scores = rng.uniform(0.01, 1, (classes, each))
    else:
        objects = rng.uniform(40, SIDE - 40, (classes, OBJECTS, 2))
        shift = rng.normal(0, 6, (classes, each, 2))
        centre = np.take_along_axis(objects, rng.integers(0, OBJECTS, (classes, each))[..., None], 1) + shift
        scores = np.exp(-(shift**2).sum(-1) / 60) * rng.uniform(0.2, 1, (classes, each))  # the better, the closer
    half = np.array([30.0, 15.0]) * rng.uniform(0.8, 1.2, (classes, each, 2))
    boxes = torch.from_numpy(np.concatenate((centre - half, centre + half), 2)).float()
    return boxes, torch.from_numpy(scores).float()


def contestants(boxes: Tensor, scores: Tensor, least: float) -> dict[str, Callable[[], object]]:
    """The calls that are timed, each from the same tensors."""
    labels = torch.arange(len(boxes))[:, None].expand_as(scores).flatten()
    flat, flat_scores = boxes.flatten(0, 1), scores.flatten()
    calls: dict[str, Callable[[], object]] = {
        "soft": lambda: soft_nms(boxes, scores, "gaussian", SIGMA, score_threshold=least),
        "hard": lambda: batched_nms(flat, flat_scores, labels, IOU),
    }
    if find_spec("ensemble_boxes"):
        from ensemble_boxes import soft_nms as theirs

        lists = [(flat / SIDE).clamp(0, 1).tolist()], [flat_scores.tolist()], [labels.tolist()]
        calls["ensemble_boxes"] = lambda: theirs(*lists, method=2, sigma=SIGMA, thresh=least)
    return calls


def compare(kind: str, least: float, classes: int, each: int, rounds: int) -> dict[str, float | str]:
    """Median milliseconds of every contestant, and what they are relative to Soft-NMS here."""
    rng = np.random.default_rng(0)
    taken: dict[str, list[float]] = {}
    for n in range(rounds + 1):
        for name, call in contestants(*candidates(kind, classes, each, rng), least).items():
            start = time.process_time()
            call()
            if n:  # the first round warms up, and compiles where a contestant is compiled
                taken.setdefault(name, []).append((time.process_time() - start) * 1e3)
    medians = {name: statistics.median(t) for name, t in taken.items()}
    made: dict[str, float | str] = {"candidates": kind, "least_score": least}
    made |= {f"{name}_ms": round(t, 2) for name, t in medians.items()}
    made |= {f"soft_to_{name}": round(medians["soft"] / t, 2) for name, t in medians.items() if name != "soft"}
    return made


def main() -> int:
    """Parse the command line, print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=6, help="(%(default)s)")
    parser.add_argument("--each", type=int, default=1000, help="candidates of each class (%(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="(%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        compare(kind, least, args.classes, args.each, args.rounds)
        for kind in ("spread", "clustered")
        for least in (0.001, 0.25)
    ]
    print(json.dumps(rows, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
