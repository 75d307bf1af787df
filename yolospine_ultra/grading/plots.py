"""Pictures of grades and levels: confusion matrix, abstention, crops with their grades, levels on images.

Written for this project, on matplotlib.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.grading.boxes import GradedBoxes
from yolospine_ultra.grading.crops import cut, read_plane

_COLUMNS = 6  # crops of each grade in the grid
_SHOWN = 1.6  # side of what the grid shows, in longer sides of the box, so that a person sees the place
_LABELS = 0.25  # of an image's height, the strip for text beside it
_RIGHT, _WRONG, _ABSTAINED = "#009E73", "#D55E00", "#777777"  # Okabe and Ito 2008


def _save(figure: Figure, file: Path) -> Path:
    """Write a figure as PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    AtomicPath(file).write_bytes(buffer.getvalue())
    return file


def save_grade_plots(
    report: Mapping[str, Any],
    boxes: GradedBoxes,
    probabilities: np.ndarray,
    known: Sequence[int],
    roman: Mapping[int, str],
    folder: str | Path,
) -> list[Path]:
    """Write the pictures of a `grade_report`.

    Args:
        report: the report.
        boxes: what was graded.
        probabilities: (N, G) of the `known` grades.
        known: grades of the columns.
        roman: how grades are written.
        folder: made where it is not there.

    Returns:
        The files written: `confusion.png`, `abstention.png`, `crops.png`.
    """
    folder = Path(folder)
    files = []
    side = 3.2 + 0.5 * len(report["confusion"]["grades"])
    for name, size, draw in (
        ("confusion", (side + 0.8, side), lambda a: draw_confusion(report, a, roman)),
        ("abstention", (6.0, 4.0), lambda a: draw_abstention(report, a)),
    ):
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        draw(figure.subplots())
        files.append(_save(figure, folder / f"{name}.png"))
    figure = draw_crops(boxes, probabilities, known, roman, report["graded"]["minimum"])
    return [*files, _save(figure, folder / "crops.png")]


def draw_confusion(report: Mapping[str, Any], axes: Axes, roman: Mapping[int, str]) -> None:
    """Counts of true (rows) and given grades, shaded by their share of the row."""
    grades, counts = report["confusion"]["grades"], np.array(report["confusion"]["counts"])
    total = counts.sum(1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    axes.figure.colorbar(axes.imshow(shares, cmap="Blues", vmin=0, vmax=1), label="share of the true grade", shrink=0.8)
    axes.set_xticks(range(len(grades)), [roman[g] for g in grades])
    axes.set_yticks(range(len(grades)), [f"{roman[g]} ({n})" for g, n in zip(grades, total[:, 0], strict=True)])
    axes.set_xlabel("given grade")
    axes.set_ylabel("true grade (boxes)")
    kappa = report["kappa"]["value"]
    shown = "not defined" if kappa is None else f"{kappa:.2f}"
    axes.set_title(f"{report['kind'].capitalize()}: accuracy {report['accuracy']['value']:.2f}, kappa {shown}")
    for (i, k), count in np.ndenumerate(counts):
        ink = "white" if shares[i, k] > 0.55 else "black" if count else "silver"
        axes.text(k, i, str(count), ha="center", va="center", color=ink)


def draw_abstention(report: Mapping[str, Any], axes: Axes) -> None:
    """Share of boxes that get a grade, and accuracy of these, over the least probability of a grade."""
    curve = report["curve"]
    axes.plot(curve["minimum"], curve["coverage"], color="#0072B2", label="share that gets a grade")
    accuracy = [np.nan if a is None else a for a in curve["accuracy"]]
    axes.plot(curve["minimum"], accuracy, color=_WRONG, label="accuracy of these")
    majority = report["majority"]["value"]
    axes.axhline(majority, color="gray", linestyle=":", label=f"accuracy of always the commonest: {majority:.2f}")
    axes.axvline(report["graded"]["minimum"], color="black", linestyle="--", linewidth=0.8, label="minimum in use")
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, 0.95)
    axes.set_xlabel("least probability of a grade that is given")
    axes.grid(linewidth=0.4, alpha=0.6)
    axes.figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    axes.set_title(f"{report['kind'].capitalize()}: what abstaining buys")


