"""The plots of a sweep: class by class, confusion matrices, ranks, ablations, accuracy against cost.

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
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from yolospine_ultra.benchmark.report.roles import Roles
from yolospine_ultra.benchmark.report.source import Estimate, Results
from yolospine_ultra.benchmark.report.tables import EQUAL, MAP
from yolospine_ultra.evaluate.dataset_files import ALL

OURS_COLOUR, VARIANT_COLOUR, OTHER_COLOUR = "#D55E00", "#E69F00", "#0072B2"
INK, PALE = "#1b1b1b", "#b8b8b8"  # text and lines; the page replaces them by its own, light or dark
WIDTH = 7.2  # inches, a page's width
WIDE = 5  # times the least value; below that a logarithmic axis has hardly a tick
DPI = 200  # of pictures

STYLE = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 8, "axes.titlesize": 8.5,
    "axes.labelsize": 8, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "text.color": INK, "axes.labelcolor": INK,
    "axes.titlecolor": INK, "axes.edgecolor": PALE, "xtick.color": INK, "ytick.color": INK, "grid.color": PALE,
    "grid.linewidth": 0.4, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "yolospine", "figure.facecolor": "none",
    "axes.facecolor": "none", "savefig.facecolor": "none",
}  # fmt: skip


def style() -> AbstractContextManager:
    """The style, for as long as a figure is drawn and saved."""
    return matplotlib.rc_context(STYLE)


def save(figure: Figure, form: str) -> bytes:
    """A figure's bytes: "svg" and "webp" for the page, "pdf" and "png" for documents; all but "svg" on white."""
    out = io.BytesIO()
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}  # the same figure, the same bytes
    white = "none" if form == "svg" else "white"
    with style():
        if figure.get_layout_engine() is not None:  # once: it is the slowest part of drawing
            figure.set_dpi(DPI)  # text is not twice as wide at twice the resolution, and would be cut off
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(out, format=form, dpi=DPI, metadata=dates.get(form), facecolor=white)
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
    across = _across(len(labelled), 4)
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
        grid.flat[0].xaxis.set_major_locator(MaxNLocator(4, prune="upper"))
        grid.flat[0].set_xlim(0, min(100.0, 100 * highest * 1.03) or 1)
    return figure


def _across(panels: int, most: int) -> int:
    """Columns of a grid of panels: the number that leaves the fewest places empty, the greater of equals."""
    return min(range(min(panels, most), 1, -1), key=lambda k: -panels % k, default=1)


def _reach(value: Estimate | None) -> float:
    """Right end of a bar with its interval."""
    return 0.0 if value is None else max(value.mean, value.high or 0.0)


