"""Pictures of an external validation and of a reader study: confusion matrix, sensitivity and specificity, FROC.

Written for this project, on matplotlib. Lines are Wilson's 95% intervals; of a macro average, which has none, and of a
difference they are intervals of the bootstrap over patients, drawn thinner.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.evaluate.validation.rates import AVERAGES, KINDS
from yolospine_ultra.evaluate.validation.rating import LEVELS, average_label
from yolospine_ultra.evaluate.validation.reader_files import MODEL

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito 2008
_LARGE = 16  # classes; a matrix of more has no room for numbers


def save_external(report: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Write the pictures of an `external.external_report` as PNG.

    Args:
        report: the report.
        folder: made where it is not there; files of the same names are replaced.

    Returns:
        The files written: `confusion.png`, `rates-box_level.png`, `rates-image_level.png`, `froc.png`.
    """
    folder = Path(folder)
    side = max(4.6, 1.8 + 0.62 * len(report["confusion"]["classes"]))
    files = [_save(folder / "confusion.png", (side + 0.9, side), lambda f: draw_confusion(report, f.subplots()))]
    for level in LEVELS:
        files.append(_save_rates({MODEL: report}, level, folder))
    return [*files, _save(folder / "froc.png", (7.2, 4.4), lambda f: draw_froc(report["froc"], f.subplots()))]


def save_readers(report: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Write the pictures of a `readers.reader_report` as PNG.

    Returns:
        The files written: `rates-box_level.png` where a reader gave boxes, `rates-image_level.png`, and
        `difference-LEVEL.png` for each of these levels.
    """
    folder, files = Path(folder), []
    for level in LEVELS:
        raters = {n: r["reader"] for n, r in report["readers"].items() if level in r["reader"]}
        if not raters:
            continue
        files.append(_save_rates({MODEL: report["model"]} | raters, level, folder))
        size = (9, 1.4 + 0.2 * _rows(raters) * len(raters))
        draw = _difference_drawer(report, level, list(raters))
        files.append(_save(folder / f"difference-{level}.png", size, draw))
    return files


def _difference_drawer(report: Mapping[str, Any], level: str, readers: Sequence[str]) -> Callable[[Figure], None]:
    return lambda figure: draw_differences(report, level, readers, figure)


def _save_rates(raters: Mapping[str, Any], level: str, folder: Path) -> Path:
    """The forest plot of one level."""
    size = (9, 1.4 + (0.34 if len(raters) == 1 else 0.2 * len(raters)) * _rows(raters))
    return _save(folder / f"rates-{level}.png", size, lambda figure: draw_rates(raters, level, figure))


def _rows(raters: Mapping[str, Any]) -> int:
    """Rows of a forest plot: classes and averages."""
    return len(next(iter(raters.values()))["image_level"]["classes"]) + len(AVERAGES)


def _save(file: Path, size: tuple[float, float], draw: Callable[[Figure], None]) -> Path:
    """Draw a figure of this size in inches and write it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)  # inches; less cuts rotated labels at the edge
    draw(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    AtomicPath(file).write_bytes(buffer.getvalue())
    return file


def draw_confusion(report: Mapping[str, Any], axes: Axes) -> None:
    """The confusion matrix of a rating: counts and, shaded, their share of the row; background is the last."""
    names, matrix = report["confusion"]["classes"], np.array(report["confusion"]["counts"])
    rows = matrix.sum(1, keepdims=True)
    shares = np.divide(matrix, rows, out=np.zeros(matrix.shape), where=rows > 0)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.figure.colorbar(image, label="share of the row", shrink=0.8)
    ticks = [*names[:-1], "background\n(missed)"], [*names[:-1], "background\n(false)"]
    axes.set_xticks(range(len(names)), ticks[0], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), [f"{t} ({n})" for t, n in zip(ticks[1], rows[:, 0], strict=True)])
    axes.set_xlabel("predicted")
    axes.set_ylabel("labelled (row total)")
    axes.set_title(f"Confusion with background, IoU >= {report['iou']:g}")
    last = len(names) - 1
    for (i, k), count in np.ndenumerate(matrix) if len(names) <= _LARGE else ():
        if i == k == last:
            axes.text(k, i, "not\ncountable", ha="center", va="center", fontsize=7, color="gray")
        elif rows[i, 0]:
            text = f"{count}\n{shares[i, k]:.0%}" if count else "0"
            ink = "white" if shares[i, k] > 0.55 else "black" if count else "silver"
            axes.text(k, i, text, ha="center", va="center", fontsize=8, color=ink)
        elif k == last // 2:
            axes.text(k, i, "no label", ha="center", va="center", fontsize=8, color="gray")


