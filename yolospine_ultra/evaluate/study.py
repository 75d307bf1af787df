"""What a study of predictions starts from: labels and predictions of the same images, of the classes that were graded.

Written for this project. A class that nobody graded in a set, such as SS in spider-lumbar, has no labels there, but its
absence is not a negative: it is left out of labels and predictions alike before anything is matched.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolospine_ultra.evaluate.findings import ImageFindings, Reporter, log_problem, read_dataset, read_predictions


@dataclass(frozen=True, eq=False)
class Study:
    """Labels and predictions of the same images in the same order.

    Attributes:
        truth: labelled findings.
        found: findings with scores.
        names: class names by index.
        notes: sentences on what was left out.
    """

    truth: list[ImageFindings]
    found: list[ImageFindings]
    names: list[str]
    notes: list[str]


def read_study(
    data: str | Path,
    split: str,
    root: str | Path | None,
    predictions: str | Path,
    ungraded: Collection[str] = (),
    first_category: int = 1,
    report: Reporter = log_problem,
) -> Study:
    """Read labels and predictions.

    Args:
        data, split, root: as in `findings.read_dataset`.
        predictions, first_category: as in `findings.read_predictions`.
        ungraded: names of classes that nobody graded in these images.
        report: called with every `Problem`.

    Raises:
        FileNotFoundError, ImportError: as both of these.
        ValueError: as both of these; an ungraded class that is unknown or has labels, or no class that is left.
    """
    truth, names = read_dataset(data, split, root, report)
    found = read_predictions(predictions, truth, len(names), report, first_category)
    if not ungraded:
        return Study(truth, found, names, [])
    truth, labels = leave_out(truth, names, ungraded)
    if labels:
        raise ValueError(f"{labels} labels are of {', '.join(ungraded)}: graded here, so that it cannot be left out.")
    found, lost = leave_out(found, names, ungraded)
    note = f"Left out as not graded here: {', '.join(ungraded)}, {lost} predictions of any score."
    return Study(truth, found, [n for n in names if n not in ungraded], [note])


def leave_out(
    images: Sequence[ImageFindings], names: Sequence[str], ungraded: Collection[str]
) -> tuple[list[ImageFindings], int]:
    """Leave the findings of some classes out.

    Args:
        images: findings, labelled or predicted.
        names: class names by index.
        ungraded: names of the classes.

    Returns:
        The findings of the other classes, which are numbered anew in the order of `names`; and how many were left out.

    Raises:
        ValueError: a name that `names` does not have, or no class that is left.
    """
    unknown = [n for n in ungraded if n not in names]
    if unknown or not set(names) - set(ungraded):
        what = f"class {unknown[0]!r} is unknown" if unknown else "no class is left"
        raise ValueError(f"not graded: {what}; the classes are {', '.join(names)}.")
    kept = np.array([n not in ungraded for n in names])
    index, made, lost = np.cumsum(kept) - 1, [], 0
    for x in images:
        keep = kept[x.classes]
        scores = None if x.scores is None else x.scores[keep]
        made.append(ImageFindings(x.name, x.boxes[keep], index[x.classes[keep]], scores))
        lost += int((~keep).sum())
    return made, lost
