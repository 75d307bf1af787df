"""The paper's tables of costs and of ablations, and the list of short runs.

Source: YOLOspine (Masood and Taj 2026), tables 'Training & Computational Complexity' and 'Ablation Study'. Parameters
and operations are true ones (see `yolospine_ultra.engine.cost`), not the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

from ultralytics.nn.tasks import yaml_model_load

from yolospine_ultra.autoload.arguments import ARGUMENTS
from yolospine_ultra.benchmark.family import ModelEntry
from yolospine_ultra.benchmark.paper import paper_figure
from yolospine_ultra.benchmark.report.formats import Column, Table, Value
from yolospine_ultra.benchmark.report.roles import Roles
from yolospine_ultra.benchmark.report.source import Estimate, Results
from yolospine_ultra.benchmark.report.tables import EMPTY_NOTE, MAP, PAPER_NOTE, has_row, percent
from yolospine_ultra.nn.spine_detect import SpineDetect

PAPER_COUNTS = (
    "The paper's parameter counts of most baselines count shared activations twice (YOLOv8m has 25.86 M), its UNet++ "
    "GFLOPs lost a digit, and its YOLOspine GFLOPs leave out attention and stage 2."
)
REGIONS_NOTE = (
    "Regions pooled: RoIAlign windows of a second stage; a proposal takes one a pyramid level or cascade stage."
)
PARTS = ("GELAN", "R-ELAN", "A²", "MLDR", "Soft-NMS")  # the paper's
OWN_PARTS = ("order", "class boxes", "multi-hot", "declared", "sampling")  # shown where rows differ in them

# rows of the paper's ablation table by the parts they have
PAPER_VARIANTS = {
    "✓✓✓✓✓": "YOLOspine",
    "✓✓✗✓✓": "w/o A²",
    "✓✗✓✓✓": "w/o R-ELAN",
    "✓✓✓✗✓": "w/o MLDR",
    "✓✓✓✓✗": "w/o Soft-NMS",
    "✓✓✗✗✓": "w/o A² & MLDR",
}


def complexity(results: Results, roles: Roles, paper: bool = False) -> Table:
    """Parameters, operations, training time, memory and latency of every model that was trained."""
    columns = [
        Column("model"), Column("parameters, M", 2, 1e-6, -1), Column("GFLOPs", 1, 1e-9, -1),
        Column("regions pooled", 0), Column("s an epoch", 1, better=-1), Column("training, min", 1, 1 / 60, -1),
        Column("peak memory, GiB", 2, 1 / 1024, -1), Column("latency, ms", 0, better=-1),
    ]  # fmt: skip
    paper = paper and has_row(results, roles)
    if paper:
        columns += [
            Column("paper: parameters, M", 2, 1e-6, printed=True),
            Column("paper: GFLOPs", 1, 1e-9, printed=True),
            Column("paper: s an epoch", 1, printed=True),
        ]
    models = [*roles.ranked, *(m for m in roles.ablations if m not in roles.ranked)]
    rows = tuple(_cost_row(results, m, paper) for m in models)
    budget = results.sweep.budget
    notes = [
        f"GFLOPs: 2 x MACs of one image at {budget['imgsz']} px, with attention and stage 2. "
        "Time and memory: mean ± sd over seeds, with the 95% interval.",
        REGIONS_NOTE,
        _memory_note(results),
    ]
    notes += [_latency_note(results)] if results.latency else []
    notes += [EMPTY_NOTE] if any(v is None for row in rows for v in row) else []
    title = "Training and computational complexity"
    return Table("complexity", title, tuple(columns), rows, (*notes, *([PAPER_NOTE, PAPER_COUNTS] if paper else [])))


def _cost_row(results: Results, model: str, paper: bool) -> tuple[Value, ...]:
    """Costs of one model."""
    parameters = results.value(model, "parameters")
    row: list[Value] = [model, parameters.mean if parameters else None]
    row += [results.specs.get(model, {}).get("flops"), _number(results.specs.get(model, {}).get("regions"))]
    row += [results.value(model, k) for k in ("seconds_epoch", "seconds_train")]
    row += [peak_memory(results, model), _latency(results, model)]
    if paper:
        name = results.sweep.models[model].paper
        row += [paper_figure("complexity", name, k) for k in ("parameters", "flops", "seconds_epoch")]
    return tuple(row)


def _number(count: int | None) -> float | None:
    """A count as it is shown: nothing for none."""
    return float(count) if count else None


def _latency(results: Results, model: str) -> Estimate | None:
    """Median and quartiles of the predict call."""
    taken = results.latency.get(model)
    return Estimate(taken["median_ms"], None, taken["q1_ms"], taken["q3_ms"], taken["calls"]) if taken else None


def peak_memory(results: Results, model: str) -> Estimate | None:
    """Most memory of a training, MiB: the GPU's allocator where there was one, else of the process."""
    return results.value(model, "memory_train_cuda") or results.value(model, "memory_train_rss")


def _memory_note(results: Results) -> str:
    """Which memory is meant."""
    cuda = any(results.value(m, "memory_train_cuda") for m in results.models)
    what = "what the GPU's allocator gave out" if cuda else "the whole process, libraries and image cache in"
    return f"Peak memory in training: {what}."


def _latency_note(results: Results) -> str:
    """How the latency was measured."""
    untrained = [m for m, taken in results.latency.items() if not taken.get("trained", True)]
    return (
        "Latency: one image, from its file to boxes; median (quartiles) of interleaved rounds, "
        f"{results.sweep.budget['threads']} thread(s), device {results.sweep.budget['device']}."
        + (f" Timed with untrained weights: {', '.join(untrained)}." if untrained else "")
    )


