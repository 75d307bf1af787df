"""Calibration of detection scores: does a score of .8 mean that eight in ten such detections are right?

Sources: detection expected calibration error (D-ECE), Kueppers et al. 2020, "Multivariate Confidence Calibration for
Object Detection", here over the score alone and not over place and size of the box; temperature scaling, Guo et al.
2017, with a temperature a class and a sigmoid in place of the softmax, because a box may have several classes:

    s -> sigmoid(logit(s) / T_c)

A detection is right where it is matched with a labelled box of its class, IoU >= .5, one to one, best score first.
Precision is what scores are compared with: what was missed has no score and does not count here. A temperature keeps
the order of a class's detections, and so its average precision; it moves no score across .5, and cannot mend scores
that are too low on one side of it and too high on the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.model_selection import GroupKFold

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.matching import match_by_class

BINS = 10
LEAST_BOXES = 30  # of a class with a temperature of its own
LIMITS = (0.05, 20.0)  # of a temperature
_EDGE = 1e-6  # scores nearer to 0 or 1 are taken as this: JSON has them to five digits


@dataclass(frozen=True, eq=False)
class Judged:
    """The detections of I images, each right or not.

    Attributes:
        image: (D,) index of the image.
        classes: (D,) class indices.
        scores: (D,) 0..1.
        right: (D,) bool.
        boxes: (I, C) labelled boxes of each image and class.
    """

    image: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    right: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def only(self, keep: np.ndarray) -> Judged:
        """Some of the detections (D,) bool; the labelled boxes stay."""
        return replace(
            self, image=self.image[keep], classes=self.classes[keep], scores=self.scores[keep], right=self.right[keep]
        )

    def of_images(self, chosen: np.ndarray) -> Judged:
        """Detections and boxes of some images (I,) bool; the others are left without either."""
        return replace(self.only(chosen[self.image]), boxes=self.boxes * chosen[:, None])


def judge(
    truth: Sequence[ImageFindings], predicted: Sequence[ImageFindings], nc: int, iou: float = 0.5, conf: float = 0.05
) -> Judged:
    """Judge the detections of images.

    Args:
        truth: labelled findings of each image.
        predicted: findings with scores of the same images in the same order.
        nc: number of classes.
        iou: least IoU of a right detection.
        conf: least score of a detection that counts.

    Raises:
        ValueError: other images, no scores, or a class beyond `nc`.
    """
    if [x.name for x in truth] != [x.name for x in predicted]:
        raise ValueError("predictions are of other images than the ground truth, or in another order.")
    if any(len(x) and x.classes.max() >= nc for x in (*truth, *predicted)):
        raise ValueError(f"a finding has a class beyond the {nc} of the data.")
    image, classes, scores, right = [], [], [], []
    for i, (t, p) in enumerate(zip(truth, (x.above(conf) for x in predicted), strict=True)):
        image.append(np.full(len(p), i))
        classes.append(p.classes)
        scores.append(p.scores)
        right.append(np.isin(np.arange(len(p)), match_by_class(t, p, iou)))
    joined = (np.concatenate(x) if x else np.zeros(0, dtype=int) for x in (image, classes, scores, right))
    boxes = np.array([np.bincount(t.classes, minlength=nc) for t in truth]).reshape(len(truth), nc)
    return Judged(*joined, boxes)


def bin_of(scores: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Bin of each score (D,), 0 to bins - 1: bins are equally wide, closed at their lower end, the last at both."""
    return np.minimum((np.asarray(scores) * bins).astype(np.int64), bins - 1)


def detection_ece(scores: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """D-ECE over the score: sum over bins of (n_b / n) x |precision_b - mean score_b|, 0..1; NaN without detections.

    Args:
        scores, right: (D,).
        bins: how many.
    """
    return float(drawn_ece(scores, right, np.ones((1, len(scores))), bins)[0])


def drawn_ece(scores: np.ndarray, right: np.ndarray, weights: np.ndarray, bins: int = BINS) -> np.ndarray:
    """D-ECE where each detection counts as often as its weight says.

    Args:
        scores, right: (D,).
        weights: (B, D).
        bins: how many.

    Returns:
        (B,), NaN where all weights are 0.
    """
    in_bin = bin_of(scores, bins)[:, None] == np.arange(bins)
    # n_b x |precision_b - mean score_b| is the difference of two sums
    gaps = np.abs(weights @ (in_bin * (np.asarray(right, dtype=float) - scores)[:, None])).sum(1)
    total = weights.sum(1)
    return np.divide(gaps, total, out=np.full(len(gaps), np.nan), where=total > 0)


def log_loss(scores: np.ndarray, right: np.ndarray) -> float:
    """Mean negative log-likelihood of right and wrong, in nats; NaN without detections."""
    if not len(scores):
        return float("nan")
    s = np.clip(scores, _EDGE, 1 - _EDGE)
    return float(-np.log(np.where(right, s, 1 - s)).mean())


def fit_temperature(scores: np.ndarray, right: np.ndarray) -> float:
    """The temperature of least negative log-likelihood, within `LIMITS`.

    The likelihood is convex in 1 / T, so that a search along log T finds its one minimum.

    Args:
        scores, right: (D,).

    Raises:
        ValueError: all detections are right or all are wrong, or there are none: then there is no best temperature.
    """
    if not len(scores) or np.all(right) or not np.any(right):
        raise ValueError(f"{len(scores)} detections, {int(np.sum(right))} right: expected some of both kinds.")
    signed = np.where(right, 1, -1) * logit(np.clip(scores, _EDGE, 1 - _EDGE))

    def loss(log_t: float) -> float:
        return float(np.logaddexp(0, -signed / np.exp(log_t)).mean())

    bounds = tuple(np.log(LIMITS))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x))


