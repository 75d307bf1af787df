"""How often disc levels are right, on labels of which some discs are taken away, and on predictions.

Written for this project; the numbering is `evaluate.levels`. A detector's misses are imitated by removing all findings
of randomly chosen levels. The removal is repeated with other draws; its Wilson interval would take the repeats and the
discs of a patient for independent, so that intervals here are those of a bootstrap over patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import draw_patients, percentile_interval
from yolospine_ultra.evaluate.levels.assign import DISC_CLASSES, assign_levels
from yolospine_ultra.evaluate.levels.spine_profile import SpineProfile, measure_profile
from yolospine_ultra.evaluate.matching import iou_matrix
from yolospine_ultra.evaluate.text import bounds, number, table
from yolospine_ultra.grading.boxes import GradedBoxes
from yolospine_ultra.grading.crops import plane_height

REMOVED = (0, 1, 2)
REPEATS = 5


@dataclass(frozen=True, eq=False)
class LevelledImage:
    """An image whose findings have known levels.

    Attributes:
        findings: labelled findings.
        levels: (N,) str, the level of each.
        patient: whom it shows.
        height: of the image in pixels.
    """

    findings: ImageFindings
    levels: np.ndarray
    patient: str
    height: float


def levelled_images(boxes: GradedBoxes, names: Sequence[str]) -> list[LevelledImage]:
    """The images of graded boxes, one finding for each class of a box.

    Raises:
        ValueError: a class that `names` does not have, an image that cannot be read, or no level in any row.
    """
    if not any(boxes.levels):
        raise ValueError("annotations.csv gives no levels; expected a column `level` with L5/S1 and so on.")
    made = []
    for rows in boxes.by_image():
        pairs = [(i, c) for i in rows if boxes.levels[i] for c in boxes.classes[i]]
        unknown = sorted({c for _, c in pairs} - set(names))
        if unknown:
            raise ValueError(f"annotations.csv has the class {unknown[0]!r}; the classes are {', '.join(names)}.")
        index = np.array([i for i, _ in pairs], dtype=int)
        file, patient = boxes.files[rows[0]], boxes.patients[rows[0]]
        findings = ImageFindings(file.name, boxes.boxes[index], np.array([names.index(c) for _, c in pairs], dtype=int))
        made.append(LevelledImage(findings, boxes.levels[index], patient, plane_height(file)))
    return made


def fit_profile(images: Sequence[LevelledImage], names: Sequence[str]) -> SpineProfile:
    """Measure the `SpineProfile` of images; of the findings of a level the first disc counts."""
    spines = []
    for x in images:
        disc = np.flatnonzero(_is_disc(x.findings, names))
        first = np.unique(x.levels[disc], return_index=True)[1]
        spines.append((x.findings.boxes[disc[first]], x.levels[disc[first]].tolist(), x.height))
    return measure_profile(spines)


def removal_study(
    images: Sequence[LevelledImage],
    names: Sequence[str],
    profile: SpineProfile | None = None,
    with_height: bool = True,
    removed: Sequence[int] = REMOVED,
    repeats: int = REPEATS,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy of levels where discs are missing.

    Args:
        images: with known levels.
        names: class names by index.
        profile: as in `assign_levels`.
        with_height: let the numbering see how far the image goes on below the lowest disc.
        removed: numbers of levels to take away; at least two are left.
        repeats: draws of them for each image.
        seed: of the draws.

    Returns:
        images, patients, with_height, repeats, and `removed`: for each number `accuracy_rows`.
    """
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for count in removed:
        tables = []
        for x in images:
            for _ in range(repeats if count else 1):
                kept = _remove(x, count, names, rng)
                height = x.height if with_height else None
                given = np.array(assign_levels(kept.findings, names, height, profile).levels, dtype=object)
                tables.append((x.patient, given == kept.levels, _is_disc(kept.findings, names)))
        made[str(count)] = accuracy_rows(tables)
    patients = len({x.patient for x in images})
    return {"images": len(images), "patients": patients, "with_height": with_height, "repeats": repeats} | {
        "removed": made
    }


def _is_disc(findings: ImageFindings, names: Sequence[str]) -> np.ndarray:
    return np.isin(findings.classes, [i for i, n in enumerate(names) if n in DISC_CLASSES])


