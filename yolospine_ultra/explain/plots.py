"""A panel a finding: the image with its box, and the map of each stage and method with what was measured of it.

Written for this project, on matplotlib.
"""

from __future__ import annotations

import io
import re
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.explain.finding import RANDOM, MapRecord
from yolospine_ultra.explain.model import STAGE2
from yolospine_ultra.explain.study import Explained

QUEUED = 16  # panels that wait at most, a few MB each
_SIDE = 2.3  # inches of a picture's width
_TEXT = 0.62  # inches below it
_ZOOM = 4.0  # sides of what is shown of stage 2, in sides of the box
_DPI = 100
_COLOURS, _STRENGTH = "inferno", 0.75  # of a map at its largest value
_BOX = "#56B4E9"

Window = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the image


class PanelWriter:
    """Writes panels in a process of its own, while the next finding is explained; drawing takes as long as explaining.

    Args:
        folder: where to; it is made.
        credit: as in `save_panel`.
    """

    def __init__(self, folder: Path, credit: str = "") -> None:
        self.folder, self.credit = folder, credit
        self.pool = ProcessPoolExecutor(1, get_context("spawn"))  # a fork of a process with threads may hang
        self.open: deque[Future] = deque()

    def __enter__(self) -> PanelWriter:
        return self

    def __call__(self, explained: Explained) -> None:
        """Queue a panel; waits where too many are queued. An error of an earlier one is raised here."""
        self.open.append(self.pool.submit(save_panel, explained, self.folder, self.credit))
        while len(self.open) > QUEUED:
            self.open.popleft().result()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Finish what is queued, or drop it where the study failed."""
        self.pool.shutdown(wait=True, cancel_futures=kind is not None)
        for future in self.open if kind is None else ():
            future.result()


def save_panel(explained: Explained, folder: Path, credit: str = "") -> Path:
    """Write a finding's panel as PNG, `IMAGE_NUMBER_CLASS.png`; `credit` is a line for its lower margin."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.+-]", "-", f"{explained.image}_{explained.number}_{explained.category}")
    buffer = io.BytesIO()
    draw_panel(explained, credit).savefig(buffer, format="png", pil_kwargs={"compress_level": 2})
    file = folder / f"{stem}.png"
    AtomicPath(file).write_bytes(buffer.getvalue())
    return file


def draw_panel(explained: Explained, credit: str = "") -> Figure:
    """A row a stage: the image and its box, then a map a method. Of stage 2 the surroundings of the box are shown."""
    stages = list(dict.fromkeys(r.stage for r in explained.records))
    shown = {s: [r for r in explained.records if r.stage == s and r.method != RANDOM] for s in stages}
    random = {r.stage: r for r in explained.records if r.method == RANDOM}
    h, w = explained.frame.image.shape[:2]
    columns, height = 1 + len(shown[stages[0]]), min(_SIDE * h / w, 2 * _SIDE)
    size = (columns * (_SIDE + 0.1) + 0.1, len(stages) * (height + _TEXT + 0.2) + 0.45)
    figure = Figure(figsize=size, dpi=_DPI)
    figure.subplots_adjust(0.01, (_TEXT + 0.2) / size[1], 0.99, 1 - 0.55 / size[1], 0.04, (_TEXT + 0.25) / height)
    grid = figure.subplots(len(stages), columns, squeeze=False)
    for row, stage in zip(grid, stages, strict=True):
        window = _window(explained) if stage == STAGE2 else (0, 0, w, h)
        _draw_image(row[0], explained, window)
        row[0].set_title("image" if stage != STAGE2 else "image, around the box", fontsize=9, pad=3)
        for axes, record in zip(row[1:], shown[stage], strict=True):
            _draw_map(axes, explained, record, window)
            axes.set_title(f"{record.method}, {stage}", fontsize=9, pad=3)
            axes.set_xlabel(_caption(record, random[stage]), fontsize=7, labelpad=3)
    correct = {None: "", True: ", correct", False: ", no label matches"}[explained.correct]
    title = f"{explained.image}: {explained.category}, score {explained.finding.score:.2f}{correct}"
    figure.suptitle(title, fontsize=10, y=1 - 0.08 / size[1], va="top")
    figure.text(0.5, 0.02 / size[1], credit, fontsize=7, ha="center", va="bottom")
    return figure


def _window(explained: Explained) -> Window:
    """The part of the image around a box, of the image's proportions."""
    h, w = explained.frame.image.shape[:2]
    x1, y1, x2, y2 = explained.box
    half = min(_ZOOM / 2 * max((x2 - x1) / w, (y2 - y1) / h), 0.5)
    x, y = (np.clip(c / n, half, 1 - half) for c, n in (((x1 + x2) / 2, w), ((y1 + y2) / 2, h)))
    return round((x - half) * w), round((y - half) * h), round((x + half) * w), round((y + half) * h)


def _draw_image(axes: Axes, explained: Explained, window: Window, values: np.ndarray | None = None) -> None:
    """The image with the box, under a map of its size where there is one: the clearer the more evidence."""
    image, (left, top, right, bottom) = explained.frame.image, window
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    picture = np.repeat(grey[top:bottom, left:right, None] / 255, 3, 2)
    if values is not None:
        shown = values[top:bottom, left:right]
        weight = _STRENGTH * shown[..., None]
        picture = picture * (1 - weight) + colormaps[_COLOURS](shown)[..., :3] * weight
    width = round(_SIDE * _DPI)  # at the size it is shown at, which is drawn faster than matplotlib resamples
    picture = cv2.resize(picture, (width, round(width * (bottom - top) / (right - left))), interpolation=cv2.INTER_AREA)
    axes.imshow(picture.clip(0, 1), extent=(left, right, bottom, top), interpolation="nearest")
    x1, y1, x2, y2 = explained.box
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=_BOX, linewidth=1))
    _bare(axes)


def _draw_map(axes: Axes, explained: Explained, record: MapRecord, window: Window) -> None:
    """A map over the image; of a refused one nothing but that it is missing."""
    if record.values is None:
        axes.text(0.5, 0.5, "no map", ha="center", va="center", transform=axes.transAxes, fontsize=9)
        _bare(axes)
    else:
        _draw_image(axes, explained, window, explained.frame.map_to_image(record.values))


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])


def _caption(record: MapRecord, random: MapRecord) -> str:
    """What was measured of a map, beside the random one."""
    if record.values is None:
        words = record.refused.split()
        return "\n".join(" ".join(words[i : i + 8]) for i in range(0, len(words), 8))
    lines = [f"energy in box {record.energy:.2f} ({random.energy:.2f}), maximum {'in' if record.hit else 'outside'}"]
    if record.faithful and random.faithful:
        own, other = record.faithful, random.faithful
        lines.append(f"deletion {own.deletion:.2f} ({other.deletion:.2f}), insertion {own.insertion:.2f}")
        lines[-1] += f" ({other.insertion:.2f})"
    about = record.specificity
    if about.difference is not None:
        lines.append(f"differs from {about.closest} by {about.difference:.2f}")
    left = list(record.sanity.values())[-1]
    lines.append(f"shuffled weights: rank correlation {'not defined' if left is None else f'{left:.2f}'}")
    return "\n".join(lines)
