"""The table of costs alone, from what `benchmark.specs` measured.

Source: YOLOspine (Masood and Taj 2026), table 'Training & Computational Complexity', whose counts of parameters and
operations are not the true ones: asked for, they stand beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolospine_ultra.benchmark.family import ModelEntry
from yolospine_ultra.benchmark.paper import paper_figure
from yolospine_ultra.benchmark.report.cost_tables import PAPER_COUNTS
from yolospine_ultra.benchmark.report.formats import Column, Table, Value
from yolospine_ultra.benchmark.report.source import Estimate
from yolospine_ultra.benchmark.report.tables import PAPER_NOTE


def spec_table(content: Mapping[str, Any], entries: Mapping[str, ModelEntry], paper: bool = False) -> Table:
    """Costs as a table.

    Args:
        content: what `specs.measure` returned.
        entries: rows by name, for the paper's names.
        paper: whether the paper's figures are printed in columns of their own.
    """
    columns = [
        Column("model"), Column("parameters, M", 2, 1e-6), Column("fused, M", 2, 1e-6), Column("GFLOPs", 1, 1e-9),
        Column("fused GFLOPs", 1, 1e-9), Column("regions pooled", 0),
    ]  # fmt: skip
    timed = content["rounds"] > 0
    if timed:
        columns.append(Column("latency, ms", 1))
    if paper:
        columns += [
            Column("paper: parameters, M", 2, 1e-6, printed=True),
            Column("paper: GFLOPs", 1, 1e-9, printed=True),
        ]
    rows = []
    for name, spec in content["models"].items():
        row: list[Value] = [name]
        row += [spec[k] for k in ("parameters", "fused_parameters", "flops", "fused_flops")]
        row.append(spec["regions"] or None)
        if timed:
            taken = spec["latency"]
            row.append(Estimate(taken["median_ms"], None, taken["q1_ms"], taken["q3_ms"], taken["calls"]))
        if paper:
            row += [paper_figure("complexity", entries[name].paper, k) for k in ("parameters", "flops")]
        rows.append(tuple(row))
    notes = [
        f"One image of {content['imgsz']} px, {content['nc']} classes. GFLOPs: 2 x MACs with attention and stage 2."
    ]
    if timed:
        notes.append(
            f"Latency: file to boxes, {content.get('batch', 1)} image(s) a call, median (quartiles) of "
            f"{content['rounds']} interleaved rounds, untrained weights, "
            f"device {content['device']}, {content['environment']['threads']} thread(s), "
            f"{content['environment']['processor']}."
        )
    return Table(
        "specs", "Costs", tuple(columns), tuple(rows), (*notes, *((PAPER_NOTE, PAPER_COUNTS) if paper else ()))
    )