def confusion(results: Results, models: Sequence[str], counts: bool = True) -> Figure:
    """Confusion matrices with background, all cells of a model added up; colour and number are shares of a row.

    Args:
        results: the sweep.
        models: which.
        counts: whether the number of boxes stands below the share; three matrices a row instead of two without.
    """
    labels = [*results.sweep.names.values(), "background"]
    across = 2 if counts else 3
    down = -(-len(models) // across)
    with style():
        each = WIDTH / across
        figure = Figure(figsize=(WIDTH, each * 0.98 * down), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False)
        for axes in grid.flat[len(models) :]:
            axes.set_axis_off()
        for i, (axes, model) in enumerate(zip(grid.flat, models, strict=False)):
            matrix = np.sum([r.confusion for r in results.of(model) if r.confusion], axis=0)
            _matrix(axes, matrix, labels, counts)
            axes.set_title(model, fontweight="bold")
            axes.set_xlabel("predicted")
            if i % across == 0:
                axes.set_ylabel("labelled")
            else:
                axes.set_yticklabels([])
    return figure


def _matrix(axes: Axes, matrix: np.ndarray, labels: Sequence[str], counts: bool) -> None:
    """One matrix: the more of a row, the more opaque the blue, so that it reads on light and on dark."""
    rows = matrix.sum(1, keepdims=True)
    shares = np.divide(matrix, rows, out=np.zeros(matrix.shape), where=rows > 0)
    colours = np.concatenate([np.broadcast_to(to_rgb(OTHER_COLOUR), (*shares.shape, 3)), shares[..., None]], -1)
    axes.imshow(colours)
    for y, x in zip(*np.nonzero(matrix), strict=True):
        text = f"{100 * shares[y, x]:.0f}" + (f"\n({matrix[y, x]})" if counts else "")
        ink = "#ffffff" if shares[y, x] > 0.5 else INK
        axes.text(x, y, text, ha="center", va="center", fontsize=5.5, color=ink, linespacing=1.0)
    for y in np.flatnonzero(rows == 0):
        axes.text((len(labels) - 1) / 2, y, "not labelled in these images", ha="center", va="center", fontsize=5.5)
    places = range(len(labels))
    axes.set_xticks(places, labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, labels)
    axes.set_xticks(np.arange(len(labels) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(labels) + 1) - 0.5, minor=True)
    axes.grid(which="minor")
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def rank_plot(results: Results, roles: Roles) -> Figure:
    """Mean rank of every model with its 95% interval, the best on top; variants of ours in orange."""
    found = {m: results.ranks[m, MAP] for m in results.models if (m, MAP) in results.ranks}
    models = sorted(found, key=lambda m: found[m].mean)
    with style():
        figure = Figure(figsize=(WIDTH * 0.75, 0.7 + 0.2 * len(models)), layout="constrained")
        axes = figure.subplots()
        for y, model in enumerate(models):
            variant = VARIANT_COLOUR if model in roles.ablations else OTHER_COLOUR
            colour = OURS_COLOUR if model == roles.ours else variant
            rank = found[model]
            if rank.low is not None and rank.high is not None:
                axes.plot([rank.low, rank.high], [y, y], color=colour, linewidth=2, alpha=0.75, solid_capstyle="round")
            axes.plot(rank.mean, y, "o", color=colour, markersize=5)
        axes.set_yticks(range(len(models)), models)
        axes.set_ylim(len(models) - 0.4, -0.6)
        axes.set_xlim(0.7, len(models) + 0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("mean rank by mAP50-95 (1 is best), 95% interval")
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
    return figure


def ablation_plot(results: Results, roles: Roles) -> Figure | None:
    """Every variant minus ours with its 95% interval, a panel a measure; None where nothing was compared.

    Dots are filled where the interval leaves out zero.
    """
    variants = [m for m in roles.ablations if m != roles.ours]
    measures = ((MAP, "mAP50-95"), *EQUAL)
    found = {key: {m: c for m in variants if (c := results.comparison(m, roles.ours, key))} for key, _ in measures}
    # a measure that is the same for all, such as pairs where none is found, has nothing to show
    shown = [(key, label) for key, label in measures if any(c.diff for c in found[key].values())]
    if not shown:
        return None
    with style():
        figure = Figure(figsize=(WIDTH, 0.8 + 0.2 * len(variants)), layout="constrained")
        grid = figure.subplots(1, len(shown), sharey=True, squeeze=False)
        figure.get_layout_engine().set(w_pad=0.1)  # the layout's text is a little narrower than the saved one
        grid.flat[0].set_yticks(range(len(variants)), variants)
        grid.flat[0].set_ylim(len(variants) - 0.4, -0.6)
        for axes, (key, label) in zip(grid.flat, shown, strict=True):
            axes.axvline(0, color=OURS_COLOUR, linewidth=1)
            for y, model in enumerate(variants):
                if (c := found[key].get(model)) is None:
                    continue
                if c.low is not None and c.high is not None:
                    limits = [100 * c.low, 100 * c.high]
                    axes.plot(limits, [y, y], color=VARIANT_COLOUR, linewidth=2, alpha=0.75, solid_capstyle="round")
                fill = VARIANT_COLOUR if c.wins or c.loses else "white"
                axes.plot(100 * c.diff, y, "o", color=VARIANT_COLOUR, markerfacecolor=fill, markersize=5)
            axes.set_title(label.replace(", ", ",\n"), loc="left", fontweight="bold")
            axes.set_xlabel(f"points to {roles.ours}")
            axes.xaxis.set_major_locator(MaxNLocator(4))
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
        label = f"GFLOPs of an image at {results.sweep.budget['imgsz']} px (2 x MACs)"
        every = [flops for _, flops, _ in points]
        if max(every) > WIDE * min(every):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            label += ", log scale"
        axes.set_xlabel(label)
        axes.set_ylabel("mAP50-95, %")
        axes.grid()
        _name_beside(axes, [(m, flops, 100 * value.mean) for m, flops, value in points])
    return figure


def _name_beside(axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Names of points in a column at the right, in the order of their heights, so that none covers another."""
    ordered = sorted(points, key=lambda p: p[2])
    for i, (name, x, y) in enumerate(ordered):
        axes.annotate(
            name, (x, y), (1.04, (i + 0.5) / len(ordered)), textcoords="axes fraction", va="center", fontsize=7,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": PALE, "shrinkB": 3, "relpos": (0, 0.5)},
        )  # fmt: skip
