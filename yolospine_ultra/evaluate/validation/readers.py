"""Readers beside the model: the same table for each, and whether they differ.

Source: Masood and Taj 2026, "Clinical Validation", which puts sensitivity and specificity of two clinicians beside the
model's and calls them comparable, without a test. Here, for each reader, on the images that the reader read:

McNemar's exact test (1947) of model against reader, two-sided, by scipy's binomial test of the discordant pairs: of
    `findings`, is each label found (matched with a box of its class) or missed, where the reader gave boxes; and of
    `image_classes`, is each class of each image rightly called present or absent. It takes pairs for independent,
    which findings of one patient are not, and is not corrected for the number of tests.
Difference of sensitivity and specificity, model - reader, at the levels of `rates`, with a percentile interval of the
    bootstrap over patients in which both are drawn together. Non-inferior: the lower end of the two-sided 95%
    interval is above -margin (Piaggio et al. 2012, CONSORT), the margin, and which of the differences decides, having
    been fixed before. A percentile interval of a few patients is too narrow, and often ends at 0: with fewer than
    `LEAST_PATIENTS` that have a trial (a rule of this house) the interval stands without a verdict. So does specificity
    of boxes, which false alarms of other classes raise (`rates`).
Cohen's kappa (1960) of every two raters, the model among them, by scikit-learn: of classes called present, on the
    images that both read, for each class and for all (image, class) cells together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import draw_patients, or_none, patient_notes, percentile_interval
from yolospine_ultra.evaluate.matching import match_by_class
from yolospine_ultra.evaluate.validation.agreement import IOU
from yolospine_ultra.evaluate.validation.external import missing_labels
from yolospine_ultra.evaluate.validation.operating_points import apply_thresholds
from yolospine_ultra.evaluate.validation.rates import AVERAGES, KINDS, Counts, count_images, presence
from yolospine_ultra.evaluate.validation.rating import Rating, rate_findings, rating_table
from yolospine_ultra.evaluate.validation.reader_files import MODEL, Reading

MARGIN = 0.05
LEAST_PATIENTS = 10


def reader_report(
    truth: Sequence[ImageFindings],
    found: Sequence[ImageFindings],
    thresholds: np.ndarray,
    readings: Sequence[Reading],
    names: Sequence[str],
    patients: Sequence[str],
    margin: float = MARGIN,
    iou: float = IOU,
) -> dict[str, Any]:
    """Compare a model with readers, and readers with each other.

    Args:
        truth: labelled findings of I images.
        found: the model's findings with scores, of the same images in the same order.
        thresholds: (C,) least score of each class's findings.
        readings: of the readers, for the same images (`reader_files.read_readings`).
        names: of the C classes.
        patients: of each image (`intervals.patients_of`).
        margin: of non-inferiority, above 0 and below 1, a difference of shares.
        iou: least IoU of a match, above 0 and at most 1.

    Returns:
        A dictionary that JSON can hold: images, patients, iou, margin, thresholds; `model`, `rating.rating_table` on
        all images; `readers`, for each: images and patients read, `reader` and `model` (the table on these images),
        `mcnemar` and `difference`; `kappa`, for every two raters; and `notes`.

    Raises:
        ValueError: other images in `found`, no scores, a class beyond `names`, `iou` or `margin` out of range.
    """
    if not 0 < margin < 1:
        raise ValueError(f"margin={margin}: expected above 0 and below 1, a difference of shares such as 0.05.")
    weights, found = draw_patients(patients), apply_thresholds(found, thresholds)
    model = rating_table(rate_findings(truth, found, len(names), iou), names, weights)
    idle = [r.reader for r in readings if not r.read.any()]
    readers = {
        r.reader: _compare(truth, found, r, names, patients, margin, iou) for r in readings if r.reader not in idle
    }
    notes = missing_labels(model) + patient_notes(len(set(patients)), len(truth))
    notes += [f"{name} read none of these images and is left out." for name in idle]
    notes.append("Of the verdicts the one counts that was named before the study; the others are exploratory.")
    if len(readers) > 1:
        notes.append(f"{len(readers)} readers: p values are not corrected for the number of tests.")
    return {
        "images": len(truth),
        "patients": len(set(patients)),
        "iou": iou,
        "margin": margin,
        "thresholds": dict(zip(names, map(float, thresholds), strict=True)),
        "model": model,
        "readers": readers,
        "kappa": _kappas(presence(found, len(names)), [r for r in readings if r.reader not in idle], names),
        "notes": notes,
    }


def _compare(
    truth: Sequence[ImageFindings],
    found: Sequence[ImageFindings],
    reading: Reading,
    names: Sequence[str],
    patients: Sequence[str],
    margin: float,
    iou: float,
) -> dict[str, Any]:
    """Model and one reader on the images that the reader read."""
    kept = np.flatnonzero(reading.read)
    truth, found, patients = ([x[i] for i in kept] for x in (truth, found, patients))
    nc, weights, present = len(names), draw_patients(patients), presence(truth, len(names))
    model = rate_findings(truth, found, nc, iou)
    if reading.boxes is None:
        rated = Rating(None, count_images(present, reading.present[kept]))
        model = replace(model, matrices=None)  # what cannot be compared is shown for all images, not here
    else:
        rated = rate_findings(truth, [reading.boxes[i] for i in kept], nc, iou)
    right = (presence(found, nc) == present, reading.present[kept] == present)
    cells = np.broadcast_to(np.arange(nc), present.shape)
    tests = {"image_classes": _mcnemar_table(*(x.ravel() for x in (*right, cells)), names)}
    if reading.boxes is not None:
        both = (_found(truth, x, iou) for x in (found, [reading.boxes[i] for i in kept]))
        tests["findings"] = _mcnemar_table(*both, np.concatenate([t.classes for t in truth]), names)
    levels = {
        level: _differences(counts, rated.levels()[level], names, patients, margin, level)
        for level, counts in model.levels().items()
    }
    return {
        "images": len(kept),
        "patients": len(set(patients)),
        "reader": rating_table(rated, names, weights),
        "model": rating_table(model, names, weights),
        "mcnemar": tests,
        "difference": levels,
    }


def _found(truth: Sequence[ImageFindings], found: Sequence[ImageFindings], iou: float) -> np.ndarray:
    """Whether each label of all images is matched with a box of its class: (labels,) bool."""
    return np.concatenate([match_by_class(t, f, iou) >= 0 for t, f in zip(truth, found, strict=True)])


def mcnemar(model: np.ndarray, reader: np.ndarray) -> dict[str, Any]:
    """McNemar's exact test.

    Args:
        model, reader: (N,) bool, whether each is right in the same N cases.

    Returns:
        cases; both, model_only, reader_only, neither: how many are right; p: two-sided, 1 without discordant cases,
        None without any case.
    """
    counts = {
        "cases": len(model),
        "both": int((model & reader).sum()),
        "model_only": int((model & ~reader).sum()),
        "reader_only": int((~model & reader).sum()),
        "neither": int((~model & ~reader).sum()),
    }
    discordant = counts["model_only"] + counts["reader_only"]
    p = float(binomtest(counts["model_only"], discordant).pvalue) if discordant else 1.0 if len(model) else None
    return counts | {"p": p}


def _mcnemar_table(model: np.ndarray, reader: np.ndarray, classes: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """McNemar's test for each class and for all cases; (N,) arrays, `classes` of each case."""
    made = {name: mcnemar(model[classes == k], reader[classes == k]) for k, name in enumerate(names)}
    return {"classes": made, "all": mcnemar(model, reader)}