def scale_scores(scores: np.ndarray, classes: np.ndarray, temperatures: Sequence[float]) -> np.ndarray:
    """sigmoid(logit(s) / T_c) of scores (D,) with class indices (D,); 0 and 1 stay what they are."""
    return expit(logit(np.asarray(scores, dtype=float)) / np.asarray(temperatures, dtype=float)[classes])


@dataclass(frozen=True)
class Temperatures:
    """Fitted temperatures.

    Attributes:
        values: of each class.
        shared: of all classes together.
        fallbacks: why a class has the shared one, by class index.
        unfit: classes whose temperature is 1, because the best one lies at `LIMITS` or beyond. Such a temperature says
            that scores tell nothing, or all; it would lift detections of next to no score above every threshold.
    """

    values: tuple[float, ...]
    shared: float
    fallbacks: dict[int, str]
    unfit: tuple[int, ...]


def fit_temperatures(judged: Judged, least: int = LEAST_BOXES) -> Temperatures:
    """A temperature for each class that has enough labelled boxes, and one for all others together.

    Args:
        judged: detections of the images to fit on. Those of classes without any labelled box are left out: whether
            they are right is not known.
        least: labelled boxes that a class needs for a temperature of its own.

    Raises:
        ValueError: nothing can be fitted, because no detection or every detection is right.
    """
    boxes = judged.boxes.sum(0)
    judged = judged.only(boxes[judged.classes] > 0)
    try:
        shared = fit_temperature(judged.scores, judged.right)
    except ValueError as error:
        raise ValueError(f"no temperature can be fitted: {error}") from None
    values, fallbacks = [], {}
    for c, n in enumerate(boxes):
        own = judged.only(judged.classes == c)
        value = shared
        if n < least:
            fallbacks[c] = f"{n} labelled boxes, {least} needed"
        else:
            try:
                value = fit_temperature(own.scores, own.right)
            except ValueError as error:
                fallbacks[c] = str(error)
        values.append(value)
    unfit = tuple(c for c, t in enumerate(values) if _at_limit(t))
    values = [1.0 if _at_limit(t) else t for t in values]
    return Temperatures(tuple(values), 1.0 if _at_limit(shared) else shared, fallbacks, unfit)


def _at_limit(temperature: float) -> bool:
    """Whether a temperature is as low or high as allowed: the likelihood would go further."""
    return temperature < LIMITS[0] * 1.01 or temperature > LIMITS[1] * 0.99


def cross_fit(
    judged: Judged, patients: Sequence[str], folds: int = 5, least: int = LEAST_BOXES
) -> tuple[np.ndarray, list[Temperatures]]:
    """Scores under temperatures that were fitted on other patients.

    Args:
        judged: detections of I images.
        patients: of each image.
        folds: how many; patients are shared out so that folds have equally many images (`GroupKFold`).
        least: as in `fit_temperatures`.

    Returns:
        Calibrated scores (D,), and the temperatures of each fold.

    Raises:
        ValueError: fewer patients than folds, fewer than 2 folds, or a fold without which nothing can be fitted.
    """
    count = len(set(patients))
    if not 2 <= folds <= count:
        raise ValueError(f"{folds} folds of {count} patients; expected 2 to {count} folds.")
    calibrated, fitted = np.array(judged.scores, dtype=float), []
    for fit, held_out in GroupKFold(folds).split(patients, groups=patients):
        inside = np.isin(np.arange(len(patients)), fit)
        temperatures = fit_temperatures(judged.of_images(inside), least)
        own = np.isin(judged.image, held_out)
        calibrated[own] = scale_scores(judged.scores[own], judged.classes[own], temperatures.values)
        fitted.append(temperatures)
    return calibrated, fitted
