"""The robustness of some models as one dictionary, and as text.

Written for this project; what is measured stands in `measure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolospine_ultra.evaluate.images import StudyImages
from yolospine_ultra.evaluate.intervals import patient_notes
from yolospine_ultra.evaluate.text import bounds, number, table
from yolospine_ultra.robustness.degrade import DEGRADATIONS, Condition
from yolospine_ultra.robustness.measure import IOU, LEAST_DROP, corruption_errors, relative_corruption_errors
from yolospine_ultra.robustness.study import CLEAN, Cell, Cells, Settings

MEANS = (
    "map50_95", "map50", "drop", "retention", "false_per_image", "matched_iou", "confidence_change", "psnr_db", "ssim",
)  # fmt: skip


def robustness_report(
    images: StudyImages,
    models: Mapping[str, str],
    conditions: Sequence[Condition],
    settings: Settings,
    cells: Cells,
    baseline: str | None = None,
) -> dict[str, Any]:
    """All cells of a study in one dictionary that JSON can hold.

    Args:
        images, conditions, settings, cells: of a study that is complete.
        models: file of the weights, by name.
        baseline: name of the model that corruption errors are relative to, None for none.

    Returns:
        `images`, `patients` (None without labels), the settings, `iou`; `degradations`: title, parameter and levels of
        each type; `baseline`; `models`: of each `weights`, `clean`, `conditions` (cells by type, a list by level),
        `means` over the levels of each type, with its corruption errors, and `summary`, means over types:
        `mean_map50_95` under degradation and its share of the clean one (`relative_map50_95`), `corruption_error`,
        `relative_corruption_error`, `retention`. None where not defined, and then `notes` says why.

    Raises:
        ValueError: the baseline is none of the models.
    """
    if baseline is not None and baseline not in models:
        raise ValueError(f"baseline {baseline!r} is none of the models {', '.join(models)}.")
    kinds = list(dict.fromkeys(c.kind for c in conditions))
    report: dict[str, Any] = {
        "images": len(images),
        "patients": None if images.patients is None else len(set(images.patients)),
        **vars(settings),
        "iou": IOU,
        "degradations": {
            k: {
                "title": DEGRADATIONS[k].title,
                "parameter": DEGRADATIONS[k].parameter,
                "levels": list(DEGRADATIONS[k].levels),
            }
            for k in kinds
        },
        "baseline": baseline,
        "models": {},
    }
    for name, weights in models.items():
        found = {k: [_cell(cells, name, str(c)) | _named(c) for c in conditions if c.kind == k] for k in kinds}
        report["models"][name] = {
            "weights": weights,
            "clean": _cell(cells, name, CLEAN),
            "conditions": found,
            "means": {k: {v: _mean([c.get(v) for c in found[k]]) for v in MEANS} for k in kinds},
        }
    for model in report["models"].values():
        _add_errors(model, report["models"].get(baseline))
        model["summary"] = _summary(model)
    report["notes"] = _notes(report)
    return report


def _cell(cells: Cells, model: str, condition: str) -> Cell:
    """A cell that is there."""
    cell = cells.get(model, condition)
    if cell is None:
        raise ValueError(f"{condition} of {model} is not measured; run the study first.")
    return dict(cell)


def _named(condition: Condition) -> Cell:
    return {"level": condition.level, "value": condition.value}


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of values, None where one is not defined."""
    return None if not values or any(v is None for v in values) else sum(values) / len(values)


def _add_errors(model: dict[str, Any], baseline: Mapping[str, Any] | None) -> None:
    """Corruption errors of each type into the model's means; None without baseline or labels."""
    absolute = relative = dict.fromkeys(model["means"])
    if baseline is not None and model["clean"].get("map50_95") is not None:
        absolute = corruption_errors(*(_by_type(m, "map50_95") for m in (model, baseline)))
        relative = relative_corruption_errors(*(_by_type(m, "drop") for m in (model, baseline)))
    for kind, means in model["means"].items():
        means |= {"corruption_error": absolute[kind], "relative_corruption_error": relative[kind]}


def _by_type(model: Mapping[str, Any], key: str) -> dict[str, list[float]]:
    """A value of every level, by type."""
    return {k: [c[key] for c in cells] for k, cells in model["conditions"].items()}


