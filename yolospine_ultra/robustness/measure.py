"""What is measured of one condition: image quality, agreement with the clean image, mAP and its drop, corruption error.

Sources: PSNR; SSIM, Wang et al. 2004, by scikit-image; COCO's average precision; mean corruption error, Hendrycks and
Dietterich 2019 (arXiv 1903.12261); mean and relative performance under corruption, Michaelis et al. 2019 (arXiv
1907.07484). The corruption error is made for classification and its top-1 error; for detection the error is 1 - mAP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from yolospine_ultra.benchmark.statistics import match, mean_of_classes, weighted_precision
from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import or_none, percentile_interval
from yolospine_ultra.evaluate.matching import iou_matrix, match_by_class
from yolospine_ultra.robustness.degrade import is_grey

IOU = 0.5  # least of a detection that was found again
LEAST_DROP = 0.01  # of the baseline's mAP, for a ratio to it
_WINDOW = 11  # pixels, what scikit-image makes of Wang's Gaussian of sd 1.5

Values = dict[str, float | int | None]


def image_quality(clean: np.ndarray, degraded: np.ndarray) -> tuple[float | None, float | None]:
    """PSNR in dB and SSIM, -1 to 1, of a degraded image.

    Args:
        clean, degraded: (h, w) or (h, w, c) uint8.

    Returns:
        PSNR, None where nothing is changed; SSIM with Wang's Gaussian window, None where the image is smaller than it.
    """
    if is_grey(clean) and clean.ndim == 3:
        clean, degraded = clean[..., 0], degraded[..., 0]
    changed = bool((clean != degraded).any())
    psnr = float(peak_signal_noise_ratio(clean, degraded, data_range=255)) if changed else None
    if min(clean.shape[:2]) < _WINDOW:
        return psnr, None
    ssim = structural_similarity(
        clean.astype(np.float32), degraded.astype(np.float32),  # from uint8 it would take double precision and time
        data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        channel_axis=-1 if clean.ndim == 3 else None,
    )  # fmt: skip
    return psnr, float(ssim)


def agreement(clean: Sequence[ImageFindings], degraded: Sequence[ImageFindings], iou: float = IOU) -> Values:
    """How far a detector finds in degraded images what it finds in the clean ones; needs no labels.

    A detection is found again where one of the same class overlaps it, one to one, best degraded score first.

    Args:
        clean, degraded: findings with scores of the same images in the same order.
        iou: least IoU of a match.

    Returns:
        clean_detections, degraded_detections, matched: counts. retention: matched / clean_detections, None without
        any. false_per_image: degraded detections that match none, an image. matched_iou, confidence_change: mean IoU,
        and mean of degraded minus clean score, of what is matched; None without any.
    """
    ious, changes = [], []
    for before, after in zip(clean, degraded, strict=True):
        partner = match_by_class(before, after, iou)
        kept = np.flatnonzero(partner >= 0)
        ious.append(iou_matrix(before.boxes, after.boxes)[kept, partner[kept]])
        changes.append(after.scores[partner[kept]] - before.scores[kept])
    counts = sum(map(len, clean)), sum(map(len, degraded)), sum(map(len, ious))
    return {
        "clean_detections": counts[0],
        "degraded_detections": counts[1],
        "matched": counts[2],
        "retention": counts[2] / counts[0] if counts[0] else None,
        "false_per_image": (counts[1] - counts[2]) / len(clean) if len(clean) else None,
        "matched_iou": float(np.concatenate(ious).mean()) if counts[2] else None,
        "confidence_change": float(np.concatenate(changes).mean()) if counts[2] else None,
    }


@dataclass(frozen=True, eq=False)
class Precision:
    """Average precision of the images as they are, and of every resample.

    Attributes:
        map50_95, map50: (1 + B,) mean over the classes with labels; the first of all images, then the resamples. NaN
            without labels, and in a resample that lacks one of these classes.
        classes: (C,) AP50-95 of all images, NaN for classes without labels.
    """

    map50_95: np.ndarray
    map50: np.ndarray
    classes: np.ndarray


def precision(
    truth: Sequence[ImageFindings], found: Sequence[ImageFindings], nc: int, weights: np.ndarray
) -> Precision:
    """COCO's average precision, also of the images drawn `weights` (1 + B, images) times."""
    matches = match(truth, found, nc)
    by_class = weighted_precision(matches, weights)
    means = mean_of_classes(by_class, np.array([m.boxes.any() for m in matches]))
    return Precision(means[:, 0], means[:, 1], by_class[:, 0, 0])


def drop(clean: Precision, degraded: Precision) -> dict[str, Any]:
    """Loss of mAP50-95, clean minus degraded.

    Returns:
        map50_95, map50: of the degraded images. drop: of mAP50-95. drop_interval: its percentile 95% interval over
        patients; clean and degraded are of the same resamples, so that it is that of a paired difference. None where
        not defined: without labels, the interval also with one patient, or where resamples do not differ.
    """
    lost = clean.map50_95 - degraded.map50_95
    return {
        "map50_95": or_none(degraded.map50_95[0]),
        "map50": or_none(degraded.map50[0]),
        "drop": or_none(lost[0]),
        "drop_interval": percentile_interval(lost[1:]),
    }


def corruption_errors(
    values: Mapping[str, Sequence[float]], baseline: Mapping[str, Sequence[float]]
) -> dict[str, float | None]:
    """Corruption error by type: sum over levels of 1 - mAP, divided by the same sum of the baseline model.

    Args:
        values: mAP of each level, by type.
        baseline: the same of the baseline model.

    Returns:
        1 for the baseline itself, less for a model that does better; None where the baseline has no error. Their mean
        over types is the mean corruption error.

    Raises:
        ValueError: types or levels differ.
    """
    sums = {k: (sum(1 - v for v in ours), sum(1 - v for v in theirs)) for k, ours, theirs in _paired(values, baseline)}
    return {k: ours / theirs if theirs > 0 else None for k, (ours, theirs) in sums.items()}


def relative_corruption_errors(
    drops: Mapping[str, Sequence[float]], baseline: Mapping[str, Sequence[float]], least: float = LEAST_DROP
) -> dict[str, float | None]:
    """Relative corruption error by type: sum over levels of the drop of mAP, divided by that of the baseline model.

    Args:
        drops: clean mAP minus mAP of each level, by type.
        baseline: the same of the baseline model.
        least: mean drop of the baseline below which the value is None: a ratio to next to nothing is noise. This is
            ours; Hendrycks and Dietterich have no type that costs nothing.

    Returns:
        1 where as much is lost as by the baseline, less where less is.

    Raises:
        ValueError: types or levels differ.
    """
    sums = {k: (sum(ours), sum(theirs), len(theirs)) for k, ours, theirs in _paired(drops, baseline)}
    return {k: ours / theirs if n and theirs / n >= least else None for k, (ours, theirs, n) in sums.items()}


def _paired(
    values: Mapping[str, Sequence[float]], baseline: Mapping[str, Sequence[float]]
) -> list[tuple[str, Sequence[float], Sequence[float]]]:
    """Type, values and the baseline's."""
    if {k: len(v) for k, v in values.items()} != {k: len(v) for k, v in baseline.items()}:
        raise ValueError(f"types or levels differ: {sorted(values)} and {sorted(baseline)}")
    return [(k, v, baseline[k]) for k, v in values.items()]