def _remove(x: LevelledImage, count: int, names: Sequence[str], rng: np.random.Generator) -> LevelledImage:
    """The image without all findings of `count` random levels."""
    present = np.unique(x.levels[_is_disc(x.findings, names)])
    gone = rng.choice(present, size=min(count, max(len(present) - 2, 0)), replace=False)
    keep = ~np.isin(x.levels, gone)
    left = ImageFindings(x.findings.name, x.findings.boxes[keep], x.findings.classes[keep])
    return LevelledImage(left, x.levels[keep], x.patient, x.height)


def accuracy_rows(tables: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Shares of right levels.

    Args:
        tables: of each image its patient, (N,) bool whether each finding's level is right, (N,) bool whether it is a
            disc.

    Returns:
        `discs`, `beside` (findings that are no discs) and `images` (all findings right): value, hits, trials, and
        `patients`, the 95% interval of a bootstrap over patients; None where there is nothing.
    """
    weights = draw_patients([p for p, _, _ in tables])
    columns = {
        "discs": [(right[disc].sum(), disc.sum()) for _, right, disc in tables],
        "beside": [(right[~disc].sum(), (~disc).sum()) for _, right, disc in tables],
        "images": [(bool(len(right) and right.all()), bool(len(right))) for _, right, _ in tables],
    }
    made = {}
    for name, counts in columns.items():
        hits, trials = np.array(counts, dtype=np.int64).reshape(-1, 2).T
        drawn = weights @ trials
        values = np.divide(weights @ hits, drawn, out=np.full(len(weights), np.nan), where=drawn > 0)
        total = int(trials.sum())
        value = float(hits.sum() / total) if total else None
        made[name] = {"value": value, "hits": int(hits.sum()), "trials": total, "patients": percentile_interval(values)}
    return made


def prediction_study(
    images: Sequence[LevelledImage],
    found: Sequence[ImageFindings],
    names: Sequence[str],
    profile: SpineProfile | None = None,
    with_height: bool = True,
    iou: float = 0.5,
) -> dict[str, Any]:
    """Accuracy of the levels of predicted findings.

    Args:
        images: with known levels, whose `findings.name` is a file name.
        found: predictions that count, of the same or more images; names may have folders before the file name.
        names, profile, with_height: as in `removal_study`.
        iou: least IoU with a labelled disc of whatever class, whose level is then the true one. Predictions without
            one, such as a disc that nobody labelled, are counted and have no true level.

    Returns:
        `accuracy_rows` of the discs that were matched, `unmatched` predictions, and images without any `prediction`.
    """
    by_name = {Path(x.name).name: x for x in found}
    tables, unmatched, without = [], 0, 0
    for x in images:
        predicted = by_name.get(Path(x.findings.name).name)
        if predicted is None or not len(predicted):
            without += 1
            continue
        given = np.array(assign_levels(predicted, names, x.height if with_height else None, profile).levels, object)
        disc = _is_disc(x.findings, names)
        overlap = iou_matrix(predicted.boxes, x.findings.boxes[disc])
        matched = overlap.max(1, initial=0) >= iou
        true = x.levels[disc][overlap[matched].argmax(1)] if matched.any() else np.zeros(0, dtype=object)
        unmatched += int((~matched).sum())
        tables.append((x.patient, given[matched] == true, np.ones(len(true), dtype=bool)))
    rows = accuracy_rows(tables)
    return {"discs": rows["discs"], "images": rows["images"], "unmatched": unmatched, "without_prediction": without}


def format_study(report: dict[str, Any]) -> str:
    """A removal study, and a prediction study where there is one, as a table for a terminal."""
    edge = "with" if report["with_height"] else "without"
    head = (
        f"Disc levels of {report['images']} images of {report['patients']} patients, {edge} the image's lower edge; "
        f"discs removed at random, {report['repeats']} times an image"
    )
    rows = [["", "findings", "right", "95% over patients"]]
    studies = {f"{n} removed": r for n, r in report["removed"].items()}
    if "predictions" in report:
        studies["predictions"] = report["predictions"]
    for title, study in studies.items():
        for what in ("discs", "beside", "images"):
            row = study.get(what)
            if row and row["trials"]:
                label = {"discs": "discs", "beside": "SS, SP", "images": "whole images"}[what]
                rows.append([f"{title}: {label}", str(row["trials"]), number(row["value"]), bounds(row["patients"])])
    text = f"{head}\n{table(rows)}"
    if "predictions" in report:
        p = report["predictions"]
        text += f"\n{p['unmatched']} predictions at no labelled disc; {p['without_prediction']} images without any"
    return text