def draw_crops(
    boxes: GradedBoxes, probabilities: np.ndarray, known: Sequence[int], roman: Mapping[int, str], minimum: float
) -> Figure:
    """Boxes of each true grade with some of their surroundings, a row a grade, spread over the given probabilities.

    Green titles are right, orange ones wrong, grey ones below `minimum`.
    """
    given, best = np.asarray(known)[probabilities.argmax(1)], probabilities.max(1)
    grades = np.unique(boxes.grades)
    figure = Figure(figsize=(1.5 * _COLUMNS, 1.95 * len(grades) + 0.4), dpi=120, layout="constrained")
    panels = figure.subplots(len(grades), _COLUMNS, squeeze=False)
    for row, grade in zip(panels, grades, strict=True):
        own = np.flatnonzero(boxes.grades == grade)
        own = own[np.argsort(-best[own], kind="stable")]
        shown = own[np.linspace(0, len(own) - 1, min(_COLUMNS, len(own))).round().astype(int)]
        for axes in row[len(shown) :]:
            axes.axis("off")
        for axes, i in zip(row, shown, strict=False):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            _draw_crop(axes, boxes, int(i))
            colour = _ABSTAINED if best[i] < minimum else _RIGHT if given[i] == grade else _WRONG
            title = f"true {roman[int(grade)]}, given {roman[int(given[i])]}\nprobability {best[i]:.2f}"
            axes.set_title(title, fontsize=8, color=colour)
    figure.suptitle(f"Green right, orange wrong, grey below {minimum:g} (no grade given)", fontsize=9)
    return figure


def _draw_crop(axes: Axes, boxes: GradedBoxes, index: int) -> None:
    """A box with its surroundings, as the picture shows it, its rim drawn."""
    plane, box = read_plane(boxes.files[index]), boxes.boxes[index]
    centre, half = (box[:2] + box[2:]) / 2, _SHOWN * (box[2:] - box[:2]).max() / 2
    left, top = np.maximum(np.floor(centre - half), 0)
    part = cut(plane, left, top, *(centre + half))
    axes.imshow(part, cmap="gray", extent=(left, left + part.shape[1], top + part.shape[0], top))
    axes.set_facecolor("black")
    x1, y1, x2, y2 = box
    axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="#56B4E9", linewidth=0.8)
    axes.set_xlim(centre[0] - half, centre[0] + half)
    axes.set_ylim(centre[1] + half, centre[1] - half)
    axes.set_aspect("equal")


def save_level_accuracy(report: Mapping[str, Any], folder: str | Path) -> Path:
    """Write `accuracy.png`: the share of right levels of a `level_study.removal_study`, with its intervals."""
    figure = Figure(figsize=(6.4, 3.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    studies = {f"{n} removed": s for n, s in report["removed"].items()}
    if "predictions" in report:
        studies["predictions"] = report["predictions"]
    kinds = {"discs": ("discs", "#0072B2"), "beside": ("SS, SP", "#E69F00"), "images": ("whole images", "#009E73")}
    shown = [k for k in kinds if any(s.get(k, {}).get("trials") for s in studies.values())]
    for n, kind in enumerate(shown):
        title, colour = kinds[kind]
        for y, study in enumerate(studies.values()):
            row = study.get(kind)
            if not row or not row["trials"]:
                continue
            height = y + (n - (len(shown) - 1) / 2) * 0.22
            if row["patients"][0] is not None:
                axes.plot(row["patients"], [height, height], color=colour)
            axes.plot(row["value"], height, "o", color=colour, label=title if not y else None)
            axes.text(1.008, height, f"{row['value']:.3f}", va="center", fontsize=8, color=colour)
    axes.set_yticks(range(len(studies)), list(studies))
    axes.invert_yaxis()
    axes.set_xlim(min(0.7, *axes.get_xlim()), 1.003)
    axes.set_xlabel("share with the right level; lines: 95% over patients")
    axes.set_title("Disc levels where discs are missing")
    axes.grid(axis="x", linewidth=0.4, alpha=0.6)
    axes.legend(loc="lower left", fontsize=8)
    return _save(figure, Path(folder) / "accuracy.png")


def save_levels(reports: Sequence[Mapping[str, Any]], files: Mapping[str, Path], folder: str | Path) -> Path:
    """Write `levels.png`: up to six images with the findings of each level.

    Args:
        reports: `levels_report.level_report` of each image.
        files: image file by name.
        folder: made where it is not there.
    """
    shown = [r for r in reports if r["levels"]][:6]
    columns = min(3, max(len(shown), 1))
    lines = max(-(-len(shown) // columns), 1)
    figure = Figure(figsize=(3.4 * columns, 3.5 * lines), dpi=120, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in panels[len(shown) :]:
        axes.axis("off")
    for axes, report in zip(panels, shown, strict=False):
        plane = read_plane(files[report["image"]])
        axes.imshow(plane, cmap="gray")
        for level, classes in report["levels"].items():
            x1, y1, x2, y2 = np.mean([f["box"] for f in report["findings"] if f["level"] == level], axis=0)
            axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="#56B4E9", linewidth=0.9)
            text = f"{level}: {', '.join(classes)}"
            style = {"facecolor": "black", "alpha": 0.6, "pad": 0.6, "linewidth": 0}
            axes.text(x1 - 4, (y1 + y2) / 2, text, color="white", fontsize=6.5, ha="right", va="center", bbox=style)
        axes.set_xlim(-_LABELS * plane.shape[0], plane.shape[1])  # room for the text left of the spine
        axes.set_ylim(plane.shape[0], 0)
        axes.set(xticks=[], yticks=[], facecolor="black")
        axes.set_title(report["image"], fontsize=7)
    return _save(figure, Path(folder) / "levels.png")