def draw_rates(raters: Mapping[str, Any], level: str, figure: Figure) -> None:
    """Forest plot of sensitivity and specificity of one or more raters.

    Args:
        raters: `rating.rating_table` of each.
        level: "box_level" or "image_level".
        figure: to draw into.
    """
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind in zip(panels, KINDS, strict=True):
        for n, rated in enumerate(raters.values()):
            rows = _forest(rated[level])
            for y, (_, row) in enumerate(rows):
                height = y + (n - (len(raters) - 1) / 2) * 0.7 / len(raters)
                r = row[kind]
                _interval(axes, height, r["value"], r.get("interval"), r["patients"], _COLOURS[n % 7])
                if len(raters) == 1 and r["value"] is not None:
                    _beside(axes, y, f"{r['value']:.3f}" + (f" ({r['hits']}/{r['trials']})" if "hits" in r else ""))
        axes.set_title(kind.capitalize())
        axes.set_xlim(-0.02, 1.02)
    _forest_axes(figure, panels, [label for label, _ in rows])
    figure.suptitle(f"{LEVELS[level]}: Wilson 95% interval; macro: bootstrap over patients", fontsize=10)
    if len(raters) > 1:
        _legend(figure, {rater: _COLOURS[n % 7] for n, rater in enumerate(raters)})


def draw_differences(report: Mapping[str, Any], level: str, readers: Sequence[str], figure: Figure) -> None:
    """Forest plot of the differences model - reader of one level, with the margin of non-inferiority."""
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind in zip(panels, KINDS, strict=True):
        axes.axvline(0, color="gray", linewidth=0.8)
        axes.axvline(-report["margin"], color="black", linestyle="--", linewidth=0.8)
        for n, reader in enumerate(readers):
            rows = _forest(report["readers"][reader]["difference"][level])
            for y, (_, row) in enumerate(rows):
                height = y + (n - (len(readers) - 1) / 2) * 0.7 / len(readers)
                colour = _COLOURS[(n + 1) % 7]
                _interval(axes, height, row[kind]["value"], None, row[kind]["patients"], colour)
        axes.set_title(kind.capitalize())
    _forest_axes(figure, panels, [label for label, _ in rows])
    title = f"{LEVELS[level]}: difference, bootstrap over patients 95%; dashed: margin -{report['margin']:g}"
    figure.suptitle(title, fontsize=10)
    _legend(figure, {f"{MODEL} - {reader}": _COLOURS[(n + 1) % 7] for n, reader in enumerate(readers)})


def _forest(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The rows of a forest plot: classes, then averages."""
    return [*found["classes"].items(), *((average_label(how), found[how]) for how in AVERAGES)]


def _forest_axes(figure: Figure, panels: Sequence[Axes], labels: Sequence[str]) -> None:
    """What both panels of a forest plot share."""
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.5, -0.5)
    for axes in panels:
        axes.axhline(len(labels) - len(AVERAGES) - 0.5, color="silver", linewidth=0.8)
        axes.grid(axis="x", linewidth=0.4, alpha=0.6)
        axes.tick_params(axis="y", length=0)


def _interval(
    axes: Axes,
    height: float,
    value: float | None,
    wilson: Sequence[float | None] | None,
    patients: Sequence[float | None],
    colour: str,
) -> None:
    """A value with its interval, Wilson's where there is one; in words where it is not defined."""
    if value is None:
        place = axes.get_yaxis_transform()
        axes.text(0.02, height, "not defined", color=colour, fontsize=7, va="center", transform=place)
        return
    low, high = patients if wilson is None else wilson
    if low is not None:
        axes.plot([low, high], [height, height], color=colour, linewidth=1 if wilson is None else 1.8)
    axes.plot(value, height, "o", color=colour, markersize=4.5)


def _legend(figure: Figure, colours: Mapping[str, str]) -> None:
    """Names and their colours below a figure."""
    handles = [Line2D([], [], marker="o", color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))


def _beside(axes: Axes, height: float, text: str) -> None:
    """Text right of the axes."""
    axes.text(1.02, height, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8)


def draw_froc(froc: Mapping[str, Any], axes: Axes) -> None:
    """FROC of each class and of all; dots at the rates of which the mean sensitivity is taken."""
    shown = {name: c for name, c in froc["curves"].items() if c["curve"]}
    for n, (name, c) in enumerate(shown.items()):
        whole = name == "all"
        colour = "black" if whole else _COLOURS[n % 6]
        curve = np.array([c["curve"]["false_positives"], c["curve"]["sensitivity"]])
        style = {"linewidth": 2.4 if whole else 1.3, "color": colour, "linestyle": "-" if n < 6 or whole else ":"}
        axes.plot(*curve, label=f"{name}: {c['mean']:.2f} ({c['labels']} labels)", **style)
        axes.plot(froc["rates"], c["sensitivity"], "o", color=colour, markersize=3)
    axes.set_xscale("log", base=2)
    axes.set_xlim(froc["rates"][0] / 2, froc["rates"][-1] * 2)
    axes.set_xticks(froc["rates"], ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    axes.minorticks_off()
    axes.set_ylim(0, 1.02)
    axes.grid(linewidth=0.4, alpha=0.6)
    axes.set_xlabel("false positives an image")
    axes.set_ylabel("sensitivity")
    axes.set_title("FROC")
    if shown:
        axes.figure.legend(title="mean sensitivity at the dots", loc="outside right upper", fontsize=8)
