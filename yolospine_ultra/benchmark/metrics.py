"""The one evaluation of every family: COCO average precision, and agreement of classes with background.

Sources: COCO detection evaluation (Lin et al. 2014), 101 recall points, at most 100 detections an image and class, by
faster-coco-eval; agreement as in `evaluate.validation.agreement`, recall of pairs as in `evaluate.overlap`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from yolospine_ultra.benchmark.equal_positives import RECALLS, drawn_recall, find_recalled, paper_rules, site_rules
from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import mean_defined
from yolospine_ultra.evaluate.overlap.pairs import pair_recall
from yolospine_ultra.evaluate.validation.agreement import IOU, agreement, confusion

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
    once = np.ones((1, len(truth)), dtype=np.int64)
    measured |= dict(zip(RECALLS, drawn_recall(find_recalled(truth, found, names), once)[0].tolist(), strict=True))
    classes = {
        name: {**dict(zip(AP_NAMES, map(float, precision[i]), strict=True)), "ground_truth": int(boxes[i])}
        for i, name in enumerate(names)
    }
    return Evaluation(measured, classes, matrix)


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


def _pairs(
    truth: Sequence[ImageFindings], found: Sequence[ImageFindings], names: Sequence[str], conf: float
) -> dict[str, float]:
    """Recall and precision of the paper's overlapping pairs, and recall of two labels on one site."""
    made = {}
    for name, rules, limit in (("pair", paper_rules(names), None), ("one_site", site_rules(len(names)), 0.0)):
        extra = {} if limit is None else {"tau_anat": limit}
        counts = list(pair_recall(truth, found, rules, IOU, conf, **extra).values()) if rules else []
        made[name] = sum(counts[1:], counts[0]) if counts else None
    nan = float("nan")
    return {
        "pair_recall": made["pair"].recall if made["pair"] else nan,
        "pair_precision": made["pair"].precision if made["pair"] else nan,
        "one_site_recall": made["one_site"].recall if made["one_site"] else nan,
    }
