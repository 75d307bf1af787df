"""Reading YOLO label files and saying what is wrong with them, each problem with its file and line.

Written for this project. The host drops a whole image over one bad row, with a line in the log. Here a bad row is left
out and named, the good rows of the file stay, and a file that cannot be read at all has no rows (None), so that the
caller can leave the image out: an image whose labels are unknown is not a negative.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

_MAX_BYTES = 4 << 20  # some 80,000 rows; a larger file is no label file
OVERHANG = 1e-3  # labels of six decimals overhang by 1e-6; a visible overhang is worth a word
_SMALLEST = 1e-6  # of the image; nothing that small is a finding, and it would vanish in a file
_SAME = 1e-6  # two boxes closer than this in every value are one box


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the data.

    Attributes:
        file: the file (or table row) it was found in, as the user knows it.
        kind: one word that summaries count by.
        detail: what was found, and what was done about it.
        line: line of the file, from 1, where there is one.
    """

    file: str
    kind: str
    detail: str
    line: int | None = None

    def __post_init__(self) -> None:
        # a name with bytes of another encoding could not be written into a report
        for name in ("file", "detail"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.kind}: {self.detail}"


def printable(text: str) -> str:
    """The text with whatever UTF-8 cannot hold (file names of another encoding) as `\\xNN`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass
class FolderLabels:
    """Labels of a folder of images.

    Attributes:
        rows: image path to its labels (N, 5): class, centre x, centre y, width, height; 0..1. Without a label file the
            array is empty, as the host takes it; None where the label file cannot be read.
        problems: everything that was found.
    """

    rows: dict[Path, np.ndarray | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def count_problems(problems: Iterable[Problem]) -> dict[str, int]:
    """Number of problems of each kind, the most frequent first."""
    return dict(Counter(p.kind for p in problems).most_common())


def read_labels(
    file: str | Path, classes: int, scores: bool = False, name: str | None = None
) -> tuple[np.ndarray | None, list[Problem]]:
    """Read one label file.

    Args:
        file: text, a row a box: `class cx cy w h`, values 0..1; or `class x1 y1 x2 y2 x3 y3 ...`, a polygon, which
            becomes its bounding box as in the host.
        classes: number of classes; rows of another class are left out.
        scores: rows carry a confidence 0..1 as a sixth value (predictions).
        name: what the problems call the file; its path by default.

    Returns:
        The good rows (N, 5), with scores (N, 6), float64, in the order of the file; None where the file cannot be read.
        Boxes that overhang the image are clipped to it. Then the problems: kinds `unreadable`, `format`, `class`,
        `nan`, `outside`, `empty-box`, `duplicate` (rows left out), `overhang` (rows clipped and kept).
    """
    file = Path(file)
    name = name or str(file)
    columns = 6 if scores else 5
    try:
        if file.stat().st_size > _MAX_BYTES:
            return None, [Problem(name, "unreadable", f"larger than {_MAX_BYTES >> 20} MiB, no label file")]
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        return None, [Problem(name, "unreadable", f"cannot be read as text ({error.__class__.__name__})")]
    rows: list[list[float]] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        row, problem = _parse(line.split(), classes, columns)
        if row is not None and any(_equal(row, other) for other in rows):
            row, problem = None, ("duplicate", "the same box and class again; left out")
        if problem:
            problems.append(Problem(name, problem[0], problem[1], number))
        if row is not None:
            rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(-1, columns), problems


def _equal(row: list[float], other: list[float]) -> bool:
    """Whether two rows have the same class and the same box."""
    return row[0] == other[0] and all(abs(a - b) <= _SAME for a, b in zip(row[1:5], other[1:5], strict=True))


def _parse(words: list[str], classes: int, columns: int) -> tuple[list[float] | None, tuple[str, str] | None]:
    """The row of one line, or None, and the kind and detail of what is wrong with it, or None."""
    shown = " ".join(words[:6])[:60]
    try:
        values = [float(w) for w in words]
    except ValueError:
        return None, ("format", f"'{shown}' is not a row of numbers; left out")
    polygon = columns == 5 and len(values) >= 7 and len(values) % 2 == 1
    if len(values) != columns and not polygon:
        return None, ("format", f"{len(values)} values, expected {columns} or a polygon; left out")
    if not all(math.isfinite(v) for v in values):
        return None, ("nan", f"'{shown}' has a value that is not finite; left out")
    if values[0] != int(values[0]) or not 0 <= values[0] < classes:
        return None, ("class", f"class {words[0]}, expected a whole number from 0 to {classes - 1}; left out")
    box = values[1:] if polygon else values[1:5]  # behind it a score
    if any(not -OVERHANG <= v <= 1 + 2 * OVERHANG for v in box) or any(not 0 <= v <= 1 for v in values[len(box) + 1 :]):
        return None, ("outside", f"'{shown}' has a value outside 0..1; left out")
    if polygon:
        x1, y1, x2, y2 = min(values[1::2]), min(values[2::2]), max(values[1::2]), max(values[2::2])
        values = [values[0], (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    return _clip(values)


def _clip(values: list[float]) -> tuple[list[float] | None, tuple[str, str] | None]:
    """Clip a row's box to the image; rows inside it, within rounding, are not touched."""
    c, x, y, w, h = values[:5]
    if min(w, h) < _SMALLEST:
        return None, ("empty-box", f"width {w:g}, height {h:g}; left out")
    over = max(w / 2 - x, h / 2 - y, x + w / 2 - 1, y + h / 2 - 1)
    if over <= _SAME:
        return values, None
    x1, y1, x2, y2 = max(x - w / 2, 0), max(y - h / 2, 0), min(x + w / 2, 1), min(y + h / 2, 1)
    row = [c, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, *values[5:]]
    if min(row[3:5]) < _SMALLEST:
        return None, ("outside", f"the box touches the image only with its edge, at {x:g}, {y:g}; left out")
    if over <= OVERHANG:
        return row, None
    return row, ("overhang", f"the box overhangs the image by {over:.3f} of its side; clipped")


