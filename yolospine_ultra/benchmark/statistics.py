"""Intervals over seeds, and the paired bootstrap over patients and seeds for "A beats B".

Sources: Student's t interval; Efron and Tibshirani 1993, percentile bootstrap, patients being the units that are drawn,
and, for each training by itself, its seeds (Rao and Wu 1988 for how many); COCO's average precision (Lin et al. 2014).
Drawing a patient twice is counting each of their boxes and detections twice, so that a resample needs no matching and
no sorting anew: matches are found once, and the curve of every resample is a cumulative sum of weights. The value with
all weights 1 is that of faster-coco-eval, which a test checks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import LEVEL, mean_defined
from yolospine_ultra.evaluate.matching import iou_matrix

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
PER_IMAGE = 100  # detections an image and class, as COCO has it
FEW_BOXES = 20  # labelled boxes under which a class's average precision rests on a handful of cases
SEEDS = 1  # begins the random numbers that draw seeds; those that draw patients begin with 0
_CHUNK = 250  # resamples at a time, for the memory


@dataclass(frozen=True)
class Interval:
    """Mean of n values, their standard deviation, and the limits of the interval; NaN where n is too small."""

    n: int
    mean: float
    sd: float
    low: float
    high: float


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Student's t interval of the mean.

    Args:
        values: one a seed.
        level: of confidence.
    """
    n = len(values)
    mean = float(np.mean(values)) if n else math.nan
    if n < 2:
        return Interval(n, mean, math.nan, math.nan, math.nan)
    sd = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * sd / math.sqrt(n)
    return Interval(n, mean, sd, mean - half, mean + half)


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """Detections of one class in all images, best score first.

    Attributes:
        image: (D,) index of the image.
        right: (D, 10) bool, whether the detection is matched at each of `THRESHOLDS`.
        boxes: (images,) int64, ground truth of the class in each image.
    """

    image: np.ndarray
    right: np.ndarray
    boxes: np.ndarray


def match(truth: Sequence[ImageFindings], found: Sequence[ImageFindings], nc: int) -> list[ClassMatches]:
    """Match detections with ground truth as COCO does, class by class.

    Args:
        truth: labelled findings of each image.
        found: findings with scores of the same images.
        nc: number of classes.
    """
    made = []
    for c in range(nc):
        image, score, right, boxes = [], [], [], np.zeros(len(truth), dtype=np.int64)
        for i, (t, f) in enumerate(zip(truth, found, strict=True)):
            own = np.flatnonzero(f.classes == c)
            own = own[np.argsort(-f.scores[own], kind="stable")][:PER_IMAGE]
            labels = t.boxes[t.classes == c]
            boxes[i] = len(labels)
            image.append(np.full(len(own), i))
            score.append(f.scores[own])
            right.append(_match_image(iou_matrix(f.boxes[own], labels)))
        order = np.argsort(-np.concatenate(score), kind="stable")
        made.append(ClassMatches(np.concatenate(image)[order], np.concatenate(right)[order], boxes))
    return made


def _match_image(iou: np.ndarray) -> np.ndarray:
    """Which detections are matched at each threshold: (D, 10) for the IoU (D, G) of detections, best first."""
    right = np.zeros((len(iou), len(THRESHOLDS)), dtype=bool)
    if not iou.shape[1]:
        return right
    free = np.ones((len(THRESHOLDS), iou.shape[1]), dtype=bool)
    for d in np.flatnonzero(iou.max(1) >= THRESHOLDS[0]):
        open_iou = np.where(free, iou[d], -1.0)
        best = iou.shape[1] - 1 - open_iou[:, ::-1].argmax(1)  # the last of equals, as COCO takes it
        at = np.flatnonzero(open_iou[np.arange(len(THRESHOLDS)), best] >= THRESHOLDS)
        free[at, best[at]] = False
        right[d, at] = True
    return right


def weighted_precision(matches: Sequence[ClassMatches], weights: np.ndarray) -> np.ndarray:
    """Average precision where every image counts as often as its weight says.

    Args:
        matches: one a class.
        weights: (B, images) int64, B resamples.

    Returns:
        (C, B, 2): at IoU .50:.05:.95 and at .50; NaN where a class has no ground truth.
    """
    made = np.full((len(matches), len(weights), 2), np.nan)
    for c, m in enumerate(matches):
        for start in range(0, len(weights), _CHUNK):
            chunk = weights[start : start + _CHUNK]
            count = chunk @ m.boxes
            drawn = chunk[:, m.image]
            seen = drawn.cumsum(1)
            values = np.stack(
                [_area(drawn, seen, np.flatnonzero(m.right[:, t]), count) for t in range(len(THRESHOLDS))]
            )
            values[:, count == 0] = np.nan
            made[c, start : start + len(chunk)] = np.stack([values.mean(0), values[0]], 1)
    return made