def _differences(
    model: Counts, reader: Counts, names: Sequence[str], patients: Sequence[str], margin: float, level: str
) -> dict[str, Any]:
    """Model - reader of every rate, in the same order as `rates.rate_table`, with a verdict each; (I, C) counts."""
    whole, weights = np.ones((1, len(patients)), dtype=np.int64), draw_patients(patients)
    own = np.unique(np.asarray(patients), return_inverse=True)[1] == np.arange(len(set(patients)))[:, None]
    labelled = model.summed().trials("sensitivity")[1] > 0
    made: dict[str, Any] = {"classes": {name: {} for name in names}, **{how: {} for how in AVERAGES}}
    for kind in KINDS:
        decides = (level, kind) != ("box_level", "specificity")
        both = [[side.drawn(w) for side in (model, reader)] for w in (whole, weights)]
        value, drawn = (a.rate(kind) - b.rate(kind) for a, b in both)
        trials = np.minimum(*(side.trials(kind)[1] for side in (model, reader)))
        having = own @ trials > 0  # (patients, C): who has a trial of which class
        for k, name in enumerate(names):
            made["classes"][name][kind] = _verdict(value[0, k], drawn[:, k], int(having[:, k].sum()), margin, decides)
        # a macro average rests on each of its classes, a count-weighted one on all trials together
        counted = labelled & having.any(0)
        least = {"macro": min(having[:, counted].sum(0), default=0), "count_weighted": having[:, counted].any(1).sum()}
        for how in AVERAGES:
            value, drawn = (np.subtract(*(side.average(kind, how, counted) for side in pair)) for pair in both)
            made[how][kind] = _verdict(value[0], drawn, int(least[how]), margin, decides)
    return made


