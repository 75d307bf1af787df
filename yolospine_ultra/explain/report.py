"""What a study of explanations says: means over findings with intervals over patients, verdicts, and notes.

Written for this project; intervals by the bootstrap over patients of `evaluate.intervals`.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.evaluate.images import StudyImages
from yolospine_ultra.evaluate.intervals import or_none, patient_notes, percentile_interval, resample_weights
from yolospine_ultra.evaluate.text import bounds, number, table
from yolospine_ultra.explain.faithfulness import SHARES
from yolospine_ultra.explain.finding import RANDOM
from yolospine_ultra.explain.model import ExplainedModel
from yolospine_ultra.explain.sanity import SURVIVES
from yolospine_ultra.explain.study import Row, Settings

MEASURES = ("energy", "box_share", "hit", "deletion", "insertion", "class_difference")


def explain_report(images: StudyImages, model: ExplainedModel, settings: Settings, rows: Sequence[Row]) -> dict:
    """Summarise a study.

    Args:
        images, model, settings: of the study.
        rows: from `explain_images`.

    Returns:
        JSON-able: numbers of images, patients and findings, by class too; `summary`, a list of one entry a stage and
        method, with means `{"value", "interval"}`; `refused`, every map that is not there; `seconds_per_finding`;
        `notes`.

    Raises:
        ValueError: there is nothing to explain.
    """
    findings = {(r["image"], r["finding"]): r for r in rows}
    if not findings:
        what = "matched with a label" if settings.select == "matched" else "of the classes asked for"
        raise ValueError(f"no prediction {what} has a score above {settings.conf:g}; give a lower --conf.")
    weights = resample_weights(images.patients or ["one"] * len(images), seed=settings.seed)
    refused = [{k: r[k] for k in ("image", "finding", "class", "stage", "method", "refused")} for r in rows]
    counts = Counter(r["class"] for r in findings.values())
    report = {
        "images": len(images),
        "patients": None if images.patients is None else len(set(images.patients)),
        "settings": vars(settings) | {"imgsz": model.imgsz, "layer": model.layer, "shares": list(SHARES)},
        "findings": len(findings),
        "correct": None if images.truth is None else sum(r["correct"] for r in findings.values()),
        "classes": {name: counts[name] for name in model.names},
        "summary": _summary(images, settings, rows, weights),
        "refused": [r for r in refused if r["refused"]],
        "class_independent": sum(r["class_independent"] for r in rows),
        "seconds_per_finding": float(np.mean([r["seconds"] for r in findings.values()])),
    }
    return report | {"notes": _notes(report, settings)}


def _summary(images: StudyImages, settings: Settings, rows: Sequence[Row], weights: np.ndarray) -> list[dict[str, Any]]:
    """Means of every stage and method."""
    place = {name: i for i, name in enumerate(images.names)}
    reference = {(r["image"], r["finding"], r["stage"]): r for r in rows if r["method"] == RANDOM}
    entries = []
    for stage in dict.fromkeys(r["stage"] for r in rows):
        for method in (*settings.methods, RANDOM):
            mine = [r for r in rows if (r["stage"], r["method"]) == (stage, method)]
            kept = [r for r in mine if not r["refused"]]
            index = np.array([place[r["image"]] for r in kept], dtype=int)

            def mean(values: list[float | None], index: np.ndarray = index) -> dict[str, Any]:
                return _mean(values, index, weights)

            entry = {"stage": stage, "method": method, "maps": len(kept), "refused": len(mine) - len(kept)}
            entry |= {key: mean([r[key] for r in kept]) for key in MEASURES}
            if method != RANDOM:
                beside = [reference[r["image"], r["finding"], r["stage"]] for r in kept]
                entry |= {
                    f"{k}_gain": mean(_gains(kept, beside, k, s)) for k, s in (("deletion", -1), ("insertion", 1))
                }
                parts = list(kept[0]["sanity"]) if kept else []
                entry["sanity"] = {p: mean([r["sanity"][p] for r in kept]) for p in parts}
                entry["sane"] = _verdict(entry["sanity"][parts[-1]]) if parts else None
            entries.append(entry)
    return entries


def _mean(values: Sequence[float | None], index: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Mean over findings where it is defined, with its interval over patients; `index` is the image of each."""
    there = np.array([v is not None for v in values], dtype=bool)
    kept = np.array([float(v) for v in values if v is not None])
    if not len(kept):
        return {"value": None, "interval": [None, None], "findings": 0}
    drawn = weights[:, index[there]]
    with np.errstate(invalid="ignore"):  # a resample may have none of the findings
        means = (drawn * kept).sum(1) / drawn.sum(1)
    return {"value": or_none(means[0]), "interval": percentile_interval(means[1:]), "findings": len(kept)}


