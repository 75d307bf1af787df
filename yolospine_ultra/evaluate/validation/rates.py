"""Sensitivity and specificity of each class and overall, of boxes and of whole images.

Source: Masood and Taj 2026, "Clinical Validation", which gives both for each class and overall without saying what is
counted. Here

    sensitivity = TP / (TP + FN), specificity = TN / (TN + FP), one class against the rest, at two levels:

boxes: over the cells of the (C + 1) x (C + 1) confusion matrix. For class k, TP is its cell of the diagonal, FN the
    rest of its row, FP the rest of its column, TN all other cells. The negatives of k, specificity's denominator, are
    thus the labels of other classes and the false alarms of other classes on background; background with background
    cannot be counted, since nobody can say how many places hold nothing. A rater with many false alarms of other
    classes therefore gains specificity in k, which precision (`agreement.class_scores`) does not forgive.
images: one trial a class and image: is the class present, is it called present. Here negatives are images without
    the class, which can be counted, and no box has to be matched.

Overall, over the classes that have ground truth (of another nobody can tell absent from not graded): `macro` is the
mean of the classes' values; `count_weighted` weighs each class with its number of trials, which is the share of all
trials pooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import or_none, percentile_interval, share

KINDS = ("sensitivity", "specificity")
AVERAGES = ("macro", "count_weighted")


@dataclass(frozen=True, eq=False)
class Counts:
    """True and false positives and negatives, (..., C) int64 each, C classes."""

    tp: np.ndarray
    fn: np.ndarray
    fp: np.ndarray
    tn: np.ndarray

    def drawn(self, weights: np.ndarray) -> Counts:
        """Sums over images: of (I, C) counts and (B, I) weights, (B, C); of (I,) weights, (C,)."""
        return Counts(weights @ self.tp, weights @ self.fn, weights @ self.fp, weights @ self.tn)

    def summed(self) -> Counts:
        """Sums over all images: (C,) of (I, C)."""
        return self.drawn(np.ones(len(self.tp), dtype=np.int64))

    def trials(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """Hits and trials of "sensitivity" or "specificity"."""
        hits, misses = (self.tp, self.fn) if kind == "sensitivity" else (self.tn, self.fp)
        return hits, hits + misses

    def rate(self, kind: str) -> np.ndarray:
        """(..., C) in 0..1, NaN where there are no trials."""
        hits, trials = self.trials(kind)
        return np.divide(hits, trials, out=np.full(trials.shape, np.nan), where=trials > 0)

    def average(self, kind: str, how: str, classes: np.ndarray) -> np.ndarray:
        """(...) "macro" or "count_weighted" over `classes`, a mask (C,).

        NaN where there are no trials: for macro of any of the classes, since a mean over fewer, in a resample without
        one of them, would be of something else.
        """
        hits, trials = (x[..., classes] for x in self.trials(kind))
        if how == "count_weighted":
            hits, trials = hits.sum(-1), trials.sum(-1)
            return np.divide(hits, trials, out=np.full(trials.shape, np.nan), where=trials > 0)
        rates = self.rate(kind)[..., classes]
        return rates.mean(-1) if classes.any() else np.full(rates.shape[:-1], np.nan)


def count_boxes(matrices: np.ndarray) -> Counts:
    """Counts of one class against the rest: (..., C) for confusion matrices with background (..., C + 1, C + 1)."""
    tp = np.diagonal(matrices, axis1=-2, axis2=-1)[..., :-1]
    fn, fp = matrices.sum(-1)[..., :-1] - tp, matrices.sum(-2)[..., :-1] - tp
    return Counts(tp, fn, fp, matrices.sum((-2, -1))[..., None] - tp - fn - fp)


def presence(images: Sequence[ImageFindings], nc: int) -> np.ndarray:
    """Which classes each image has a finding of: (I, nc) bool."""
    return np.array([np.bincount(x.classes, minlength=nc) > 0 for x in images], dtype=bool).reshape(-1, nc)


def count_images(truth: np.ndarray, found: np.ndarray) -> Counts:
    """Counts of classes called present, (I, C) each, from (I, C) bool: what is present and what is called so."""
    cells = (truth & found, truth & ~found, ~truth & found, ~truth & ~found)
    return Counts(*(x.astype(np.int64) for x in cells))


def rate_table(counts: Counts, names: Sequence[str], weights: np.ndarray) -> dict[str, Any]:
    """Sensitivity and specificity with their intervals, as values that JSON can hold.

    Args:
        counts: (I, C), of each image.
        names: of the C classes.
        weights: (B, I), how often each image is drawn (`intervals.draw_patients`).

    Returns:
        classes: for each name tp, fn, fp, tn, and `sensitivity` and `specificity` as `intervals.share` gives them,
            with `patients`, the interval of the bootstrap over patients. Without trials the value is None, and `why`
            says so.
        macro, count_weighted: `sensitivity` and `specificity` over the classes that have ground truth and trials, with
            `patients`; `macro` with the number of `classes`; `count_weighted` with Wilson's interval too, which a mean
            of shares does not have. Every box or image is a trial of each class there, so that Wilson's is too narrow
            for it, above all of specificity.
    """
    total, drawn = counts.summed(), counts.drawn(weights)
    labelled = total.trials("sensitivity")[1] > 0
    made: dict[str, Any] = {"classes": {}, "macro": {}, "count_weighted": {}}
    for k, name in enumerate(names):
        row = {cell: int(getattr(total, cell)[k]) for cell in ("tp", "fn", "fp", "tn")}
        for kind in KINDS:
            hits, trials = (int(x[k]) for x in total.trials(kind))
            row[kind] = share(hits, trials) | {"patients": percentile_interval(drawn.rate(kind)[:, k])}
            if not trials:
                what = f"has {name}" if kind == "sensitivity" else f"is without {name}"
                row[kind]["why"] = f"not defined, because nothing in these images {what}"
        made["classes"][name] = row
    for kind in KINDS:
        counted = labelled & (total.trials(kind)[1] > 0)
        intervals = {how: percentile_interval(drawn.average(kind, how, counted)) for how in AVERAGES}
        macro = or_none(total.average(kind, "macro", counted))
        pooled = share(*(x[counted].sum() for x in total.trials(kind)))
        made["macro"][kind] = {"value": macro, "classes": int(counted.sum()), "patients": intervals["macro"]}
        made["count_weighted"][kind] = pooled | {"patients": intervals["count_weighted"]}
    return made
