"""Meyerding's grade of a slip, from the box's pixels and from the end plates.

Source: Meyerding 1932 (Surg Gynecol Obstet 54:371): the slip of the upper body over the end plate below it in quarters,
I to IV. The paper (Masood and Taj 2026) reads it off the SP box with HOG and a random forest: 31 of 36 right, where 76%
are grade I. The geometric grade here is measured on end plates, which the spine phantom has in `instances_SPLIT.json`:
the offset of the two posterior corners along the lower plate over that plate's length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolospine_ultra.data.phantom.slices import CLASS_NAMES, SP, meyerding_grade
from yolospine_ultra.evaluate.dataset_files import find_files
from yolospine_ultra.evaluate.findings import Reporter, log_problem
from yolospine_ultra.grading.boxes import GradedBoxes, read_boxes
from yolospine_ultra.grading.crops import crop, read_plane
from yolospine_ultra.grading.hog_forest import Features, hog_features

KIND = "meyerding"
GRADES = (1, 2, 3, 4)
ROMAN = {1: "I", 2: "II", 3: "III", 4: "IV"}
PAPER = (31, 36)  # right, of all
SLIP_CLASS = CLASS_NAMES[SP]


@dataclass(frozen=True, eq=False)
class EndPlates:
    """The two end plates of a slipped disc, front to back, (N, 2) pixels each.

    Attributes:
        above: lower plate of the body above.
        below: upper plate of the body below.
    """

    above: np.ndarray
    below: np.ndarray


def slip_boxes(
    data: str | Path, split: str, root: str | Path | None = None, report: Reporter = log_problem
) -> GradedBoxes:
    """The SP boxes of a split that have a Meyerding grade; arguments and errors as `boxes.read_boxes`."""
    return read_boxes(data, split, KIND, root, GRADES, report)


def slip_features(files: Sequence[Path], boxes: np.ndarray) -> Features:
    """The paper's features of SP boxes.

    Args:
        files: (N,) image of each box.
        boxes: (N, 4) x1 y1 x2 y2 in pixels.

    Returns:
        "hog": (N, 8100).

    Raises:
        ValueError: an image cannot be read.
    """
    return {"hog": hog_features(slip_crops(files, boxes)).reshape(-1, 8100)}


def slip_crops(files: Sequence[Path], boxes: np.ndarray) -> list[np.ndarray]:
    """The crops of boxes, uint8 (128, 128) each; arguments and errors as `slip_features`."""
    planes = {f: read_plane(f) for f in set(files)}
    return [crop(planes[f], b) for f, b in zip(files, boxes, strict=True)]


def slip_fraction(plates: EndPlates) -> float:
    """Forward slip over the length of the end plate below, 0 for a slip backwards.

    The posterior corner of the body above is projected on the line through the front and back corner of the plate
    below: slip = (below_back - above_back) . d / |d|^2, d = below_back - below_front.

    Raises:
        ValueError: a plate of fewer than two points, or without length.
    """
    direction = plates.below[-1] - plates.below[0]
    length = float(direction @ direction)
    if min(len(plates.above), len(plates.below)) < 2 or not length:
        raise ValueError("an end plate needs two different points at least, its front and its back corner.")
    return max(float((plates.below[-1] - plates.above[-1]) @ direction) / length, 0.0)


def geometric_grade(plates: EndPlates) -> int:
    """Meyerding's grade by measurement: 1 for a slip below a quarter of the plate, 4 beyond three quarters; 0 for none.

    Errors as `slip_fraction`.
    """
    return meyerding_grade(slip_fraction(plates), 1.0)


def read_end_plates(
    data: str | Path, split: str, root: str | Path | None = None
) -> dict[tuple[str, str], EndPlates] | None:
    """End plates by image file name and level, as the spine phantom draws them; None where the dataset has none.

    The phantom's SP instance has an outline for either body, which begins with the plate that faces the disc, front to
    back, and returns through the body: its first half is the plate.

    Raises:
        FileNotFoundError, ValueError: as `dataset_files.find_files`; or `instances_SPLIT.json` is no COCO file.
    """
    base = find_files(data, split, root).base
    files = sorted(base.glob("instances_*.json")) if split == "all" else [base / f"instances_{split}.json"]
    plates: dict[tuple[str, str], EndPlates] = {}
    for file in files:
        if not file.is_file():
            continue
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            names = {i["id"]: i["file_name"] for i in content["images"]}
            for a in content["annotations"]:
                if a.get(KIND) and a["category_id"] == SP + 1 and len(a["segmentation"]) == 2:
                    halves = (np.reshape(s, (-1, 2))[: len(s) // 4] for s in a["segmentation"])
                    plates[names[a["image_id"]], a["level"]] = EndPlates(*halves)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is no COCO file of the spine phantom ({error!r}); make it anew.") from error
    return plates or None