def _verdict(value: float, drawn: np.ndarray, patients: int, margin: float, decides: bool) -> dict[str, Any]:
    """A difference, its interval over patients, and what they say about the margin where it `decides` anything.

    `patients` have a trial.
    """
    low, high = percentile_interval(drawn)
    if np.isnan(value):
        verdict = "not defined: nothing to compare"
    elif not decides:
        verdict = "none: false alarms of other classes raise it"
    elif low is None:
        verdict = "not defined: the resamples do not differ"
    elif patients < LEAST_PATIENTS:
        verdict = f"not defined: of {patients} patients, fewer than {LEAST_PATIENTS}"
    elif low > -margin:
        verdict = "superior" if low > 0 else "non-inferior"
    else:
        verdict = "inferior" if high < -margin else "non-inferiority not shown"
    return {"value": or_none(value), "patients": [low, high], "with_trials": patients, "verdict": verdict}


def _kappas(model: np.ndarray, readings: Sequence[Reading], names: Sequence[str]) -> dict[str, Any]:
    """Kappa of every two raters, named "A / B"; `model` (I, C) bool."""
    raters = [(MODEL, np.ones(len(model), dtype=bool), model), *((r.reader, r.read, r.present) for r in readings)]
    made = {}
    for (first, read, a), (second, too, b) in combinations(raters, 2):
        both = read & too
        classes = {name: kappa(a[both, k], b[both, k]) for k, name in enumerate(names)}
        made[f"{first} / {second}"] = {"classes": classes, "all": kappa(a[both].ravel(), b[both].ravel())}
    return made


def kappa(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Cohen's kappa of two raters.

    Args:
        first, second: (N,) bool, what each says of the same N cases.

    Returns:
        cases; agree, the share of cases in which both say the same; kappa, -1..1. None where it is not defined, and
        `why`: there is no case, or both say the same of all.
    """
    cases = len(first)
    row = {"cases": cases, "agree": float((first == second).mean()) if cases else None, "kappa": None}
    if not cases:
        return row | {"why": "not defined, because no image was read by both"}
    if len(np.union1d(first, second)) < 2:
        return row | {"why": f"not defined, because both say {'present' if first[0] else 'absent'} of all"}
    return row | {"kappa": float(cohen_kappa_score(first, second))}
