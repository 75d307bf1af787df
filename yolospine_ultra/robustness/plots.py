"""Pictures of a robustness report: a radar a model, mAP against the level, and one slice under every condition.

Written for this project, on matplotlib.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes
from matplotlib.ticker import MaxNLocator

from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.robustness.degrade import DEGRADATIONS, Condition, degrade

_COLUMNS = 3
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito 2008
_SIDE = 1.7  # inches of a slice's width
_NEAR = ("gaussian", "rician", "gibbs")  # types that are seen in single pixels: the middle third is shown


def save_plots(
    report: Mapping[str, Any], folder: str | Path, image: np.ndarray, seed: int = 0, credit: str = ""
) -> list[Path]:
    """Write the pictures of a report as PNG.

    Args:
        report: from `robustness_report`.
        folder: made where it is not there; files of the same names are replaced.
        image: the slice that is shown, (h, w) or (h, w, 3) BGR uint8.
        seed: of its degradations.
        credit: line for the lower margin of the slices, such as their source.

    Returns:
        The files written: `radar.png` of three types or more, `levels.png`, `degradations.png`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, Callable[[], Figure]] = {
        "levels": lambda: draw_levels(report),
        "degradations": lambda: draw_degradations(image, list(report["degradations"]), seed, credit),
    }
    if len(report["degradations"]) >= 3:
        drawn["radar"] = lambda: draw_radar(report)
    files = []
    for name, draw in drawn.items():
        buffer = io.BytesIO()
        draw().savefig(buffer, format="png")
        files.append(folder / f"{name}.png")
        AtomicPath(files[-1]).write_bytes(buffer.getvalue())
    return files


def _measure(report: Mapping[str, Any]) -> tuple[str, str]:
    """What is drawn: mAP where there are labels, else the share of detections that are kept; key and words."""
    labelled = any(m["clean"].get("map50_95") is not None for m in report["models"].values())
    return ("map50_95", "mAP50-95") if labelled else ("retention", "clean detections kept")


def _clean(model: Mapping[str, Any], key: str) -> float:
    """The clean images' value: of all clean detections, clean images keep all."""
    return model["clean"]["map50_95"] if key == "map50_95" else 1.0


def draw_radar(report: Mapping[str, Any]) -> Figure:
    """A panel a model: the mean over levels by type, and the clean images' value as a dashed ring; one scale for all.

    A type whose value is not defined is drawn at 0.
    """
    key, words = _measure(report)
    models = report["models"]
    kinds = list(report["degradations"])
    columns = min(len(models), _COLUMNS)
    rows = -(-len(models) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.5 * rows + 0.3), dpi=110, layout="constrained")
    grid = figure.subplots(rows, columns, subplot_kw={"projection": "polar"}, squeeze=False)
    most = max(_clean(m, key) for m in models.values())
    for axes, (name, model), colour in zip(grid.flat, models.items(), _cycle(len(models)), strict=False):
        values = [model["means"][k][key] or 0.0 for k in kinds]
        _draw_polygon(axes, values, _clean(model, key), [report["degradations"][k]["title"] for k in kinds], colour)
        axes.set_ylim(0, 1.05 * most if most else 1)
        axes.set_title(name, pad=14)
    for axes in grid.flat[len(models) :]:
        axes.set_visible(False)
    figure.suptitle(f"{words}, mean over levels; dashed: clean", fontsize=10)
    return figure


def _draw_polygon(axes: PolarAxes, values: Sequence[float], clean: float, titles: Sequence[str], colour: str) -> None:
    """One model's values as a closed line, each with its number."""
    angles = np.linspace(0, 2 * np.pi, len(values), endpoint=False)
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    around = np.linspace(0, 2 * np.pi, 181)
    axes.plot(around, np.full_like(around, clean), "--", color="black", linewidth=1)
    axes.plot(np.append(angles, angles[0]), [*values, values[0]], color=colour, marker="o", markersize=4)
    axes.fill(angles, values, color=colour, alpha=0.2)
    axes.set_xticks(angles, [f"{t}\n{v:.2f}" for t, v in zip(titles, values, strict=True)], fontsize=8)
    axes.tick_params(axis="x", pad=4)
    for angle, label in zip(angles, axes.get_xticklabels(), strict=True):  # away from the circle on either side
        side = np.sin(angle)
        label.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(axis="y", labelsize=7, colors="0.4")
    axes.set_rlabel_position(180 / len(values))


