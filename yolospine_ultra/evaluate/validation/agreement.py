"""Agreement of predicted with labelled classes: the confusion matrix with background, and the numbers made from it.

Source: YOLOspine (Masood and Taj 2026), "External Dataset": accuracy, macro and weighted F1, Cohen's kappa (1960), the
multi-class Matthews correlation (Gorodkin 2004). The paper's table has matched boxes only; here what was missed and
what is false count too, as pairs with background, and the matched-only numbers stand beside them under names of their
own. The numbers are those of scikit-learn, which a test checks; written for many matrices at once, because a bootstrap
needs thousands and scikit-learn takes milliseconds for each number of each.

Several labels on one site: a disc with two findings is two boxes of ground truth, and a detector that gives both is
right twice. Therefore boxes are first matched within their class (one to one, best score first, IoU >= .5) and only
what is left over is matched across classes: a wrong label cannot take the partner of a right one that scores less. A
box that says again what another of its class has rightly said of a site is false, not a wrong label of a second finding
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.matching import iou_matrix, match_by_class

IOU = 0.5  # least of a match
SCORES = ("accuracy", "macro_f1", "weighted_f1", "kappa", "mcc")


def confusion(truth: ImageFindings, found: ImageFindings, nc: int, iou: float = IOU) -> np.ndarray:
    """Confusion matrix of an image with background.

    Args:
        truth: labelled findings.
        found: findings with scores, all of which count.
        nc: number of classes.
        iou: least IoU of a match, above 0 and at most 1.

    Returns:
        (nc + 1, nc + 1) int64 counts, row = truth, column = prediction, the last of each = background. The cell of
        background with background is 0: what is neither labelled nor predicted cannot be counted.

    Raises:
        ValueError: `found` has no scores, or `iou` is out of range.
    """
    partner = match_by_class(truth, found, iou)
    left_truth = np.flatnonzero(partner < 0)
    left_found = np.setdiff1d(np.arange(len(found)), partner)
    said = (iou_matrix(truth.boxes, found.boxes) >= iou) & (truth.classes[:, None] == found.classes)
    left_found = left_found[~said[partner >= 0][:, left_found].any(0)]
    rest = match_by_class(_any_class(truth, left_truth), _any_class(found, left_found), iou)
    partner[left_truth] = np.where(rest >= 0, left_found[rest] if len(left_found) else -1, -1)
    matrix = np.zeros((nc + 1, nc + 1), dtype=np.int64)
    predicted = np.append(found.classes, nc)[partner]  # -1, no partner, is the last: background
    np.add.at(matrix, (truth.classes, predicted), 1)
    np.add.at(matrix, (nc, found.classes[np.setdiff1d(np.arange(len(found)), partner)]), 1)
    return matrix


def _any_class(image: ImageFindings, keep: np.ndarray) -> ImageFindings:
    """Some of an image's findings, all of one class."""
    scores = None if image.scores is None else image.scores[keep]
    return replace(image, boxes=image.boxes[keep], classes=np.zeros(len(keep), dtype=np.int64), scores=scores)


def confusions(truth: Sequence[ImageFindings], found: Sequence[ImageFindings], nc: int, iou: float = IOU) -> np.ndarray:
    """`confusion` of each of I images: (I, nc + 1, nc + 1); the sum over the first axis is that of all.

    Raises:
        ValueError: as `confusion`; other images, or images in another order, in `found`; a class of `nc` or more.
    """
    if [x.name for x in truth] != [x.name for x in found]:
        raise ValueError("findings are of other images than the ground truth, or in another order.")
    beyond = [x for x in (*truth, *found) if len(x) and x.classes.max() >= nc]
    if beyond:
        raise ValueError(f"{beyond[0].name} has a finding of class {beyond[0].classes.max()}, expected 0 to {nc - 1}.")
    each = [confusion(t, f, nc, iou) for t, f in zip(truth, found, strict=True)]
    return np.array(each, dtype=np.int64).reshape(-1, nc + 1, nc + 1)


def agreement(matrix: np.ndarray) -> dict[str, float]:
    """Accuracy, F1, kappa and MCC of a confusion matrix with background, and of its matched part alone.

    Background is a class of accuracy, kappa and MCC. The F1 are averaged over the classes that have ground truth;
    background, which nobody labels, is none of them, but what is missed or false lowers recall and precision of its
    class. A class of which nothing is matched has an F1 of 0 in the matched part too: leaving it out would reward
    missing all of a class over confusing it.

    Args:
        matrix: (C + 1, C + 1), as of `confusion`.

    Returns:
        accuracy, macro_f1, weighted_f1, kappa, mcc; and each with `matched_` before it. NaN without any label.
    """
    return {k: float(v) for k, v in agreements(np.asarray(matrix)).items()}


def agreements(matrices: np.ndarray, classes: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """`agreement` of many matrices: for (..., C + 1, C + 1) the same names with (...) values each.

    Args:
        matrices: as of `confusion`.
        classes: (C,) bool, the classes that F1 is averaged over, those with ground truth in the whole of what is
            resampled: macro F1 of a resample without one of them would be of other classes, and is NaN. None: of each
            matrix those that have ground truth in it.
    """
    own = matrices[..., :-1, :].sum(-1) > 0
    averaged = own if classes is None else np.broadcast_to(classes, own.shape)
    matched = matrices.copy()
    matched[..., -1, :], matched[..., -1] = 0, 0
    made = _scores(matrices, averaged) | {f"matched_{k}": v for k, v in _scores(matched, averaged).items()}
    lacking = (averaged & ~own).any(-1)
    return made | {k: np.where(lacking, np.nan, made[k]) for k in ("macro_f1", "matched_macro_f1")}


def _scores(matrices: np.ndarray, averaged: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of matrices (..., K, K), the last class background, macro F1 over `averaged` (..., K - 1)."""
    counts = matrices.astype(np.float64)
    rows, columns, hits = counts.sum(-1), counts.sum(-2), np.diagonal(counts, axis1=-2, axis2=-1)
    support, n, right = rows[..., :-1], rows.sum(-1), hits.sum(-1)
    chance = (rows * columns).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is NaN, as meant
        f1 = 2 * hits[..., :-1] / (support + columns[..., :-1])
        f1 = np.where(support > 0, f1, 0.0)
        spread = (n**2 - (rows**2).sum(-1)) * (n**2 - (columns**2).sum(-1))
        values = (
            right / n,
            (f1 * averaged).sum(-1) / averaged.sum(-1),
            (f1 * support).sum(-1) / support.sum(-1),
            1 - (1 - right / n) / (1 - chance / n**2),
            np.where(spread > 0, (right * n - chance) / np.sqrt(np.where(spread > 0, spread, 1)), 0.0),
        )
    labelled = support.sum(-1) > 0
    return {k: np.where(labelled, v, np.nan) for k, v in zip(SCORES, values, strict=True)}


def class_scores(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and support of each class, what is missed or false included.

    Args:
        matrix: (C + 1, C + 1), as of `confusion`.

    Returns:
        precision, recall, f1: (C,) in 0..1, NaN where a class is never predicted (precision) or never labelled
        (recall, F1); support: (C,) int64, number of labels. The mean of F1 is macro F1.
    """
    hits, labelled, predicted = np.diagonal(matrix)[:-1], matrix.sum(1)[:-1], matrix.sum(0)[:-1]
    with np.errstate(invalid="ignore"):
        f1 = np.where(labelled > 0, 2 * hits / (labelled + predicted), np.nan)
        return {"precision": hits / predicted, "recall": hits / labelled, "f1": f1, "support": labelled}
