"""Reliability diagrams of a calibration report (DeGroot and Fienberg 1983; Guo et al. 2017), a panel a class.

Written for this project, on matplotlib.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from yolospine_ultra.data.atomic import AtomicPath

_COLUMNS = 3
_LEAST = 5  # detections of a bin that is drawn: the precision of fewer can be anything
_STYLES = {"before": ("#0072B2", "o", -0.004), "after": ("#D55E00", "s", 0.004)}  # Okabe and Ito 2008


def save_plots(report: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Write `reliability.png` of a report.

    Args:
        report: from `calibration_report`.
        folder: made where it is not there; a file of the same name is replaced.

    Returns:
        The file written, or none where nothing is defined.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if report["classes"]["all"]["before"] is None:
        return []
    buffer = io.BytesIO()
    draw_reliability(report).savefig(buffer, format="png")
    file = folder / "reliability.png"
    AtomicPath(file).write_bytes(buffer.getvalue())
    return [file]


def draw_reliability(report: Mapping[str, Any]) -> Figure:
    """A panel for all classes and one for each that has detections and labelled boxes."""
    rows = {name: r for name, r in report["classes"].items() if r["before"] is not None}
    columns = min(len(rows), _COLUMNS)
    height = -(-len(rows) // columns)
    figure = Figure(figsize=(3 * columns, 3.1 * height + 0.5), dpi=110, layout="constrained")
    grid = figure.subplots(height, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (name, row) in zip(grid.flat, rows.items(), strict=False):
        _draw_class(axes, row)
        change = f"D-ECE {row['before']['d_ece']:.3f} \N{RIGHTWARDS ARROW} {row['after']['d_ece']:.3f}"
        axes.set_title(f"{name} ({row['boxes']} boxes, {row['detections']} detections)\n{change}", fontsize=9)
    for axes in grid.flat[len(rows) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("precision", fontsize=9)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    how = "cross-fitted by patient" if report["evaluated"] == "cross-fit" else "other patients"
    labels = [f"after temperature scaling, {how}" if label == "after" else label for label in labels]
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=8)
    words = f"score; bins of {_LEAST} detections or more, Wilson 95% intervals; grey: share of detections, before"
    figure.supxlabel(words, fontsize=8)
    return figure


def _draw_class(axes: Axes, row: Mapping[str, Any]) -> None:
    """Precision against mean score of each bin, before and after, with the diagonal of a calibrated model."""
    bins = row["before"]["bins"]
    shares = [b["detections"] / row["detections"] for b in bins]
    width = bins[0]["high"]
    axes.bar([b["low"] + width / 2 for b in bins], shares, width * 0.9, color="0.85", zorder=0)
    axes.plot([0, 1], [0, 1], color="0.4", linewidth=0.8, label="calibrated")
    for when, (colour, marker, shift) in _STYLES.items():
        full = [b for b in row[when]["bins"] if b["detections"] >= _LEAST]
        x = np.array([b["score"] for b in full]) + shift  # bars of intervals would lie on each other
        y = np.array([b["precision"] for b in full])
        limits = np.array([b["interval"] for b in full]).reshape(-1, 2)
        errors = np.abs(limits.T - y)
        style = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.2, "elinewidth": 0.7}
        axes.errorbar(x, y, errors, label=when, **style)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.tick_params(labelsize=8)
