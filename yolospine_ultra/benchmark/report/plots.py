"""The plots of a sweep: class by class, confusion matrices, ranks, accuracy against cost.

Written for this project. One style: Okabe and Ito's colours (2008), which people with any colour vision tell apart,
ours always vermilion, baselines always blue; text legible at the width of a page. Figures are drawn without pyplot, so
that no window system and no global state is touched, and the same files give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from yolospine_ultra.benchmark.report.roles import Roles
from yolospine_ultra.benchmark.report.source import Estimate, Results
from yolospine_ultra.benchmark.report.tables import MAP
from yolospine_ultra.benchmark.summary import ALL

OURS_COLOUR, OTHER_COLOUR = "#D55E00", "#0072B2"
INK, PALE = "#1b1b1b", "#b8b8b8"  # text and lines; the page replaces them by its own, light or dark
WIDTH = 7.2  # inches, a page's width

STYLE = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 8, "axes.titlesize": 8.5,
    "axes.labelsize": 8, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "text.color": INK, "axes.labelcolor": INK,
    "axes.titlecolor": INK, "axes.edgecolor": PALE, "xtick.color": INK, "ytick.color": INK, "grid.color": PALE,
    "grid.linewidth": 0.4, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "yolospine", "figure.facecolor": "none",
    "axes.facecolor": "none", "savefig.facecolor": "none", "pdf.fonttype": 42,
}  # fmt: skip


def style() -> AbstractContextManager:
    """The style, for as long as a figure is drawn and saved."""
    return matplotlib.rc_context(STYLE)


def save(figure: Figure, form: str) -> bytes:
    """A figure's bytes: "svg" for the page, transparent; "pdf" and "png" for documents, on white."""
    out = io.BytesIO()
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    with style():
        figure.savefig(
            out, format=form, dpi=200, bbox_inches="tight", metadata=dates[form],
            facecolor="none" if form == "svg" else "white",
        )  # fmt: skip
    return out.getvalue()


