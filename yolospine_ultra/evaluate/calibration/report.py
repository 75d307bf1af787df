"""The calibration of a model's predictions as one dictionary and as text, before and after temperature scaling.

Written for this project; the definitions stand in `calibration`. What is reported as "after" is of patients that the
temperatures were not fitted on: a second set, or the folds of a cross-fit. The temperatures that are kept for
prediction are fitted on all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolospine_ultra.evaluate.calibration.error import (
    BINS,
    LEAST_BOXES,
    Judged,
    Temperatures,
    bin_of,
    cross_fit,
    detection_ece,
    drawn_ece,
    fit_temperatures,
    judge,
    log_loss,
    scale_scores,
)
from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import (
    RESAMPLES,
    draw_patients,
    or_none,
    patient_notes,
    percentile_interval,
    wilson,
)
from yolospine_ultra.evaluate.text import bounds, number, table

ALL = "all"


@dataclass(frozen=True, eq=False)
class PatientSet:
    """Labelled and predicted findings of the same images in the same order, and the patient of each."""

    truth: Sequence[ImageFindings]
    predicted: Sequence[ImageFindings]
    patients: Sequence[str]


@dataclass(frozen=True)
class Rules:
    """How calibration is measured and fitted.

    Attributes:
        iou: least IoU of a right detection.
        conf: least score of a detection that counts, before scaling; the same detections count after it.
        bins: of D-ECE and diagram.
        folds: of the cross-fit.
        least: labelled boxes that a class needs for a temperature of its own.
        resamples, seed: of the bootstrap over patients.
    """

    iou: float = 0.5
    conf: float = 0.05
    bins: int = BINS
    folds: int = 5
    least: int = LEAST_BOXES
    resamples: int = RESAMPLES
    seed: int = 0


def calibration_report(
    fit: PatientSet, names: Sequence[str], rules: Rules | None = None, held_out: PatientSet | None = None
) -> dict[str, Any]:
    """Fit temperatures and measure calibration on patients that they were not fitted on.

    Args:
        fit: to fit on; cross-fitted by patient where there is no second set.
        names: class names.
        rules: None for the defaults.
        held_out: to measure on, of other patients.

    Returns:
        A dictionary that JSON can hold: `images`, `patients`, the rules; `temperatures` fitted on all of `fit`
        (`classes`, `shared`, `fallbacks` with reasons, `unfit`); `evaluated`, `cross-fit` or `held-out`;
        `fold_temperatures` by class of the cross-fit; `classes`: for "all" and each class `boxes`, `detections`,
        `right`, `before` and `after`, each with `d_ece`, `log_loss`, `brier` and `bins`, and `change`, D-ECE after
        minus before, with the 95% `interval` over patients. None where not defined, and then `why`.

    Raises:
        ValueError: patients that are in both sets, or nothing can be fitted.
    """
    rules = rules or Rules()
    judged = judge(fit.truth, fit.predicted, len(names), rules.iou, rules.conf)
    temperatures = fit_temperatures(judged, rules.least)
    report = {
        "images": len(fit.truth),
        "patients": len(set(fit.patients)),
        **vars(rules),
        "temperatures": _described(temperatures, names),
        "evaluated": "cross-fit" if held_out is None else "held-out",
    }
    if held_out is None:
        measured, patients = judged, fit.patients
        after, fitted = cross_fit(judged, patients, rules.folds, rules.least)
        report["fold_temperatures"] = {n: [t.values[c] for t in fitted] for c, n in enumerate(names)}
    else:
        both = sorted(set(fit.patients) & set(held_out.patients))
        if both:
            raise ValueError(f"{len(both)} patients are in both sets, such as {both[0]!r}; expected other patients.")
        patients = held_out.patients
        measured = judge(held_out.truth, held_out.predicted, len(names), rules.iou, rules.conf)
        after = scale_scores(measured.scores, measured.classes, temperatures.values)
        report |= {"held_out_images": len(held_out.truth), "held_out_patients": len(set(patients))}
    draws = draw_patients(patients, rules.resamples, rules.seed)
    boxes = measured.boxes.sum(0)
    labelled = boxes[measured.classes] > 0
    rows = {ALL: _measure(measured, after, labelled, int(boxes.sum()), draws, rules.bins)}
    for c, name in enumerate(names):
        rows[name] = _measure(measured, after, labelled & (measured.classes == c), int(boxes[c]), draws, rules.bins)
    return report | {"classes": rows}


def _described(temperatures: Temperatures, names: Sequence[str]) -> dict[str, Any]:
    """Temperatures by class name, with what a reader must know about them."""
    return {
        "classes": dict(zip(names, temperatures.values, strict=True)),
        "shared": temperatures.shared,
        "fallbacks": {names[c]: why for c, why in temperatures.fallbacks.items()},
        "unfit": [names[c] for c in temperatures.unfit],
    }


def _measure(
    judged: Judged, after: np.ndarray, keep: np.ndarray, boxes: int, draws: np.ndarray, bins: int
) -> dict[str, Any]:
    """Calibration of some detections before and after."""
    own, scaled = judged.only(keep), after[keep]
    row: dict[str, Any] = {"boxes": boxes, "detections": len(own), "right": int(own.right.sum())}
    if not boxes or not len(own):
        why = "no labelled box in these images" if not boxes else "no detection"
        return row | {"before": None, "after": None, "change": None, "interval": [None, None], "why": why}
    weights = draws[:, own.image].astype(float)
    drawn = drawn_ece(scaled, own.right, weights, bins) - drawn_ece(own.scores, own.right, weights, bins)
    row |= {"before": _scores(own.scores, own.right, bins), "after": _scores(scaled, own.right, bins)}
    change = row["after"]["d_ece"] - row["before"]["d_ece"]
    return row | {"change": change, "interval": percentile_interval(drawn), "why": None}


def _scores(scores: np.ndarray, right: np.ndarray, bins: int) -> dict[str, Any]:
    """D-ECE, log loss, Brier score, and what each bin holds."""
    return {
        "d_ece": detection_ece(scores, right, bins),
        "log_loss": log_loss(scores, right),
        "brier": float(np.mean((scores - right) ** 2)),
        "bins": [_bin(scores, right, b, bins) for b in range(bins)],
    }


def _bin(scores: np.ndarray, right: np.ndarray, b: int, bins: int) -> dict[str, Any]:
    """Detections of one bin: count, mean score, precision with its Wilson 95% interval; None where it is empty."""
    own = bin_of(scores, bins) == b
    n, hits = int(own.sum()), int(right[own].sum())
    return {
        "low": b / bins,
        "high": (b + 1) / bins,
        "detections": n,
        "score": float(scores[own].mean()) if n else None,
        "precision": hits / n if n else None,
        "interval": [or_none(v) for v in wilson(hits, n)],
    }


def format_report(report: Mapping[str, Any]) -> str:
    """The dictionary of `calibration_report` as text for a terminal."""
    t = report["temperatures"]
    if report["evaluated"] == "cross-fit":
        where = f"after: cross-fitted in {report['folds']} folds of patients"
    else:
        where = f"after: on {report['held_out_images']} images of {report['held_out_patients']} other patients"
    head = (
        f"{report['images']} images of {report['patients']} patients; detections with a score >= {report['conf']:g}, "
        f"right at IoU >= {report['iou']:g}, {report['bins']} bins of the score; {where}"
    )
    columns = ["class", "boxes", "detections", "right", "D-ECE", "after", "change", "95%"]
    rows = [[*columns, "log loss", "after", "Brier", "after", "T"]]
    for name, r in report["classes"].items():
        value = number(t["shared"] if name == ALL else t["classes"][name], 2)
        mark = "*" if name in t["fallbacks"] or name == ALL else ""
        rows.append([name, *(str(r[k]) for k in ("boxes", "detections", "right")), *_cells(r), value + mark])
    notes = ["T is fitted on all patients, * shared by all classes together."]
    notes += patient_notes(report["patients"], report["images"])
    notes += [f"{n} has the shared temperature: {why}." for n, why in t["fallbacks"].items()]
    notes += [f"No temperature fits the scores of {n}: it is left as it is, T = 1." for n in t["unfit"]]
    undefined = {n: r["why"] for n, r in report["classes"].items() if r["why"]}
    notes += [f"{n}: calibration is not defined, because there is {why}." for n, why in undefined.items()]
    return "\n".join([head, table(rows), *notes])


def _cells(row: Mapping[str, Any]) -> list[str]:
    """Numbers before and after."""
    if row["before"] is None:
        return ["-"] * 8
    before, after = row["before"], row["after"]
    change = [number(row["change"]), bounds(row["interval"])]
    pairs = [number(x[k]) for k in ("log_loss", "brier") for x in (before, after)]
    return [number(before["d_ece"]), number(after["d_ece"]), *change, *pairs]