def _gains(rows: Sequence[Row], beside: Sequence[Row], key: str, sign: int) -> list[float | None]:
    """How much better each map is than the random one of the same finding."""
    return [
        None if r[key] is None or o[key] is None else sign * (r[key] - o[key])
        for r, o in zip(rows, beside, strict=True)
    ]


def _verdict(last: Mapping[str, Any]) -> str | None:
    """Whether maps depend on the weights: "passes", "fails", or "open" where the interval holds the limit."""
    if last["value"] is None:
        return None
    low, high = last["interval"]
    if low is None:  # as of one patient: a value alone does not tell on which side of the limit it lies
        return "open"
    return "passes" if high < SURVIVES else "fails" if low >= SURVIVES else "open"


def _notes(report: Mapping[str, Any], settings: Settings) -> list[str]:
    """What is missing, and why."""
    wanted = settings.classes or list(report["classes"])
    absent = [name for name in wanted if not report["classes"][name]]
    notes = []
    if absent:
        what = "correct prediction" if settings.select == "matched" else "prediction"
        notes.append(f"{', '.join(absent)}: no {what} above {settings.conf:g}, so nothing to explain.")
    if report["patients"] is None:
        notes.append("Intervals are not defined, because images without labels have no patients here.")
    else:
        notes += patient_notes(report["patients"], report["images"])
    independent = report["class_independent"]
    if independent:
        notes.append(f"ERROR: {independent} maps do not depend on the class and are not shown; see `refused`.")
    if settings.curves < 1:
        notes.append(f"Deletion and insertion are those of a random share of {settings.curves:g} of the findings.")
    empty = len(report["refused"]) - independent
    if empty:
        notes.append(f"{empty} maps have no evidence of their own for their class and are not shown; see `refused`.")
    return notes


def format_report(report: Mapping[str, Any]) -> str:
    """The dictionary of `explain_report` as text for a terminal."""
    classes = ", ".join(f"{n} {name}" for name, n in report["classes"].items() if n)
    correct = "" if report["correct"] is None else f", {report['correct']} of them correct"
    head = f"{report['findings']} findings in {report['images']} images ({classes}){correct}; "
    head += f"{report['seconds_per_finding']:.2f} s a finding"
    rows = [["stage", "map", "maps", "energy", "box", "hits", "deletion", "gain", "95%", "insertion", "gain", "95%"]]
    checks = [["stage", "map", "class difference", "left by weights", "95%", "verdict"]]
    for e in report["summary"]:
        gains = [e.get(f"{k}_gain", {"value": None, "interval": [None, None]}) for k in ("deletion", "insertion")]
        signed = [[number(g["value"]), bounds(g["interval"])] for g in gains]
        values = [number(e[k]["value"]) for k in ("energy", "box_share", "hit")]
        row = [e["stage"], e["method"], str(e["maps"]), *values]
        rows.append([*row, number(e["deletion"]["value"]), *signed[0], number(e["insertion"]["value"]), *signed[1]])
        if e.get("sanity"):
            last = list(e["sanity"].values())[-1]
            difference = number(e["class_difference"]["value"])
            checks.append(
                [e["stage"], e["method"], difference, number(last["value"]), bounds(last["interval"]), str(e["sane"])]
            )
    return "\n\n".join([head, table(rows), table(checks), *report["notes"]])


def save_rows(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write `explanations.json`, all of it, and `explanations.csv`, without the curves, a row a map."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "explanations.json", folder / "explanations.csv"]
    AtomicPath(files[0]).write_bytes(json.dumps(rows, indent=1, allow_nan=False).encode())
    flat = [_flat(r) for r in rows]
    names = list(dict.fromkeys(k for r in flat for k in r))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    AtomicPath(files[1]).write_bytes(text.getvalue().encode())
    return files


def _flat(row: Row) -> dict[str, Any]:
    """A row without lists: a column a corner and a part of the network."""
    plain = {k: v for k, v in row.items() if k not in ("box", "deleted", "inserted", "sanity")}
    corners = dict(zip(("x1", "y1", "x2", "y2"), row["box"], strict=True))
    return plain | corners | {f"sanity_{part}": v for part, v in row["sanity"].items()}
