"""Intervals of shares and of what is made from them: Wilson's, and the bootstrap over patients.

Sources: Wilson 1927, score interval of a binomial share, by scipy; Efron and Tibshirani 1993, percentile bootstrap.
Wilson's takes trials for independent. Slices of one patient, and findings of one slice, are not: patients are what a
bootstrap draws, so that its interval is the one to trust where patients have several findings, and there are some
tens of them.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

LEVEL = 0.95
RESAMPLES = 2000
_SAME = 1e-9  # values of resamples closer than this are equal but for rounding
# What a file's name has before its first underscore, with the folders before it but that of a split
PATIENT = r"^(?:(?:train|val|test)/)?((?:.*/)?[^_/]+)"


def wilson(hits: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson (1927) score interval of a share, by scipy; (NaN, NaN) without trials."""
    if not trials:
        return float("nan"), float("nan")
    from scipy.stats import binomtest  # a second to import, which every model that is loaded would pay

    interval = binomtest(hits, trials).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def patients_of(names: Sequence[str], pattern: str = PATIENT) -> list[str]:
    """The patient of each image.

    Args:
        names: file names of images, with or without folders.
        pattern: regular expression whose first group, searched in a name without its suffix, is the patient; `(.*)`
            makes every image a patient of its own, `(.*)/` every folder.

    Raises:
        ValueError: no such expression, or a name in which it finds nothing.
    """
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression ({error}); expected one with one group.") from error
    found = [re.search(pattern, Path(name).with_suffix("").as_posix()) if groups else None for name in names]
    wrong = [name for name, match in zip(names, found, strict=True) if not match or not match[1]]
    if wrong:
        raise ValueError(f"{wrong[0]} tells no patient by {pattern!r}; expected an expression whose group finds one.")
    return [match[1] for match in found]


def patient_notes(patients: int, images: int) -> list[str]:
    """What a reader of intervals over patients has to know: that there is one, or that each image is one of its own."""
    if patients < 2:
        return ["There is one patient: no interval over patients is defined."]
    if patients == images:
        return [
            f"Each of the {images} images is taken as a patient of its own; if several are of one, intervals over "
            "patients are too narrow, and folds by patient share them: tell patients by --patient."
        ]
    return []


def draw_patients(patients: Sequence[str], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each image is drawn when patients are drawn with replacement.

    Args:
        patients: of each of I images.
        resamples: how many.
        seed: the same seed gives the same draws, so that raters are compared on equal ones.

    Returns:
        (resamples, I) int64; (0, I) where there are fewer than two patients, of which nothing can be drawn anew.
    """
    names, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    if len(names) < 2:
        return np.zeros((0, len(patients)), dtype=np.int64)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return draws[:, index]


def resample_weights(patients: Sequence[str], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Weights (1 + resamples, I): every image once, then `draw_patients`."""
    return np.concatenate([np.ones((1, len(patients)), dtype=np.int64), draw_patients(patients, resamples, seed)])


def percentile_bounds(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Percentiles of a bootstrap's values (B,) that hold `level` of them, those that are NaN left out; NaN of none."""
    kept = values[np.isfinite(values)]
    if not len(kept):
        return math.nan, math.nan
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean of (N, ...) over the first axis without NaN, such as classes that have ground truth; NaN of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is NaN, as meant
        return np.nanmean(values, axis=0)


def percentile_interval(values: np.ndarray) -> list[float | None]:
    """95% percentile interval of a bootstrap's values (B,), for JSON.

    [None, None] without any, and where its ends are equal: resamples that do not differ, as of one patient or of a
    share of 0 or 1, say nothing of the spread.
    """
    low, high = percentile_bounds(values)
    return [low, high] if high - low > _SAME else [None, None]


def share(hits: int, trials: int) -> dict[str, Any]:
    """A share with its Wilson 95% interval: value, hits, trials, interval; None where there are no trials."""
    hits, trials = int(hits), int(trials)
    interval = [or_none(x) for x in wilson(hits, trials, LEVEL)]
    return {"value": hits / trials if trials else None, "hits": hits, "trials": trials, "interval": interval}


def or_none(value: float) -> float | None:
    """The number, None for NaN, which JSON does not know."""
    return None if math.isnan(value) else float(value)