def _bars(axes: Axes, models: Sequence[str], values: Sequence[Estimate | None], ours: str | None) -> None:
    """Horizontal bars with intervals, the first model on top, in percent; a missing value is written as such."""
    for y, (model, value) in enumerate(zip(models, values, strict=True)):
        colour = OURS_COLOUR if model == ours else OTHER_COLOUR
        if value is None:
            axes.text(1, y, "not measured", va="center", fontsize=6.5, style="italic")
            continue
        axes.barh(y, 100 * value.mean, color=colour, height=0.72, alpha=0.9)
        if value.low is not None and value.high is not None:
            axes.plot(
                [100 * max(value.low, 0), 100 * value.high], [y, y], color=INK, linewidth=1.1, solid_capstyle="butt"
            )
    axes.set_ylim(len(models) - 0.4, -0.6)
    axes.set_yticks(range(len(models)))
    axes.grid(axis="x")
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def class_bars(results: Results, roles: Roles) -> Figure:
    """mAP50-95 of every model, a panel a class and one for all, with 95% intervals; models in one order throughout."""
    names = [ALL, *results.sweep.names.values()]
    labelled = [n for n in names if any(results.value(m, MAP, n) for m in roles.ranked)]
    across = min(4, len(labelled))
    down = -(-len(labelled) // across)
    with style():
        figure = Figure(figsize=(WIDTH, down * (0.55 + 0.17 * len(roles.ranked))), layout="constrained")
        grid = figure.subplots(down, across, sharex=True, squeeze=False)
        for axes in grid.flat[len(labelled) :]:
            axes.set_axis_off()
        for i, (axes, name) in enumerate(zip(grid.flat, labelled, strict=False)):
            _bars(axes, roles.ranked, [results.value(m, MAP, name) for m in roles.ranked], roles.ours)
            axes.set_title("all classes" if name == ALL else name, loc="left", fontweight="bold")
            axes.set_yticklabels(roles.ranked if i % across == 0 else [])
            if i + across >= len(labelled):
                axes.set_xlabel("mAP50-95, %")
                axes.tick_params(labelbottom=True)
        highest = max(_reach(results.value(m, MAP, n)) for m in roles.ranked for n in labelled)
        grid.flat[0].set_xlim(0, min(100.0, 100 * highest * 1.03) or 1)
    return figure


def _reach(value: Estimate | None) -> float:
    """Right end of a bar with its interval."""
    return 0.0 if value is None else max(value.mean, value.high or 0.0)


def confusion(results: Results, models: Sequence[str]) -> Figure:
    """Confusion matrices with background, all cells of a model added up; colour and number are shares of a row."""
    labels = [*results.sweep.names.values(), "background"]
    side = len(labels)
    across = min(2, len(models))
    down = -(-len(models) // across)
    with style():
        each = WIDTH / 2
        figure = Figure(figsize=(each * across, each * 0.95 * down), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False)
        for axes in grid.flat[len(models) :]:
            axes.set_axis_off()
        for axes, model in zip(grid.flat, models, strict=False):
            counts = np.sum([r.confusion for r in results.of(model) if r.confusion], axis=0)
            rows = counts.sum(1, keepdims=True)
            shares = np.divide(counts, rows, out=np.full((side, side), np.nan), where=rows > 0)
            axes.imshow(np.ma.masked_invalid(shares), cmap="cividis_r", vmin=0, vmax=1)
            for y, x in np.ndindex(side, side):
                if counts[y, x]:
                    ink = "white" if shares[y, x] > 0.55 else "black"
                    text = f"{100 * shares[y, x]:.0f}\n({counts[y, x]})"
                    axes.text(x, y, text, ha="center", va="center", fontsize=5.5, color=ink, linespacing=0.95)
            axes.set_title(model, fontweight="bold")
            axes.set_xticks(range(side), labels, rotation=45, ha="right", rotation_mode="anchor")
            axes.set_yticks(range(side), labels)
            axes.set_xlabel("predicted")
            axes.set_ylabel("labelled")
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
    return figure


def rank_plot(results: Results, roles: Roles) -> Figure:
    """Mean rank of every ranked model with its 95% interval, the best on top."""
    found = {m: results.ranks[m, MAP] for m in roles.ranked if (m, MAP) in results.ranks}
    models = sorted(found, key=lambda m: found[m].mean)
    with style():
        figure = Figure(figsize=(WIDTH * 0.75, 0.7 + 0.2 * len(models)), layout="constrained")
        axes = figure.subplots()
        for y, model in enumerate(models):
            colour = OURS_COLOUR if model == roles.ours else OTHER_COLOUR
            rank = found[model]
            if rank.low is not None and rank.high is not None:
                axes.plot([rank.low, rank.high], [y, y], color=colour, linewidth=2, alpha=0.75, solid_capstyle="round")
            axes.plot(rank.mean, y, "o", color=colour, markersize=5)
        axes.set_yticks(range(len(models)), models)
        axes.set_ylim(len(models) - 0.4, -0.6)
        axes.set_xlim(0.7, max(len(models), 2) + 0.3)
        axes.set_xlabel("mean rank by mAP50-95 (1 is best), 95% interval")
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
    return figure


def cost_plot(results: Results, roles: Roles) -> Figure | None:
    """mAP50-95 against GFLOPs; None where specs.json has less than two of the ranked models."""
    points = [
        (m, results.specs[m]["flops"] / 1e9, results.value(m))
        for m in roles.ranked
        if results.specs.get(m, {}).get("flops")
    ]
    if len(points) < 2:
        return None
    with style():
        figure = Figure(figsize=(WIDTH * 0.75, 3.2), layout="constrained")
        axes = figure.subplots()
        for model, flops, value in points:
            colour = OURS_COLOUR if model == roles.ours else OTHER_COLOUR
            if value.low is not None and value.high is not None:
                limits = [100 * max(value.low, 0), 100 * value.high]
                axes.plot([flops, flops], limits, color=colour, linewidth=1.2, alpha=0.5)
            axes.plot(flops, 100 * value.mean, "o", color=colour, markersize=5)
            axes.annotate(model, (flops, 100 * value.mean), (5, 3), textcoords="offset points", fontsize=7)
        axes.set_xscale("log")
        axes.set_xlabel(f"GFLOPs of an image at {results.sweep.budget['imgsz']} px (2 x MACs), log scale")
        axes.set_ylabel("mAP50-95, %")
        axes.grid()
    return figure
