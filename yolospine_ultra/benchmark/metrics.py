"""The one evaluation of every family: COCO average precision, and agreement of classes with background.

Sources: COCO detection evaluation (Lin et al. 2014), 101 recall points, at most 100 detections an image and class, by
faster-coco-eval; accuracy, F1, kappa and MCC by scikit-learn, as in YOLOspine (Masood and Taj 2026), "External
Dataset". The paper's table has matched boxes only; here what was missed and what is false count too, as pairs with
background, and the matched-only numbers stand beside them under names of their own.

Several labels on one site: a disc with two findings is two boxes of ground truth, and a detector that gives both is
right twice. Therefore boxes are first matched within their class (one to one, best score first, IoU >= .5) and only
what is left over is matched across classes: a wrong label cannot take the partner of a right one that scores less.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn import metrics as sk

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.matching import match_by_class
from yolospine_ultra.evaluate.overlap import PAPER_RULES, pair_recall, rules_by_class

IOU = 0.5  # least of a match in the confusion matrix and in pairs
ONE_SITE = 0.5  # least IoU of two labels that mean one site
AP_NAMES = ("map50_95", "map75", "map50")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is measured of a detector's findings.

    Attributes:
        metrics: as in `records.Record`, NaN where something is not defined.
        classes: as in `records.Record`.
        confusion: (C + 1, C + 1) int64, row = truth, column = prediction, the last of each = background.
    """

    metrics: dict[str, float]
    classes: dict[str, dict[str, float | int]]
    confusion: np.ndarray


def evaluate(
    truth: Sequence[ImageFindings], found: Sequence[ImageFindings], names: Sequence[str], conf: float
) -> Evaluation:
    """Measure findings against ground truth.

    Args:
        truth: labelled findings of each image.
        found: findings with scores of the same images in the same order.
        names: class names by index.
        conf: least score for everything but average precision.

    Raises:
        ValueError: other images, a class that has no name, or no scores.
        ImportError: faster-coco-eval is missing.
    """
    if [x.name for x in truth] != [x.name for x in found]:
        raise ValueError("findings are of other images than the ground truth, or in another order.")
    if any(len(x) and x.classes.max() >= len(names) for x in (*truth, *found)):
        raise ValueError(f"a finding has a class beyond the {len(names)} of the data.")
    precision = average_precision(truth, found, len(names))
    boxes = np.bincount(np.concatenate([x.classes for x in truth]), minlength=len(names))
    matrix = sum((confusion(t, f.above(conf), len(names)) for t, f in zip(truth, found, strict=True)))
    measured = dict(zip(AP_NAMES, mean_defined(precision).tolist(), strict=True))
    measured |= agreement(matrix)
    measured |= _pairs(truth, found, names, conf)
    classes = {
        name: {**dict(zip(AP_NAMES, map(float, precision[i]), strict=True)), "ground_truth": int(boxes[i])}
        for i, name in enumerate(names)
    }
    return Evaluation(measured, classes, matrix)


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean of (N, ...) over the first axis without NaN, such as classes that have ground truth; NaN of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is NaN, as meant
        return np.nanmean(values, axis=0)


