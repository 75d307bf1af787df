"""Qualitative panels: labels, our detections, those of the best baseline, on images chosen by a rule.

Written for this project. A picture that somebody picked proves nothing, so the images are picked by the difference of
the two models' F1 on them: the largest in our favour, the median, and the largest against us.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from yolospine_ultra.benchmark.records import Truth, read_truth
from yolospine_ultra.benchmark.report.plots import WIDTH, style
from yolospine_ultra.benchmark.report.roles import Roles
from yolospine_ultra.benchmark.report.source import Results
from yolospine_ultra.data.images import open_image
from yolospine_ultra.data.labels import Problem
from yolospine_ultra.data.scans import read_view, scan_kind
from yolospine_ultra.evaluate.findings import ImageFindings, read_predictions
from yolospine_ultra.evaluate.image_names import ImageNames
from yolospine_ultra.evaluate.matching import iou_matrix, match_by_class

# Okabe and Ito 2008, without black: classes in their order
COLOURS = ("#F0E442", "#56B4E9", "#CC79A7", "#009E73", "#D55E00", "#E69F00", "#0072B2")
SAME_SITE = 0.7  # IoU from which boxes are drawn one inside the other
LINE = 0.028  # height of a line of words, relative to the image
LETTER = 0.017  # width of a letter, relative to the image


@dataclass(frozen=True, eq=False)
class Panel:
    """An image with its labels and both models' detections.

    Attributes:
        name: file name.
        why: why it was chosen.
        pixels: (H, W, 3) uint8.
        truth, ours, baseline: findings, detections above the sweep's confidence only.
    """

    name: str
    why: str
    pixels: np.ndarray
    truth: ImageFindings
    ours: ImageFindings
    baseline: ImageFindings


def make_panels(results: Results, roles: Roles, images: Path, problems: list[str]) -> list[Panel]:
    """Choose images and read what is drawn on them.

    Args:
        results: the sweep.
        roles: its models' parts; both ours and a baseline are needed.
        images: folder in which the images lie, at any depth.
        problems: gets a sentence for everything that was left out.

    Returns:
        Up to three panels; none, with a problem, where files are missing.
    """
    try:
        truth = read_truth(results.folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems.append(f"ground_truth.json cannot be used ({error}); there are no panels.")
        return []
    seeds = {r.seed for r in results.of(roles.ours)} & {r.seed for r in results.of(roles.baseline)}
    if not seeds:
        problems.append(f"{roles.ours} and {roles.baseline} have no seed in common; there are no panels.")
        return []
    found = [_detections(results, m, min(seeds), truth, problems) for m in (roles.ours, roles.baseline)]
    if None in found:
        return []
    ours, baseline = found
    images_of = [i for i in range(len(truth.images)) if i in ours and i in baseline and len(truth.images[i])]
    gain = {i: f1(truth.images[i], ours[i]) - f1(truth.images[i], baseline[i]) for i in images_of}
    order = sorted(gain, key=lambda i: (-gain[i], truth.images[i].name))
    files = [f for f in sorted(images.rglob("*")) if f.is_file()]
    known = ImageNames([f.relative_to(images).as_posix() for f in files])
    panels = []
    for place, why in _places(len(order)):
        i = order[place]
        name = truth.images[i].name
        try:
            meant = known.find(name)
            if len(meant) != 1:
                raise OSError(f"{'several such files' if meant else 'no such file'} under {images}")
            pixels = _pixels(files[meant[0]])
        except (OSError, ValueError, ImportError) as error:
            problems.append(f"Image {name} cannot be drawn ({error}).")
            continue
        panels.append(Panel(name, f"{why} ({gain[i]:+.2f})", pixels, truth.images[i], ours[i], baseline[i]))
    return panels


def _pixels(file: Path) -> np.ndarray:
    """What a detector sees of a file, image or scan: (H, W, 3) uint8."""
    if scan_kind(file):
        return read_view(file).channels()
    with open_image(file) as image:
        return np.asarray(image.convert("RGB"))


def _places(images: int) -> list[tuple[int, str]]:
    """Which of the images, in the order of our gain, are shown, and what to call them."""
    chosen = {0: "largest gain", images // 2: "median", images - 1: "largest loss"}
    return sorted(chosen.items()) if images else []


def _detections(
    results: Results, model: str, seed: int, truth: Truth, problems: list[str]
) -> dict[int, ImageFindings] | None:
    """Detections of a seed at the sweep's confidence by index of the image, all folds together; None where a file is
    damaged."""
    found: dict[int, ImageFindings] = {}
    damage: list[Problem] = []
    for record in results.of(model):
        if record.seed != seed:
            continue
        own = truth.of(record.fold)
        file = results.folder / "cells" / record.cell / "predictions.json"
        try:
            read = read_predictions(file, [truth.images[i] for i in own], len(results.sweep.names), damage.append)
        except (OSError, ValueError) as error:
            problems.append(f"cells/{record.cell}/predictions.json cannot be used ({error}); there are no panels.")
            return None
        found |= {int(i): f.above(results.sweep.conf) for i, f in zip(own, read, strict=True)}
    if damage:
        problems.append(f"{len(damage)} detections of {model} were left out, the first: {damage[0]}.")
    return found


def f1(truth: ImageFindings, found: ImageFindings) -> float:
    """F1 of an image at IoU 0.5, class by class; 1 where nothing is labelled and nothing found."""
    both = len(truth) + len(found)
    return 2 * int((match_by_class(truth, found) >= 0).sum()) / both if both else 1.0


def draw_panels(panels: Sequence[Panel], names: Sequence[str], ours: str, baseline: str) -> Figure:
    """One row an image: labels, ours, baseline; false detections dashed, missed labels dotted in white."""
    with style():
        figure = Figure(figsize=(WIDTH, 0.5 + 2.55 * len(panels)), layout="constrained")
        grid = figure.subplots(len(panels), 3, squeeze=False)
        for row, panel in zip(grid, panels, strict=True):
            for axes in row:
                axes.imshow(panel.pixels)
                axes.set_axis_off()
            _draw(row[0], panel.truth, np.ones(len(panel.truth), bool), names, panel.pixels.shape[:2])
            for axes, found in ((row[1], panel.ours), (row[2], panel.baseline)):
                matched = match_by_class(panel.truth, found)
                _draw(axes, found, np.isin(np.arange(len(found)), matched), names, panel.pixels.shape[:2])
                for x1, y1, x2, y2 in panel.truth.boxes[matched < 0]:
                    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec="white", ls=":", lw=0.9))
            row[0].set_title(f"labels · {panel.why}", fontsize=7.5)
            row[1].set_title(ours, fontsize=7.5)
            row[2].set_title(baseline, fontsize=7.5)
        used = sorted({int(c) for p in panels for f in (p.truth, p.ours, p.baseline) for c in f.classes})
        handles = [Line2D([], [], color=_colour(c), lw=2, label=names[c]) for c in used]
        handles += [
            Line2D([], [], color="#777777", ls="--", label="false"),
            Line2D([], [], color="#777777", ls=":", label="missed"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=7)
    return figure


def _colour(index: int) -> str:
    """Colour of a class."""
    return COLOURS[index % len(COLOURS)]


def _draw(axes: Axes, found: ImageFindings, right: np.ndarray, names: Sequence[str], shape: tuple[int, int]) -> None:
    """Boxes in their class's colour; words of boxes at one height stand in one line beside them.

    Args:
        axes: with the image.
        found: N findings.
        right: (N,) bool, drawn solid; the others dashed.
        names: of the classes.
        shape: height and width of the image, pixels.
    """
    height, width = shape
    overlap = iou_matrix(found.boxes, found.boxes)
    for i, box in enumerate(found.boxes):
        depth = int((overlap[i, :i] >= SAME_SITE).sum())  # equal boxes stay apart
        x1, y1, x2, y2 = box + np.array([1, 1, -1, -1]) * height / 240 * depth
        axes.add_patch(
            Rectangle(
                (x1, y1), max(x2 - x1, 0), max(y2 - y1, 0), fill=False, lw=1.1,
                ec=_colour(int(found.classes[i])), ls="-" if right[i] else "--",
            )
        )  # fmt: skip
    middle = found.boxes[:, [1, 3]].mean(1)
    left = [int(i) for i in np.argsort(middle, kind="stable")]
    while left:
        line = [i for i in left if middle[i] - middle[left[0]] < LINE * height]
        left = left[len(line) :]
        words = "  ".join(_words(found, i, names) for i in line)
        x = found.boxes[line, 2].max() + 3
        fits = x + LETTER * width * len(words) < width
        axes.text(
            x if fits else width - 2, middle[line].mean(), words,
            fontsize=4.8, color="white", va="center", ha="left" if fits else "right", clip_on=True,
            bbox={"facecolor": "black", "alpha": 0.45, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def _words(found: ImageFindings, i: int, names: Sequence[str]) -> str:
    """Class of a finding, with its score where it has one."""
    name = names[int(found.classes[i])]
    return name if found.scores is None else f"{name} {found.scores[i]:.2f}".replace(" 0.", " .")