def _cycle(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]


def draw_levels(report: Mapping[str, Any]) -> Figure:
    """A panel a type: the value against the level, from the clean images; a line a model.

    The band of mAP is the clean value less the 95% interval of its drop.
    """
    key, words = _measure(report)
    kinds = report["degradations"]
    columns = min(len(kinds), _COLUMNS)
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(2.9 * columns, 2.5 * rows + 0.6), dpi=110, layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (kind, about) in zip(grid.flat, kinds.items(), strict=False):
        for (name, model), colour in zip(report["models"].items(), _cycle(len(report["models"])), strict=True):
            cells, clean = model["conditions"][kind], _clean(model, key)
            values = np.array([clean, *(c[key] for c in cells)], dtype=float)
            axes.plot(values, color=colour, marker="o", markersize=3.5, label=name)
            limits = [c.get("drop_interval", [None, None]) for c in cells]
            if key == "map50_95" and all(low is not None for low, _ in limits):
                band = clean - np.array([[0.0, 0.0], *limits])
                axes.fill_between(range(len(values)), band[:, 1], band[:, 0], color=colour, alpha=0.15, linewidth=0)
        axes.set_xticks(range(len(about["levels"]) + 1), ["clean", *(f"{v:g}" for v in about["levels"])])
        axes.set_title(about["title"], fontsize=10)
        axes.set_xlabel(about["parameter"], fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    for axes in grid.flat[len(kinds) :]:
        axes.set_visible(False)
    grid[0, 0].set_ylim(0, 1.08 * max(_clean(m, key) for m in report["models"].values()) or 1)
    for axes in grid[:, 0]:
        axes.set_ylabel(words, fontsize=9)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9)
    if key == "map50_95":
        figure.supxlabel("bands: 95% interval of the drop from clean, patients drawn", fontsize=8)
    return figure


def draw_degradations(image: np.ndarray, kinds: Sequence[str], seed: int = 0, credit: str = "") -> Figure:
    """A row a type: the slice as it is and at each level; of noise and ringing its middle third.

    Args:
        image: (h, w) or (h, w, 3) BGR uint8.
        kinds: keys of `DEGRADATIONS`.
        seed: as of `degrade`.
        credit: line for the lower margin.
    """
    levels = max(len(DEGRADATIONS[k].levels) for k in kinds)
    h, w = image.shape[:2]
    size = ((1 + levels) * _SIDE + 0.3, len(kinds) * (_SIDE * h / w + 0.22) + 0.2)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)
    grid = figure.subplots(len(kinds), 1 + levels, squeeze=False)
    for row, kind in zip(grid, kinds, strict=True):
        about = DEGRADATIONS[kind]
        shown = [("clean", image)]
        shown += [(f"{v:g}", degrade(image, Condition(kind, i), seed)) for i, v in enumerate(about.levels, 1)]
        window = np.s_[h // 3 : 2 * h // 3, w // 3 : 2 * w // 3] if kind in _NEAR and min(h, w) >= 3 else np.s_[:]
        for axes, (title, pixels) in zip(row, shown, strict=True):
            pixels = pixels[window]
            axes.imshow(pixels[..., ::-1] if pixels.ndim == 3 else pixels, cmap="gray", vmin=0, vmax=255)
            axes.set_title(title, fontsize=8, pad=2)
            axes.set_xticks([])
            axes.set_yticks([])
        part = ", middle third" if kind in _NEAR else ""
        row[0].set_ylabel(f"{about.title}{part}\n({about.parameter})", fontsize=8)
    figure.supxlabel(credit, fontsize=7)
    return figure
