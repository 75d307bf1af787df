"""What one rater, a model or a reader, made of the images: the one table that all raters are shown in.

Written for this project, from `agreement` (boxes and their classes) and `rates` (sensitivity and specificity).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import or_none, percentile_interval
from yolospine_ultra.evaluate.text import bounds, number, table
from yolospine_ultra.evaluate.validation.agreement import SCORES, agreement, agreements, class_scores, confusions
from yolospine_ultra.evaluate.validation.rates import (
    AVERAGES,
    KINDS,
    Counts,
    count_boxes,
    count_images,
    presence,
    rate_table,
)

LEVELS = {"box_level": "Boxes, one class against the rest", "image_level": "Images, class present or not"}


def average_label(how: str) -> str:
    """How a row of "macro" or "count_weighted" is called."""
    return f"all, {how.replace('_', '-')}"


@dataclass(frozen=True, eq=False)
class Rating:
    """One rater's counts, image by image.

    Attributes:
        matrices: (I, C + 1, C + 1) confusion with background; None for a rater who gave no boxes.
        images: (I, C) counts of classes called present.
    """

    matrices: np.ndarray | None
    images: Counts

    def levels(self) -> dict[str, Counts]:
        """(I, C) counts of sensitivity and specificity at each level that the rater can be measured at."""
        boxes = {} if self.matrices is None else {"box_level": count_boxes(self.matrices)}
        return boxes | {"image_level": self.images}


def rate_findings(truth: Sequence[ImageFindings], found: Sequence[ImageFindings], nc: int, iou: float) -> Rating:
    """Rate boxes with scores; arguments and errors as in `agreement.confusions`."""
    return Rating(confusions(truth, found, nc, iou), count_images(presence(truth, nc), presence(found, nc)))


def rating_table(rating: Rating, names: Sequence[str], weights: np.ndarray) -> dict[str, Any]:
    """A rater's numbers as values that JSON can hold.

    Args:
        rating: of I images.
        names: of the C classes.
        weights: (B, I) of the bootstrap over patients (`intervals.draw_patients`).

    Returns:
        image_level: `rates.rate_table` of classes called present; and for a rater with boxes also
        box_level: the same of boxes;
        agreement: accuracy, macro_f1, weighted_f1, kappa, mcc with background as a class, each a `value` and its
            interval over `patients`;
        matched_only: the same over matched boxes alone, which does not see what is missed or false;
        classes: precision, recall, f1, support of each class;
        confusion: `classes`, background the last, and `counts`, row = truth.
    """
    made = {level: rate_table(counts, names, weights) for level, counts in rating.levels().items()}
    if rating.matrices is None:
        return made
    matrix = rating.matrices.sum(0)
    labelled = matrix[:-1].sum(1) > 0
    value, drawn = agreement(matrix), agreements(np.tensordot(weights, rating.matrices, 1), labelled)
    both = {k: {"value": or_none(v), "patients": percentile_interval(drawn[k])} for k, v in value.items()}
    scores = class_scores(matrix)
    return made | {
        "agreement": {k: both[k] for k in SCORES},
        "matched_only": {k: both[f"matched_{k}"] for k in SCORES},
        "classes": {
            name: {k: int(v[i]) if k == "support" else or_none(v[i]) for k, v in scores.items()}
            for i, name in enumerate(names)
        },
        "confusion": {"classes": [*names, "background"], "counts": matrix.tolist()},
    }


def format_rating(rated: Mapping[str, Any]) -> str:
    """The dictionary of `rating_table` as text for a terminal."""
    parts = [_format_agreement(rated), _format_classes(rated)] if "agreement" in rated else []
    parts += [_format_rates(rated[level], title) for level, title in LEVELS.items() if level in rated]
    return "\n\n".join(parts)


def _format_agreement(rated: Mapping[str, Any]) -> str:
    head = ["", *SCORES]
    rows = [head]
    for key, title in (("agreement", "with background"), ("matched_only", "matched boxes only")):
        scores = [rated[key][k] for k in SCORES]
        rows.append([title, *(number(s["value"]) for s in scores)])
        rows.append(["  95%, patients", *(bounds(s["patients"], 2) for s in scores)])
    return f"Agreement (missed and false boxes are pairs with background; matched only leaves them out)\n{table(rows)}"


def _format_classes(rated: Mapping[str, Any]) -> str:
    rows = [["class", "precision", "recall", "F1", "labels", "predicted"]]
    for i, (name, c) in enumerate(rated["classes"].items()):
        predicted = sum(row[i] for row in rated["confusion"]["counts"])
        rows.append([name, *(number(c[k]) for k in ("precision", "recall", "f1")), str(c["support"]), str(predicted)])
    return f"Classes\n{table(rows)}"


def _format_rates(rates: Mapping[str, Any], title: str) -> str:
    rows = [["class", *(x for kind in KINDS for x in (kind, "of", "95% Wilson", "95% patients"))]]
    averages = {average_label(how): rates[how] for how in AVERAGES}
    for name, row in {**rates["classes"], **averages}.items():
        cells = []
        for kind in KINDS:
            r = row[kind]
            wilson = bounds(r["interval"]) if "interval" in r else "-"
            cells += [number(r["value"]), str(r.get("trials", "")), wilson, bounds(r["patients"])]
        rows.append([name, *cells])
    return f"{title}\n{table(rows)}"
