"""Pictures of an overlap report: compatibility matrix, IoU of co-occurring pairs, pairs kept against tau, pair recall.

Written for this project, on matplotlib. The second and third are the paper's threshold analysis of each pair.
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

_LINES = 10  # the colours of matplotlib's default cycle; more curves cannot be told apart


def save_plots(report: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Write the pictures of a report as PNG.

    Args:
        report: from `overlap_report`, with `recall` where there is one.
        folder: made where it is not there; files of the same names are replaced.

    Returns:
        The files written: `compatibility.png`, `iou.png`, `pairs-kept.png`, and with recall `pair-recall.png`; those
        of which the report has nothing to show are left out.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        "compatibility": (draw_compatibility, (5.2, 4.4)),
        "iou": (draw_iou, (6.4, 4)),
        "pairs-kept": (draw_kept, (6.4, 4)),
    }
    if not report["iou"]:
        drawn = {}
    if "recall" in report and report["recall"]["pairs"]["all"]["pairs"]:
        drawn["pair-recall"] = (draw_recall, (6.4, 4))
    files = []
    for name, (draw, size) in drawn.items():
        figure = Figure(figsize=size, dpi=110, layout="constrained")
        draw(report, figure.subplots())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        file = folder / f"{name}.png"
        AtomicPath(file).write_bytes(buffer.getvalue())
        files.append(file)
    return files


def draw_compatibility(report: Mapping[str, Any], axes: Axes) -> None:
    """A of every two classes that occur, as a shaded matrix with its numbers."""
    names = report["compatibility"]["classes"]
    matrix = np.array(report["compatibility"]["matrix"], dtype=float)
    shown = [i for i, name in enumerate(names) if report["labels"][name]]
    matrix = matrix[np.ix_(shown, shown)]
    axes.figure.colorbar(axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1), label="A")
    axes.set_xticks(range(len(shown)), [names[i] for i in shown], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(shown)), [names[i] for i in shown])
    axes.set_title("Anatomical compatibility")
    if len(shown) <= 16:
        for (i, k), a in np.ndenumerate(matrix):
            if np.isfinite(a):
                axes.text(k, i, f"{a:.2f}", ha="center", va="center", color="white" if a > 0.55 else "black")


def draw_iou(report: Mapping[str, Any], axes: Axes) -> None:
    """Quartiles and range of the IoU of each pair of classes, the most frequent first, tau_spatial as a red mark."""
    rows = list(report["iou"].items())[:_LINES]
    boxes = [
        {
            "med": d["median"],
            "q1": d["q1"],
            "q3": d["q3"],
            "whislo": d["min"],
            "whishi": d["max"],
            "label": f"{t} ({d['n']})",
        }
        for t, d in rows
    ]
    axes.bxp(boxes, orientation="horizontal", showfliers=False, medianprops={"color": "black"})
    for height, (title, _) in enumerate(rows, 1):
        if title in report["overlapping"]:
            tau = report["overlapping"][title]["tau_spatial"]
            axes.plot([tau, tau], [height - 0.35, height + 0.35], color="tab:red", label="tau_spatial")
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("IoU: range, quartiles, median")
    axes.set_title("IoU of co-occurring pairs (their number)")
    _legend_once(axes)


def draw_kept(report: Mapping[str, Any], axes: Axes) -> None:
    """Share of co-occurring pairs with IoU >= tau, a curve a pair of classes with a rule; a dot at its tau_spatial."""
    tau = np.array(report["kept"]["tau"])
    curves = sorted(report["kept"]["pairs"].items(), key=lambda item: -item[1][0])[:_LINES]
    for title, counts in curves:
        n, rule = counts[0], report["overlapping"][title]["tau_spatial"]
        (line,) = axes.plot(tau, np.array(counts) / n, label=title)
        kept = np.interp(rule, tau, counts)
        axes.plot(rule, kept / n, "o", color=line.get_color())
        line.set_label(f"{title}: {kept:.0f} of {n} at {rule:g}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("tau_spatial")
    axes.set_ylabel("share of co-occurring pairs kept")
    axes.set_title("Pairs kept against tau_spatial")
    if curves:
        axes.legend()


def draw_recall(report: Mapping[str, Any], axes: Axes) -> None:
    """Pair recall with its Wilson 95% interval for each pair of classes that has true pairs."""
    rows = [(t, r) for t, r in report["recall"]["pairs"].items() if r["pairs"]][-_LINES:]
    for height, (_, r) in enumerate(rows):
        low, high = r["recall_interval"]
        axes.barh(height, r["recall"], color="tab:blue", alpha=0.6)
        axes.plot([low, high], [height, height], color="black")
    axes.set_yticks(range(len(rows)), [f"{t} ({r['both']} of {r['pairs']})" for t, r in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"both findings found, score >= {report['recall']['conf']:g}; Wilson 95% interval")
    axes.set_title("Recall of overlapping pairs")


def _legend_once(axes: Axes) -> None:
    """A legend without repeated labels, none where nothing is labelled."""
    entries = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    if entries:
        axes.legend(entries.values(), entries.keys())