def _area(drawn: np.ndarray, seen: np.ndarray, right: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Mean precision at the 101 recalls.

    Precision changes for the better only where a detection is right, so that these columns are all of the curve.

    Args:
        drawn: (B, D) weight of each detection.
        seen: (B, D) its cumulative sum.
        right: (R,) columns of the right detections.
        count: (B,) weighted ground truth.

    Returns:
        (B,), 0 where nothing is right.
    """
    if not len(right):
        return np.zeros(len(drawn))
    hits = drawn[:, right].cumsum(1)
    precision = hits / np.maximum(seen[:, right], 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    needed = _needed(count)
    # each row's hits rise; rows are put end to end, apart by more than any count, and searched at once
    step = int(max(hits.max(), needed.max())) + 1
    rows = np.arange(len(drawn))[:, None]
    place = np.searchsorted((hits + rows * step).ravel(), (needed + rows * step).ravel()).reshape(needed.shape)
    place -= rows * len(right)
    reached = place < len(right)
    return np.where(reached, envelope[rows, np.minimum(place, len(right) - 1)], 0.0).mean(1)


def _needed(count: np.ndarray) -> np.ndarray:
    """Least number of hits of `count` (B,) that reaches each recall: (B, 101)."""
    whole = np.maximum(count, 1)[:, None]
    hits = np.floor(RECALLS * whole).astype(np.int64)
    return np.where(hits / whole < RECALLS, hits + 1, hits)


def mean_precision(runs: Sequence[Sequence[list[ClassMatches]]], weights: Sequence[np.ndarray]) -> np.ndarray:
    """Mean average precision over seeds, of each resample.

    Within a seed the AP of a class is averaged over the folds that have ground truth of it, then over the classes that
    have ground truth in any fold. A resample without one of these classes is NaN: its mean would be of other classes,
    in the mean of easier ones where the rare are hard.

    Args:
        runs: for each seed, for each fold, the matches of each class.
        weights: of each fold, (B, images of the fold).

    Returns:
        (B, 3): at IoU .50:.05:.95, at .50, and the first over classes with at least `FEW_BOXES` boxes alone, NaN where
        these are all classes that have any, or none.
    """
    seeds = []
    for folds in runs:
        by_fold = np.stack([weighted_precision(m, w) for m, w in zip(folds, weights, strict=True)])
        boxes = np.array([sum(m.boxes.sum() for m in of_class) for of_class in zip(*folds, strict=True)])
        by_class = mean_defined(by_fold)
        rare = (boxes > 0) & (boxes < FEW_BOXES)
        common = (boxes >= FEW_BOXES) & rare.any()
        means = mean_of_classes(by_class, boxes > 0), mean_of_classes(by_class[..., :1], common)
        seeds.append(np.concatenate(means, 1))
    return np.mean(seeds, 0)


def mean_of_classes(values: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Mean over the classes that have ground truth in all the images, whatever a resample has drawn.

    Args:
        values: (C, ...), NaN where not defined.
        labelled: (C,) bool.

    Returns:
        (...), NaN where a labelled class is NaN, or none is labelled.
    """
    return values[labelled].mean(0) if labelled.any() else np.full(values.shape[1:], np.nan)


def seed_weights(n: int, resamples: int, stream: int) -> np.ndarray:
    """Weights of a training's n seeds in a mean over them: all alike, then as they are drawn.

    n - 1 of n are drawn with replacement, so that a resampled mean has the variance s^2 / n of the mean; with n of n it
    would be a third too small for three seeds (Rao and Wu 1988). One seed says nothing of others and is always drawn.

    Args:
        n: number of seeds, at least 1.
        resamples: how many.
        stream: number of the training; what shares one is drawn alike.

    Returns:
        (1 + resamples, n); each row sums to 1.
    """
    drawn = max(n - 1, 1)
    rng = np.random.default_rng([SEEDS, stream])
    made = rng.multinomial(drawn, np.full(n, 1 / n), size=resamples) / drawn
    return np.concatenate([np.full((1, n), 1 / n), made])


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each model (M, B) in each resample, 1 for the greatest value, the mean of their ranks for equals.

    (M, B'): resamples in which a model's value is NaN are left out.
    """
    return stats.rankdata(-values[:, np.isfinite(values).all(0)], axis=0)