def ablation(results: Results, roles: Roles, paper: bool = False) -> Table:
    """What each part of our model is worth: our model, its variants, and the best baseline."""
    baseline = [roles.baseline] if roles.baseline and roles.ablations else []
    models = [*roles.ablations, *baseline]
    parts = {
        m: _parts(results.sweep.models[m]) | _own_parts(results.sweep.models[m], results.sweep.recipe) for m in models
    }
    shown = [*PARTS, *(p for p in OWN_PARTS if len({parts[m][p] for m in models} - {None}) > 1)]
    columns = [
        Column("model"), *(Column(p) for p in shown), Column("n", 0), percent("mAP50-95"),
        percent("to the full model", better=0, signed=True), Column("macro F1", 3, better=1, limits=(0.0, 1.0)),
        Column("peak memory, GiB", 2, 1 / 1024),
    ]  # fmt: skip
    if paper:
        columns += [
            percent("paper: mAP50-95", printed=True),
            Column("paper: macro F1", 3, printed=True),
        ]
    rows = []
    for model in models:
        entry, overall = results.sweep.models[model], results.value(model)
        to_full = results.comparison(model, roles.ours) if roles.ours else None
        row: list[Value] = [model, *(parts[model][p] for p in shown), float(overall.n), overall]
        row.append(Estimate(to_full.diff, None, to_full.low, to_full.high) if to_full else None)
        row += [results.value(model, "macro_f1"), peak_memory(results, model)]
        if paper:
            whole = all(parts[model][p] != "✗" for p in OWN_PARTS if p != "sampling")
            printed = PAPER_VARIANTS.get("".join(parts[model][p] or "" for p in PARTS), entry.paper) if whole else ""
            row += [paper_figure("ablation", printed, k) for k in (MAP, "macro_f1")]
        rows.append(tuple(row))
    notes = [
        "Percent; differences in percentage points with the 95% interval of a bootstrap over patients and seeds.",
        *([EMPTY_NOTE] if any(v is None for row in rows for v in row) else []),
        *([PAPER_NOTE] if paper else []),
    ]
    return Table("ablation", "Ablation", tuple(columns), tuple(rows), tuple(notes))


def _layers(entry: ModelEntry) -> dict[str, list[Any]]:
    """Arguments of the last layer of each kind in a model's YAML; empty for a model that has none."""
    yaml = entry.build.get("yaml")
    try:
        content = yaml_model_load(yaml) if yaml else {}
    except FileNotFoundError:
        content = {}
    return {str(row[2]): row[3] for part in ("backbone", "head") for row in content.get(part, ())}


def _parts(entry: ModelEntry) -> dict[str, str | None]:
    """Which of `PARTS` a model has, read off its YAML; Nones for a model that is not made of them."""
    layers = _layers(entry)
    two_stage = "SpineDetect" in layers
    if not (two_stage or "DDEDetect" in layers):
        return dict.fromkeys(PARTS)
    soft = entry.predict.get("suppression", ARGUMENTS["suppression"]) != "hard"
    has = ("GELAN" in layers, "RELAN" in layers, "A2" in layers, two_stage, soft)
    return {part: _mark(h) for part, h in zip(PARTS, has, strict=True)}


def _own_parts(entry: ModelEntry, recipe: dict[str, Any]) -> dict[str, str | None]:
    """Which of `OWN_PARTS` a model has; Nones where it has no second stage."""
    layers = _layers(entry)
    if "SpineDetect" not in layers:
        return dict.fromkeys(OWN_PARTS)
    head = signature(SpineDetect).bind(*layers["SpineDetect"])
    head.apply_defaults()
    sampled = {**recipe, **entry.recipe}.get("class_centric", 0) > 0
    has = [head.arguments[k] for k in ("order", "class_boxes", "multi_hot")]
    told = entry.build.get("declared", True) and entry.predict.get("relations", True)  # the latter in older sweeps
    has += [told, sampled]
    return {part: _mark(h) for part, h in zip(OWN_PARTS, has, strict=True)}


def _mark(has: bool) -> str:
    return "✓" if has else "✗"


def short_runs(results: Results, shorter: Sequence[Results]) -> Table:
    """Models of sweeps with a smaller budget: they show that a model runs, and nothing about how good it is.

    Args:
        results: the sweep that is reported.
        shorter: sweeps with fewer epochs, smaller images or less data, of the same or other data.
    """
    columns = (
        Column("model"), Column("data"), Column("epochs", 0), Column("px", 0), Column("n", 0),
        Column("parameters, M", 2, 1e-6), Column("s an epoch", 1), Column("mAP50-95", 1, 100),
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = []
    for other in shorter:
        budget = other.sweep.budget
        for model in other.models:
            overall, parameters = other.value(model), other.value(model, "parameters")
            seconds = other.value(model, "seconds_epoch")
            row = (
                other.sweep.dataset,
                float(budget["epochs"]),
                float(budget["imgsz"]),
                float(overall.n),
                parameters and parameters.mean,
                seconds,
                overall,
            )
            rows.append((model, *row))
    ranked = results.sweep.budget
    notes = (
        f"The ranked models had {ranked['epochs']} epochs at {ranked['imgsz']} px. These had less, prove only that the "
        "model trains and is evaluated, and take part in no ranking or comparison.",
    )
    return Table("short_runs", "Short runs, not ranked", columns, tuple(rows), notes)
