"""Grades and disc levels of findings that have none yet: predictions, or the labels of a dataset.

Written for this project. Meyerding's grade is given to every SP box. Pfirrmann's is of a disc: several findings of one
disc are one, at the box that scores best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolospine_ultra.data.labels import Problem
from yolospine_ultra.evaluate.dataset_files import find_files
from yolospine_ultra.evaluate.findings import ImageFindings, Reporter, log_problem
from yolospine_ultra.evaluate.levels.assign import DISC_CLASSES, assign_levels
from yolospine_ultra.evaluate.levels.spine_curve import find_places
from yolospine_ultra.grading.boxes import read_boxes
from yolospine_ultra.grading.crops import plane_height
from yolospine_ultra.grading.hog_forest import GradeModel
from yolospine_ultra.grading.kinds import Grading


def image_files(data: str | Path, split: str, root: str | Path | None = None) -> dict[str, Path]:
    """The file of each image by the name that `read_dataset` gives it; errors as `dataset_files.find_files`."""
    found = find_files(data, split, root)
    return dict(zip(found.image_names(), found.images, strict=True))


def t1_images(data: str | Path, split: str, root: str | Path | None, report: Reporter = log_problem) -> set[str]:
    """File names of the images that `annotations.csv` calls T1, on which Pfirrmann's scale is not defined.

    Where the dataset does not tell sequences, that is reported, and none is T1.
    """
    try:
        boxes = read_boxes(data, split, None, root, report=lambda problem: None)
    except (FileNotFoundError, ValueError):
        boxes = None
    if boxes is None or not any(boxes.sequences):
        report(Problem("annotations.csv", "sequence", "the images' sequence is unknown; all are taken for T2"))
        return set()
    return {f.name for f, s in zip(boxes.files, boxes.sequences, strict=True) if s.lower().startswith("t1")}


def grade_findings(
    grading: Grading,
    model: GradeModel,
    images: Sequence[ImageFindings],
    names: Sequence[str],
    files: Mapping[str, Path],
    minimum: float,
) -> list[dict[str, Any]]:
    """Grade the findings of images.

    Args:
        grading: one of `GRADINGS`.
        model: of that grading.
        images: findings, labelled or predicted; of predictions those that count.
        names: class names by index.
        files: image file by `ImageFindings.name`.
        minimum: least probability of a grade that is given.

    Returns:
        One row a graded box: image, class, box, score (None for labels), level, grade (None where the model abstains),
        and probabilities by grade.

    Raises:
        ValueError: an image that cannot be read, or names without the grading's classes.
    """
    wanted = [i for i, n in enumerate(names) if n in grading.classes]
    if not wanted:
        raise ValueError(f"the classes {', '.join(names)} have none of {', '.join(grading.classes)}.")
    rows: list[dict[str, Any]] = []
    for image in images:
        chosen = np.flatnonzero(np.isin(image.classes, wanted))
        if grading.classes == DISC_CLASSES and len(chosen):
            chosen = _one_a_disc(image, chosen)
        if not len(chosen):
            continue
        chosen = chosen[np.argsort(image.boxes[chosen, 1], kind="stable")]  # from the head down
        file = files[image.name]
        levels = assign_levels(image, names, plane_height(file)).levels
        features = grading.measure([file] * len(chosen), image.boxes[chosen], tuple(model.forests))
        for i, p in zip(chosen, model.probabilities(features), strict=True):
            rows.append(_row(image, int(i), names, levels[i], model, p, minimum))
    return rows


def _one_a_disc(image: ImageFindings, chosen: np.ndarray) -> np.ndarray:
    """Of each place the finding that scores best, the first of labels; boxes beside the spine are left out."""
    place = find_places(image.boxes[chosen])
    score = np.zeros(len(chosen)) if image.scores is None else image.scores[chosen]
    order = np.lexsort((np.arange(len(chosen)), -score))
    order = order[place[order] >= 0]
    return chosen[np.sort(order[np.unique(place[order], return_index=True)[1]])]


def _row(
    image: ImageFindings,
    finding: int,
    names: Sequence[str],
    level: str | None,
    model: GradeModel,
    probabilities: np.ndarray,
    minimum: float,
) -> dict[str, Any]:
    """One graded box as plain data."""
    best = int(probabilities.argmax())
    return {
        "image": image.name,
        "class": names[image.classes[finding]],
        "box": [float(v) for v in image.boxes[finding]],
        "score": None if image.scores is None else float(image.scores[finding]),
        "level": level,
        "grade": model.grades[best] if probabilities[best] >= minimum else None,
        "probabilities": {str(g): float(p) for g, p in zip(model.grades, probabilities, strict=True)},
    }


def format_grades(rows: Sequence[Mapping[str, Any]], roman: Mapping[int, str]) -> str:
    """Graded boxes as text, a line each under their image."""
    lines, image = [], None
    for row in rows:
        if row["image"] != image:
            image = row["image"]
            lines.append(image)
        grade = f"grade {roman[row['grade']]}" if row["grade"] else "no grade"
        best = max(row["probabilities"].values())
        lines.append(f"  {row['level'] or 'no level':8} {row['class']:5} {grade} (probability {best:.2f})")
    return "\n".join(lines) if lines else "nothing to grade: no finding of these classes"
