"""The one evaluation of every family: COCO average precision, and agreement of classes with background.

Sources: COCO detection evaluation (Lin et al. 2014), 101 recall points, at most 100 detections an image and class, by
faster-coco-eval; agreement as in `evaluate.validation.agreement`, recall of pairs as in `evaluate.overlap`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.overlap.pairs import PAPER_RULES, pair_recall, rules_by_class
from yolospine_ultra.evaluate.validation.agreement import IOU, agreement, confusion
from yolospine_ultra.evaluate.validation.froc import pool, rank
from yolospine_ultra.evaluate.validation.operating_points import Criterion, choose_threshold

ONE_SITE = 0.5  # least IoU of two labels that mean one site
# false boxes an image, of all classes together, that every detector is given when recall of pairs is compared: at one
# score for all, the detector that gives higher scores finds more of everything, right and false
EQUAL = Criterion(1.0)
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
    measured |= _at_equal_false_positives(truth, found, names)
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


def _at_equal_false_positives(
    truth: Sequence[ImageFindings], found: Sequence[ImageFindings], names: Sequence[str]
) -> dict[str, float]:
    """Recall of findings and of pairs at the least score with at most `EQUAL` false positives an image."""
    chosen = choose_threshold(pool(rank(truth, found, len(names), IOU)), EQUAL, default=1.0)
    pairs = _pairs(truth, found, names, chosen["threshold"])
    labels = chosen["tp"] + chosen["fn"]
    return {
        "recall_fp1": chosen["tp"] / labels if labels else float("nan"),
        **{f"{k}_fp1": pairs[k] for k in ("pair_recall", "one_site_recall")},
    }


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