def _summary(model: Mapping[str, Any]) -> dict[str, float | None]:
    """Means over types; relative corruption errors over the types where they are defined."""
    clean, means = model["clean"].get("map50_95"), list(model["means"].values())
    mean = _mean([m["map50_95"] for m in means])
    return {
        "mean_map50_95": mean,
        "relative_map50_95": mean / clean if clean and mean is not None else None,
        "retention": _mean([m["retention"] for m in means]),
        "corruption_error": _mean([m["corruption_error"] for m in means]),
        "relative_corruption_error": _mean(
            [m["relative_corruption_error"] for m in means if m["relative_corruption_error"] is not None]
        ),
    }


def _notes(report: Mapping[str, Any]) -> list[str]:
    """Why values are not defined."""
    notes, models = [], report["models"]
    if report["patients"] is None:
        notes.append("mAP, its drop and corruption errors are not defined, because the images have no labels.")
    elif all(m["clean"]["map50_95"] is None for m in models.values()):
        notes.append("mAP, its drop and corruption errors are not defined, because no image has a labelled box.")
    else:
        empty = sorted({c for m in models.values() for c, v in m["clean"]["classes"].items() if v is None})
        if empty:
            notes.append(f"{', '.join(empty)}: not labelled in these images, and in no mean.")
        notes += patient_notes(report["patients"], report["images"])
        if report["baseline"] is None:
            notes.append("Corruption errors are not defined, because there is no baseline; give a second model.")
        else:
            means = models[report["baseline"]]["means"]
            harmless = [k for k, m in means.items() if m["relative_corruption_error"] is None]
            if harmless:
                why = f"the baseline loses less than {LEAST_DROP:g} mAP to them"
                notes.append(f"{', '.join(harmless)}: in no relative corruption error, because {why}.")
    for name, model in models.items():
        if not model["clean"]["detections"]:
            text = f"finds nothing in the clean images at a score of {report['conf']:g}"
            notes.append(f"{name}: retention is not defined, because it {text}.")
    return notes


def format_report(report: Mapping[str, Any]) -> str:
    """The dictionary of `robustness_report` as text for a terminal."""
    patients = "without labels" if report["patients"] is None else f"{report['patients']} patients"
    head = f"{report['images']} images, {patients}; score >= {report['conf']:g} but for mAP, seed {report['seed']}"
    parts = [head, *(_format_model(name, m, report) for name, m in report["models"].items())]
    if len(report["models"]) > 1:
        parts.append(_format_summary(report))
    return "\n\n".join([*parts, *report["notes"]])


def _format_model(name: str, model: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """The conditions of one model, a line each."""
    labelled = report["patients"] is not None
    columns = ["type", "value", "mAP50-95", "drop", "95%"] if labelled else ["type", "value"]
    rows = [[*columns, "kept", "false/image", "IoU", "score change", "PSNR dB", "SSIM"]]
    clean = model["clean"]
    measured = [number(clean["map50_95"]), "", ""] if labelled else []
    rows.append(["clean", "", *measured, *[""] * 6])
    for kind, cells in model["conditions"].items():
        title = report["degradations"][kind]["title"]
        for cell in cells:
            drops = [number(cell["map50_95"]), _signed(cell["drop"]), bounds(cell["drop_interval"])] if labelled else []
            rows.append([title if cell["level"] == 1 else "", f"{cell['value']:g}", *drops, *_agreement(cell)])
    return f"{name}: {clean['detections']} detections in the clean images\n{table(rows)}"


def _agreement(cell: Mapping[str, Any]) -> list[str]:
    """What needs no labels."""
    kept = [number(cell["retention"]), number(cell["false_per_image"], 2), number(cell["matched_iou"])]
    return [*kept, _signed(cell["confidence_change"]), number(cell["psnr_db"], 1), number(cell["ssim"])]


def _signed(value: float | None) -> str:
    """A number that may be negative, without a minus before what rounds to 0."""
    return number(value if value is None else round(value, 3) + 0.0)


def _format_summary(report: Mapping[str, Any]) -> str:
    """One line a model."""
    rows = [["all types", "clean", "mean", "of clean", "corruption error", "relative", "kept"]]
    for name, model in report["models"].items():
        s = model["summary"]
        keys = ("mean_map50_95", "relative_map50_95", "corruption_error", "relative_corruption_error", "retention")
        rows.append([name, number(model["clean"].get("map50_95")), *(number(s[k]) for k in keys)])
    against = f"; errors relative to {report['baseline']}" if report["baseline"] else ""
    return f"mAP50-95, mean over types and levels{against}\n{table(rows)}"
