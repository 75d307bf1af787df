"""The two gradings as one kind of thing: what is read, what is measured, and what is reported beside.

Written for this project.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import share
from yolospine_ultra.evaluate.levels.assign import DISC_CLASSES
from yolospine_ultra.evaluate.matching import iou_matrix
from yolospine_ultra.grading import meyerding, pfirrmann
from yolospine_ultra.grading.boxes import GradedBoxes
from yolospine_ultra.grading.grade_report import grade_report
from yolospine_ultra.grading.hog_forest import FOLDS, TREES, Features, GradeModel, cross_validate, fit_model


@dataclass(frozen=True)
class Grading:
    """A grading.

    Attributes:
        name: "meyerding" or "pfirrmann".
        roman: how each grade is written.
        classes: names of the classes whose boxes it grades.
        features: kinds of feature there are.
        minimum: least probability of a grade that is given, unless the user says otherwise. Over five grades the
            forests' probabilities are flat: in cross-validation on spider-lumbar 0.35 grades 73% of the discs.
        read: boxes of a split (data, split, root, report).
        measure: features of boxes (files, boxes, kinds).
    """

    name: str
    roman: dict[int, str]
    classes: tuple[str, ...]
    features: tuple[str, ...]
    minimum: float
    read: Callable[..., GradedBoxes]
    measure: Callable[[Sequence[Path], np.ndarray, Sequence[str]], Features]


GRADINGS = {
    g.name: g
    for g in (
        Grading(
            meyerding.KIND,
            meyerding.ROMAN,
            (meyerding.SLIP_CLASS,),
            ("hog",),
            0.5,
            meyerding.slip_boxes,
            lambda files, boxes, kinds: meyerding.slip_features(files, boxes),
        ),
        Grading(
            pfirrmann.KIND,
            pfirrmann.ROMAN,
            DISC_CLASSES,
            pfirrmann.FEATURES,
            0.35,
            pfirrmann.disc_boxes,
            pfirrmann.disc_features,
        ),
    )
}


def fit_study(
    grading: Grading,
    boxes: GradedBoxes,
    kinds: Sequence[str],
    minimum: float,
    folds: int = FOLDS,
    seed: int = 0,
    trees: int = TREES,
) -> tuple[GradeModel, dict[str, Any], np.ndarray]:
    """Fit a model on boxes, and measure the way it is made by cross-validation on them.

    Args:
        grading: one of `GRADINGS`.
        boxes: with grades.
        kinds: kinds of feature.
        minimum: least probability of a grade that is given.
        folds, seed, trees: as in `cross_validate`.

    Returns:
        The model of all boxes, `grade_report` of the cross-validation, and its probabilities (N, G).

    Raises:
        ValueError: as `cross_validate`, or an image that cannot be read.
    """
    features = grading.measure(boxes.files, boxes.boxes, kinds)
    model = fit_model(grading.name, features, boxes.grades, seed, trees)
    found = cross_validate(grading.name, features, boxes.grades, boxes.patients, folds, seed, trees)
    report = grade_report(grading.name, boxes.grades, found, model.grades, boxes.patients.tolist(), minimum)
    report |= {"how": f"{folds}-fold cross-validation by patient, {' + '.join(kinds)}", "notes": []}
    for grade in model.grades:
        patients = len(set(boxes.patients[boxes.grades == grade]))
        if patients < folds:
            few = f"grade {grading.roman[grade]} has {patients} of {folds} patients needed for as many folds."
            report["notes"].append(few)
    return model, report, found


def evaluate_study(
    grading: Grading, model: GradeModel, boxes: GradedBoxes, minimum: float
) -> tuple[dict[str, Any], np.ndarray]:
    """`grade_report` of a model on other boxes than it was fitted on, and its probabilities (N, G).

    Raises:
        ValueError: an image that cannot be read, or features that the model was not fitted on.
    """
    found = model.probabilities(grading.measure(boxes.files, boxes.boxes, tuple(model.forests)))
    report = grade_report(grading.name, boxes.grades, found, model.grades, boxes.patients.tolist(), minimum)
    unseen = sorted(set(boxes.grades.tolist()) - set(model.grades))
    notes = [f"grade {grading.roman[g]} was not in the model's training boxes and is never given." for g in unseen]
    return report | {"how": f"a model of {' + '.join(model.forests)}", "notes": notes}, found


def beside_meyerding(boxes: GradedBoxes, plates: dict[tuple[str, str], meyerding.EndPlates] | None) -> dict[str, Any]:
    """What stands beside the accuracy of Meyerding grades: the paper's, and that of measured end plates.

    Returns:
        Shares by title; without `geometric` where no end plate is known.
    """
    made = {"paper, on its own images": share(*meyerding.PAPER)}
    known = [(plates or {}).get((Path(f).name, level)) for f, level in zip(boxes.files, boxes.levels, strict=True)]
    graded = [(meyerding.geometric_grade(p), g) for p, g in zip(known, boxes.grades, strict=True) if p is not None]
    if graded:
        made["geometric, true end plates"] = share(sum(a == b for a, b in graded), len(graded))
    return made


def at_predictions(
    grading: Grading, boxes: GradedBoxes, found: Sequence[ImageFindings], names: Sequence[str], iou: float = 0.5
) -> tuple[GradedBoxes, int]:
    """The true grades at predicted boxes, to measure grading after detection.

    Args:
        grading: whose classes count.
        boxes: labelled boxes.
        found: predictions that count.
        names: class names by index.
        iou: least IoU with the labelled box; the best box of any of the classes is taken.

    Returns:
        The boxes that were found, at their predicted places; and how many were not.

    Raises:
        ValueError: none was found.
    """
    wanted = [i for i, n in enumerate(names) if n in grading.classes]
    by_name = {Path(x.name).name: x.boxes[np.isin(x.classes, wanted)] for x in found}
    moved, hit = boxes.boxes.copy(), np.zeros(len(boxes), dtype=bool)
    for rows in boxes.by_image():
        predicted = by_name.get(Path(boxes.files[rows[0]]).name, np.zeros((0, 4)))
        overlap = iou_matrix(boxes.boxes[rows], predicted)
        hit[rows] = overlap.max(1, initial=0) >= iou
        if len(predicted):
            moved[rows] = predicted[overlap.argmax(1)]
    if not hit.any():
        raise ValueError(f"no prediction covers any of the {len(boxes)} graded boxes at IoU {iou:g}; lower --conf.")
    return replace(boxes.take(hit), boxes=moved[hit]), int((~hit).sum())
