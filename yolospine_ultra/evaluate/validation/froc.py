"""FROC: sensitivity against false positives an image, as the least score of a prediction falls.

Source: the LUNA16 challenge (Setio et al. 2017, Medical Image Analysis 42:1-13): every score is a threshold, (0, 0) is
joined to the first point, points are joined by lines, and the summary is the mean sensitivity at 1/8, 1/4, 1/2, 1, 2,
4 and 8 false positives a scan; its interval is a bootstrap over scans, here over patients. A scan is an image here.

A prediction is right if it is matched with a label of its class (`matching.match_by_class`); every other one is a false
positive, also where it stands on a label of another class. Matching takes the best score first, so that the matches at
a threshold are those at a lower one whose scores reach it: boxes are matched once. Beyond the last point, where the
predictions end, the sensitivity stays what it is; `reached` says where that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import or_none, percentile_interval
from yolospine_ultra.evaluate.matching import match_by_class

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # false positives an image
_CELLS = 2_000_000  # of resamples x predictions at a time, for the memory


@dataclass(frozen=True, eq=False)
class Ranked:
    """Predictions of one class, or of several, in I images, best score first.

    Attributes:
        scores: (D,) in 0..1, falling.
        right: (D,) bool, whether each is matched with a label of its class.
        image: (D,) index of its image.
        labels: (I,) int64, number of labels in each image.
    """

    scores: np.ndarray
    right: np.ndarray
    image: np.ndarray
    labels: np.ndarray

    def ends(self) -> np.ndarray:
        """(P,) index of the last prediction of each distinct score: what a threshold takes in, it takes in whole."""
        return np.flatnonzero(np.diff(self.scores, append=-1.0))

    def counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Thresholds, falling, and how many predictions at or above each are right, and how many false: (P,) each."""
        ends = self.ends()
        right = np.cumsum(self.right)[ends]
        return self.scores[ends], right, ends + 1 - right


def rank(truth: Sequence[ImageFindings], found: Sequence[ImageFindings], nc: int, iou: float) -> list[Ranked]:
    """Match predictions with labels and put those of each class in order.

    Args:
        truth: labelled findings of I images.
        found: findings with scores of the same images in the same order.
        nc: number of classes.
        iou: least IoU of a match, above 0 and at most 1.

    Raises:
        ValueError: `found` has no scores, or `iou` is out of range.
    """
    return rank_matched(truth, found, [match_by_class(t, f, iou) for t, f in zip(truth, found, strict=True)], nc)


def rank_matched(
    truth: Sequence[ImageFindings], found: Sequence[ImageFindings], partners: Sequence[np.ndarray], nc: int
) -> list[Ranked]:
    """As `rank`, with the partners that `match_by_class` gave for each image."""
    right = np.concatenate([np.isin(np.arange(len(f)), p) for f, p in zip(found, partners, strict=True)])
    image = np.repeat(np.arange(len(found)), [len(f) for f in found])
    classes, scores = np.concatenate([f.classes for f in found]), np.concatenate([f.scores for f in found])
    made = []
    for c in range(nc):
        own = np.flatnonzero(classes == c)
        own = own[np.argsort(-scores[own], kind="stable")]
        labels = np.array([(t.classes == c).sum() for t in truth], dtype=np.int64)
        made.append(Ranked(scores[own], right[own], image[own], labels))
    return made


def pool(ranked: Sequence[Ranked]) -> Ranked:
    """Predictions of several classes as one list, in which all classes have one threshold."""
    scores = np.concatenate([r.scores for r in ranked])
    order = np.argsort(-scores, kind="stable")
    right, image = (np.concatenate([getattr(r, k) for r in ranked])[order] for k in ("right", "image"))
    return Ranked(scores[order], right, image, np.sum([r.labels for r in ranked], axis=0))


def froc_curve(ranked: Ranked) -> tuple[np.ndarray, np.ndarray]:
    """False positives an image (P + 1,), rising from 0, and sensitivity (P + 1,) in 0..1; NaN without labels."""
    _, right, false = ranked.counts()
    labels = ranked.labels.sum()
    rate = np.append(0.0, false / len(ranked.labels))
    return rate, np.append(0.0, right) / labels if labels else np.full(len(rate), np.nan)


def drawn_counts(ranked: Ranked, weights: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """How many predictions at or above each of P distinct scores are right, and how many false, in each resample.

    Args:
        ranked: predictions in I images.
        weights: (B, I), how often each image is drawn.

    Yields:
        Which resamples, as many as memory allows, and both counts of them, (b, P) each.
    """
    ends = ranked.ends()
    step = max(1, _CELLS // max(1, len(ranked.scores)))
    for start in range(0, len(weights), step):
        drawn = weights[start : start + step, ranked.image]
        right, every = (np.cumsum(x, 1)[:, ends] for x in (drawn * ranked.right, drawn))
        yield slice(start, start + len(drawn)), right, every - right


def drawn_sensitivity(ranked: Ranked, weights: np.ndarray) -> np.ndarray:
    """Mean sensitivity at `RATES` of each resample: (B,) for weights (B, I); NaN where no label is drawn."""
    made, labels, images = np.full(len(weights), np.nan), weights @ ranked.labels, weights.sum(1)
    for own, right, false in drawn_counts(ranked, weights):
        for b, hits, wrong in zip(range(own.start, own.stop), right, false, strict=True):
            if labels[b]:
                at = np.interp(RATES, np.append(0, wrong) / images[b], np.append(0, hits) / labels[b])
                made[b] = at.mean()
    return made


def froc_report(ranked: Sequence[Ranked], names: Sequence[str], weights: np.ndarray) -> dict[str, Any]:
    """FROC of each class and of all, as values that JSON can hold.

    Args:
        ranked: predictions of each class, of `rank`.
        names: of the classes.
        weights: (B, I) of the bootstrap over patients (`intervals.draw_patients`).

    Returns:
        rates: `RATES`; and `curves`, for each class and for "all", which has one threshold for all classes:
        labels; reached, false positives an image of all predictions; sensitivity at each rate, their `mean`, and its
        interval over `patients`; and the `curve`, where it turns: false_positives and sensitivity. Without labels
        sensitivities are None, and `why` says so.
    """
    curves: dict[str, Any] = {}
    for name, r in {**dict(zip(names, ranked, strict=True)), "all": pool(ranked)}.items():
        rate, sensitivity = froc_curve(r)
        row = {"labels": int(r.labels.sum()), "reached": float(rate[-1])}
        if not row["labels"]:
            nothing = {"sensitivity": None, "mean": None, "patients": [None, None], "curve": None}
            curves[name] = row | nothing | {"why": f"not defined, because nothing in these images has {name}"}
            continue
        at = np.interp(RATES, rate, sensitivity)
        corner = _corners(rate, sensitivity)
        curves[name] = row | {
            "sensitivity": at.tolist(),
            "mean": or_none(at.mean()),
            "patients": percentile_interval(drawn_sensitivity(r, weights)),
            "curve": {"false_positives": rate[corner].tolist(), "sensitivity": sensitivity[corner].tolist()},
        }
    return {"rates": list(RATES), "curves": curves}


def _corners(rate: np.ndarray, sensitivity: np.ndarray) -> np.ndarray:
    """Indices of the ends of a curve and of the points where it turns, which draw all of it."""
    steps = np.stack([np.diff(rate), np.diff(sensitivity)], 1)
    turns = np.abs(steps[1:, 0] * steps[:-1, 1] - steps[1:, 1] * steps[:-1, 0]) > 1e-12
    return np.unique([0, *(np.flatnonzero(turns) + 1), len(rate) - 1])
