"""External validation: how a model that is finished does on images of another place.

Source: Masood and Taj 2026, "External Dataset" and "Clinical Validation". The numbers are those of `rating` (agreement
with background as a class, the paper's matched-only form beside it, sensitivity and specificity) and `froc`, at
thresholds that were fixed before, with intervals over patients. Seconds a scan are measured elsewhere and given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import draw_patients, patient_notes
from yolospine_ultra.evaluate.text import bounds, number, table
from yolospine_ultra.evaluate.validation.agreement import IOU
from yolospine_ultra.evaluate.validation.froc import Ranked, froc_report
from yolospine_ultra.evaluate.validation.operating_points import apply_thresholds
from yolospine_ultra.evaluate.validation.rating import format_rating, rate_findings, rating_table


def external_report(
    truth: Sequence[ImageFindings],
    found: Sequence[ImageFindings],
    names: Sequence[str],
    thresholds: np.ndarray,
    ranked: Sequence[Ranked],
    patients: Sequence[str],
    iou: float = IOU,
) -> dict[str, Any]:
    """Measure a model's predictions against labels.

    Args:
        truth: labelled findings of I images.
        found: findings with scores of the same images in the same order, down to a low score for the FROC.
        names: of the C classes.
        thresholds: (C,) least score of each class's predictions, in everything but the FROC.
        ranked: the predictions of each class, of `froc.rank`.
        patients: of each image (`intervals.patients_of`).
        iou: least IoU of a match, above 0 and at most 1.

    Returns:
        A dictionary that JSON can hold: images, patients, iou, thresholds; what `rating.rating_table` gives; `froc`,
        of `froc.froc_report`; and `notes`, sentences on what is not defined or not sure.

    Raises:
        ValueError: other images in `found`, no scores, a class beyond `names`, or `iou` out of range.
    """
    weights = draw_patients(patients)
    rating = rate_findings(truth, apply_thresholds(found, thresholds), len(names), iou)
    report = {
        "images": len(truth),
        "patients": len(set(patients)),
        "iou": iou,
        "thresholds": dict(zip(names, map(float, thresholds), strict=True)),
        **rating_table(rating, names, weights),
        "froc": froc_report(ranked, names, weights),
    }
    return report | {"notes": _notes(report)}


def _notes(report: Mapping[str, Any]) -> list[str]:
    """What a reader of the numbers has to know."""
    notes = missing_labels(report) + patient_notes(report["patients"], report["images"])
    last, most = report["froc"]["curves"]["all"]["reached"], report["froc"]["rates"][-1]
    if last < most:
        notes.append(
            f"FROC: the predictions end at {last:.3g} false positives an image; beyond, sensitivity is taken as "
            "constant. Predictions down to a lower score (`yolo val conf=0.001`) may give more."
        )
    return notes


def missing_labels(report: Mapping[str, Any]) -> list[str]:
    """A sentence on the classes of a rating without ground truth, none where all have some."""
    absent = [n for n, c in report["image_level"]["classes"].items() if not c["sensitivity"]["trials"]]
    if not absent:
        return []
    names = ", ".join(absent)
    return [
        f"No image has a label of {names}: sensitivity and F1 are not defined and no average has {names}, but "
        "predictions of it count as false. If nobody graded it here, leave it out with --ungraded."
    ]


def format_external(report: Mapping[str, Any]) -> str:
    """The dictionary of `external_report`, with `seconds` where it has them, as text for a terminal."""
    head = f"{report['images']} images of {report['patients']} patients; {format_levels(report)}"
    parts = [head, format_rating(report), _format_froc(report["froc"])]
    if "seconds" in report:
        parts.append("\n".join(format_seconds(k, v) for k, v in report["seconds"].items()))
    return "\n\n".join(parts + [f"Note: {note}" for note in report["notes"]])


def format_levels(report: Mapping[str, Any]) -> str:
    """Least IoU of a match and least score of a prediction, class by class where they differ."""
    points = {n: f"{v:.3g}" for n, v in report["thresholds"].items()}
    same = len(set(points.values())) == 1
    scores = next(iter(points.values())) if same else ", ".join(f"{n} {v}" for n, v in points.items())
    return f"IoU >= {report['iou']:g}, score >= {scores}"


def _format_froc(froc: Mapping[str, Any]) -> str:
    rows = [["class", *(f"{r:g}" for r in froc["rates"]), "mean", "95% patients", "reached"]]
    for name, c in froc["curves"].items():
        values = c["sensitivity"] or [None] * len(froc["rates"])
        ends = [number(c["mean"]), bounds(c["patients"]), number(c["reached"], 1)]
        rows.append([name, *(number(v) for v in values), *ends])
    return f"FROC: sensitivity at so many false positives an image, all scores\n{table(rows)}"


def format_seconds(rater: str, seconds: Mapping[str, Any]) -> str:
    """A rater's seconds a scan in one line."""
    if seconds["scans"] is None:
        return f"Seconds a scan, {rater}: {seconds['mean']:.3g} (as given)"
    spread = f"median {seconds['median']:.3g}, {seconds['min']:.3g} to {seconds['max']:.3g}"
    return f"Seconds a scan, {rater}: mean {seconds['mean']:.3g}, {spread}, {seconds['scans']} scans"