def read_label_folder(
    images: str | Path, labels: str | Path, classes: int, base: str | Path | None = None
) -> FolderLabels:
    """Read the labels of every image in a folder, and name what does not belong.

    Args:
        images: folder of images, searched without its sub-folders.
        labels: folder of label files of the same stems.
        classes: number of classes.
        base: problems name files relative to this folder; by default the folder above `images`.

    Returns:
        The labels of the images in sorted order, with the problems of `read_labels` and `missing` (an image without a
        label file), `extra` (a label file without an image, or a file that is neither), `same-stem` (two images that
        share one label file).

    Raises:
        FileNotFoundError: `images` or `labels` is no folder.
    """
    images, labels = Path(images), Path(labels)
    for folder in (images, labels):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder; expected images and labels of a YOLO dataset.")
    base = Path(base) if base else images.parent
    result = FolderLabels()
    stems: dict[str, Path] = {}
    for file in sorted(images.iterdir()):
        if file.suffix.lower() not in IMAGE_SUFFIXES or not file.is_file():
            result.problems.append(Problem(_name(file, base), "extra", "not an image; left alone"))
            continue
        if file.stem in stems:
            detail = f"shares its label file with {stems[file.stem].name}"
            result.problems.append(Problem(_name(file, base), "same-stem", detail))
        stems.setdefault(file.stem, file)
        label = labels / f"{file.stem}.txt"
        if not label.is_file():
            result.problems.append(
                Problem(_name(file, base), "missing", "no label file; taken as an image without boxes")
            )
            result.rows[file] = np.zeros((0, 5))
            continue
        result.rows[file], problems = read_labels(label, classes, name=_name(label, base))
        result.problems += problems
    for file in sorted(labels.iterdir()):
        if file.suffix.lower() != ".txt" or not file.is_file():
            if not file.is_dir():
                result.problems.append(Problem(_name(file, base), "extra", "not a label file; left alone"))
        elif file.stem not in stems and file.name != "classes.txt":
            result.problems.append(Problem(_name(file, base), "extra", "no image of this name; left alone"))
    return result


def _name(file: Path, base: Path) -> str:
    """The file relative to `base` where it lies below it."""
    return str(file.relative_to(base)) if file.is_relative_to(base) else str(file)