def average_precision(truth: Sequence[ImageFindings], found: Sequence[ImageFindings], nc: int) -> np.ndarray:
    """COCO average precision of each class.

    Args:
        truth, found: as in `evaluate`.
        nc: number of classes.

    Returns:
        (C, 3): at IoU .50:.05:.95, at .75, at .50; NaN for classes without ground truth.

    Raises:
        ImportError: faster-coco-eval is missing.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise ImportError("Evaluation needs faster-coco-eval: pip install 'yolospine_ultra[bench]'") from error
    reference = COCO(to_coco(truth, nc))
    study = COCOeval_faster(reference, reference.loadRes(to_coco_results(found)), "bbox", print_function=_silent)
    study.evaluate()
    study.accumulate()
    table = study.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class; all sizes, 100 detections
    table = np.where(table < 0, np.nan, table).mean(1)  # -1 marks classes without ground truth, at every recall
    return np.stack([table.mean(0), table[5], table[0]], 1)


def _silent(*_: object) -> None:
    """Print nothing."""


def to_coco(truth: Sequence[ImageFindings], nc: int) -> dict:
    """COCO dataset of labelled findings; ids of images and categories count from 1 in their order."""
    boxes = [(i, c, _xywh(b)) for i, x in enumerate(truth, 1) for c, b in zip(x.classes, x.boxes, strict=True)]
    return {
        "info": {},
        "images": [{"id": i, "file_name": x.name} for i, x in enumerate(truth, 1)],
        "categories": [{"id": c, "name": str(c)} for c in range(1, nc + 1)],
        "annotations": [
            {"id": k, "image_id": i, "category_id": int(c) + 1, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for k, (i, c, b) in enumerate(boxes, 1)
        ],
    }


def to_coco_results(found: Sequence[ImageFindings]) -> list[dict]:
    """COCO detections of findings with scores, with the ids of `to_coco`."""
    return [
        {"image_id": i, "file_name": x.name, "category_id": int(c) + 1, "bbox": _xywh(b), "score": float(s)}
        for i, x in enumerate(found, 1)
        for c, b, s in zip(x.classes, x.boxes, x.scores, strict=True)
    ]


def _xywh(box: np.ndarray) -> list[float]:
    """Left, top, width, height of x1 y1 x2 y2."""
    x1, y1, x2, y2 = box.tolist()
    return [x1, y1, x2 - x1, y2 - y1]


def confusion(truth: ImageFindings, found: ImageFindings, nc: int) -> np.ndarray:
    """Confusion matrix of an image with background.

    Args:
        truth: labelled findings.
        found: findings with scores, all of which count.
        nc: number of classes.

    Returns:
        (nc + 1, nc + 1) int64 counts, row = truth, column = prediction, the last of each = background.
    """
    partner = match_by_class(truth, found, IOU)
    left_truth = np.flatnonzero(partner < 0)
    left_found = np.setdiff1d(np.arange(len(found)), partner)
    rest = match_by_class(_any_class(truth, left_truth), _any_class(found, left_found), IOU)
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


def agreement(matrix: np.ndarray) -> dict[str, float]:
    """Accuracy, F1, kappa and MCC of a confusion matrix with background, and of its matched part alone.

    The F1 are averaged over the classes that have ground truth; background, which nobody labels, is none of them, but
    what is missed or false lowers recall and precision of its class.

    Args:
        matrix: (C + 1, C + 1), as of `confusion`.

    Returns:
        accuracy, macro_f1, weighted_f1, kappa, mcc; and each with `matched_` before it. NaN without any pair.
    """
    nc = len(matrix) - 1
    matched = matrix.copy()
    matched[nc], matched[:, nc] = 0, 0
    labelled = np.flatnonzero(matrix[:nc].sum(1))
    made = _scores(matrix, labelled)
    return made | {f"matched_{k}": v for k, v in _scores(matched, np.flatnonzero(matched[:nc].sum(1))).items()}


def _scores(matrix: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Scores of a matrix of counts; F1 over `classes`."""
    keys = ("accuracy", "macro_f1", "weighted_f1", "kappa", "mcc")
    if not matrix.sum() or not len(classes):
        return dict.fromkeys(keys, float("nan"))
    cells = [a.ravel() for a in np.indices(matrix.shape)]
    kept = matrix.ravel() > 0
    true, guess, weight = cells[0][kept], cells[1][kept], matrix.ravel()[kept]
    f1 = {"sample_weight": weight, "labels": classes, "zero_division": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kappa of a single label: 0 / 0 is NaN, as meant
        values = (
            sk.accuracy_score(true, guess, sample_weight=weight),
            sk.f1_score(true, guess, average="macro", **f1),
            sk.f1_score(true, guess, average="weighted", **f1),
            sk.cohen_kappa_score(true, guess, sample_weight=weight),
            sk.matthews_corrcoef(true, guess, sample_weight=weight),
        )
    return dict(zip(keys, map(float, values), strict=True))


def _pairs(
    truth: Sequence[ImageFindings], found: Sequence[ImageFindings], names: Sequence[str], conf: float
) -> dict[str, float]:
    """Recall and precision of the paper's overlapping pairs, and recall of two labels on one site."""
    paper = rules_by_class({p: t for p, t in PAPER_RULES.items() if set(p) <= set(names)}, names)
    site = {(a, b): ONE_SITE for b in range(len(names)) for a in range(b)}
    made = {}
    for name, rules, limit in (("pair", paper, None), ("one_site", site, 0.0)):
        extra = {} if limit is None else {"tau_anat": limit}
        counts = list(pair_recall(truth, found, rules, IOU, conf, **extra).values()) if rules else []
        made[name] = sum(counts[1:], counts[0]) if counts else None
    nan = float("nan")
    return {
        "pair_recall": made["pair"].recall if made["pair"] else nan,
        "pair_precision": made["pair"].precision if made["pair"] else nan,
        "one_site_recall": made["one_site"].recall if made["one_site"] else nan,
    }
