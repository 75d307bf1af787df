"""Pfirrmann's grade of a disc, I (healthy) to V (collapsed), from the box's pixels on a T2 image.

Source of the scale: Pfirrmann et al. 2001 (Spine 26:1873). The way is that of the paper's Meyerding step, HOG and a
random forest (`hog_forest`), with a second forest over what a radiologist looks at (`signal`), which alone is far
better than HOG alone in cross-validation on spider-lumbar's training patients: `grade.py pfirrmann fit --features`
shows each. Grades are of the whole disc, boxes show one slice of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from yolospine_ultra.data.labels import Problem
from yolospine_ultra.evaluate.findings import Reporter, log_problem
from yolospine_ultra.evaluate.levels.assign import DISC_CLASSES
from yolospine_ultra.grading.boxes import GradedBoxes, read_boxes
from yolospine_ultra.grading.crops import crop, read_plane
from yolospine_ultra.grading.hog_forest import Features, hog_features
from yolospine_ultra.grading.signal import signal_features

KIND = "pfirrmann"
GRADES = (1, 2, 3, 4, 5)
ROMAN = {1: "I", 2: "II", 3: "III", 4: "IV", 5: "V"}
FEATURES = ("hog", "signal")


def disc_boxes(
    data: str | Path, split: str, root: str | Path | None = None, report: Reporter = log_problem
) -> GradedBoxes:
    """The graded discs of a split's T2 images, one box a disc.

    Rows of T1 images are left out: the scale is defined on T2. Without a column `sequence` all images are taken for T2,
    which is reported. Of a disc's several boxes (a row a finding) the first that is drawn around the disc is taken.

    Args, Raises: as `boxes.read_boxes`; ValueError also where only T1 images have grades.
    """
    found = read_boxes(data, split, KIND, root, GRADES, report)
    if not any(found.sequences):
        report(Problem("annotations.csv", "sequence", "no column sequence; all images are taken for T2"))
    disc = np.array([bool(set(c) & set(DISC_CLASSES)) for c in found.classes])
    found = found.take(disc & ~np.array([s.lower().startswith("t1") for s in found.sequences]))
    if not len(found):
        raise ValueError(f"no disc on a T2 image has a Pfirrmann grade in split {split!r}; expected some.")
    disc = zip(found.files, found.levels, found.boxes, strict=True)
    where = [f"{file}|{level or box}" for file, level, box in disc]
    return found.take(np.sort(np.unique(where, return_index=True)[1]))


def disc_features(files: Sequence[Path], boxes: np.ndarray, kinds: Sequence[str] = FEATURES) -> Features:
    """Features of discs.

    Args:
        files: (N,) image of each disc.
        boxes: (N, 4) x1 y1 x2 y2 in pixels, one a disc; those of one image are compared with each other.
        kinds: of `FEATURES`.

    Returns:
        "hog": (N, 8100) and "signal": (N, 11), those of `kinds`.

    Raises:
        ValueError: an image cannot be read, or an unknown kind.
    """
    if not kinds or set(kinds) - set(FEATURES):
        raise ValueError(f"features {', '.join(kinds) or 'none'}: choose of {', '.join(FEATURES)}.")
    names = np.array([str(f) for f in files])
    crops: dict[int, np.ndarray] = {}
    signal = np.zeros((len(files), 11))
    for name in dict.fromkeys(names.tolist()):
        rows = np.flatnonzero(names == name)
        plane = read_plane(name)
        signal[rows] = signal_features(plane, boxes[rows])
        if "hog" in kinds:
            crops |= {int(i): crop(plane, boxes[i]) for i in rows}
    made = {"signal": signal}
    if "hog" in kinds:
        made["hog"] = hog_features([crops[i] for i in range(len(files))]).reshape(-1, 8100)
    return {k: made[k] for k in kinds}
