"""CSV files of a reader study: what readers labelled, and how long each scan took.

Written for this project; the formats stand in `read_readings` and `read_seconds`. Files are UTF-8 with commas and a
head; columns may stand in any order, and further ones are not read. An image is called by its name in the dataset, with
or without folders and suffix.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from yolospine_ultra.data.labels import Problem
from yolospine_ultra.evaluate.findings import ImageFindings, Reporter, log_problem
from yolospine_ultra.evaluate.image_names import ImageNames

MODEL = "model"  # what the model is called beside the readers
CORNERS = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True, eq=False)
class Reading:
    """What one reader labelled in I images.

    Attributes:
        reader: whose it is.
        read: (I,) bool, which images the reader read.
        present: (I, C) bool, which classes the reader called present.
        boxes: the labelled boxes of each image, scores 1; None for a reader who gave classes alone.
    """

    reader: str
    read: np.ndarray
    present: np.ndarray
    boxes: list[ImageFindings] | None


@dataclass
class _Rows:
    """A reader's rows as they are collected: class and corners (None without) of each image, by its index."""

    images: dict[int, list[tuple[int, tuple[float, ...] | None]]] = field(default_factory=dict)
    normal: dict[int, int] = field(default_factory=dict)  # images without findings, and the line that says so
    with_box: int | None = None  # a line of each kind
    without_box: int | None = None


def read_readings(
    file: str | Path,
    images: Sequence[ImageFindings],
    names: Sequence[str],
    report: Reporter = log_problem,
    read_all: bool = False,
    ungraded: Collection[str] = (),
) -> list[Reading]:
    """Read what readers labelled.

    The CSV has the columns `reader`, `image`, `class` and, for boxes, `x1`, `y1`, `x2`, `y2`. A row is a finding:

        reader,image,class,x1,y1,x2,y2
        R1,104_t2.png,DDD,201,306,269,347    a box, in pixels of the original image from its upper left corner
        R1,104_t2.png,LDB,201,306,269,347    a second finding at the same place
        R1,105_t1.png,,,,,                   an image that R1 read and found nothing in
        R2,104_t2.png,DDD,,,,                a class that R2 sees in the image, without a box

    An image with a row of a reader was read by that reader; one without was not, and does not count for them (with
    `read_all` it was read, and nothing found). A reader gives all findings with boxes or all without: without, only
    whole images can be compared. Rows of one reader, image, class and box count once.

    Args:
        file: the CSV.
        images: the dataset's images.
        names: class names; `class` is one of them, letter by letter.
        report: called with every `Problem`: rows of other images or of ungraded classes, which are left out, and double
            ones.
        read_all: whether every reader read every image.
        ungraded: class names that rows may have and that are left out.

    Returns:
        One `Reading` a reader, sorted by name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: columns are missing; no row can be used; or a row has no reader, a class that is unknown, a box that
            is none, or contradicts another row.
    """
    find, readers, seen = _finder(images), {}, set()
    table = _rows(file, ("reader", "image", "class"))
    boxed = [c for c in CORNERS if c in table[0][1]] if table else []
    if boxed and len(boxed) < len(CORNERS):
        raise ValueError(f"{file} has of {', '.join(CORNERS)} only {', '.join(boxed)}; expected all of them or none.")
    for line, row in table:
        where = f"{file}, line {line}"
        if not row["reader"] or row["reader"] == MODEL:
            raise ValueError(f"{where}: reader {row['reader']!r}; expected a reader's name, and not {MODEL!r}.")
        rows = readers.setdefault(row["reader"], _Rows())
        image = find(row["image"], where, report)
        if image is None:
            continue
        corners = _corners(row, where, images[image].name) if boxed else None
        if row["class"] and row["class"] not in names:
            if row["class"] not in ungraded:  # left out, a slip of the pen would be a finding that the reader missed
                raise ValueError(f"{where}: class {row['class']!r}, expected one of {', '.join(names)}.")
            report(Problem(str(file), "ungraded", f"{row['class']} is not graded here; left out", line))
            rows.images.setdefault(image, [])
            continue
        key = (row["reader"], image, row["class"], corners)
        if key in seen:
            report(Problem(str(file), "duplicate", "says the same as a row above; counted once", line))
            continue
        seen.add(key)
        _collect(rows, image, row["class"], names, corners, line, where)
    readings = [_reading(r, rows, images, names, bool(boxed), read_all, file) for r, rows in sorted(readers.items())]
    if not readings or not any(r.read.any() for r in readings):
        raise ValueError(f"{file} has no row for these images; expected reader, image and class of each finding.")
    return readings


def _collect(
    rows: _Rows,
    image: int,
    label: str,
    names: Sequence[str],
    corners: tuple[float, ...] | None,
    line: int,
    where: str,
) -> None:
    """Put a row to its reader's."""
    found = rows.images.setdefault(image, [])
    if not label:
        if corners:
            raise ValueError(f"{where}: a box without a class; give its class, or leave the box empty for no finding.")
        rows.normal[image] = line
        return
    found.append((list(names).index(label), corners))
    if corners:
        rows.with_box = line
    else:
        rows.without_box = line


def _reading(
    reader: str,
    rows: _Rows,
    images: Sequence[ImageFindings],
    names: Sequence[str],
    boxed: bool,
    read_all: bool,
    file: str | Path,
) -> Reading:
    """A reader's rows in the order of the images.

    Raises:
        ValueError: findings with and without boxes, or an image that has findings and none.
    """
    if rows.with_box and rows.without_box:
        raise ValueError(
            f"{file}: {reader} has a box in line {rows.with_box} and none in line {rows.without_box}; expected boxes "
            "for all findings of a reader or for none."
        )
    both = [i for i in rows.normal if rows.images[i]]
    if both:
        where = f"{file}, line {rows.normal[both[0]]}"
        raise ValueError(f"{where}: no finding of {reader} in {images[both[0]].name}, but other rows have one.")
    present, boxes = np.zeros((len(images), len(names)), dtype=bool), []
    for i, image in enumerate(images):
        # equal scores are matched in their order, which shall not be that of the file
        found = sorted(rows.images.get(i, ()), key=lambda f: (f[0], f[1] or ()))
        classes = np.array([c for c, _ in found], dtype=np.int64)
        present[i, classes] = True
        if boxed and not rows.without_box:
            boxes.append(ImageFindings(image.name, [b for _, b in found], classes, np.ones(len(found))))
    read = np.array([read_all or i in rows.images for i in range(len(images))])
    return Reading(reader, read, present, boxes if boxed and not rows.without_box else None)


def read_seconds(
    source: str, images: Sequence[ImageFindings], report: Reporter = log_problem
) -> dict[str, dict[str, float | int | None]]:
    """Read how long scans took, from the image to its findings.

    Args:
        source: a number of seconds, which is the model's for every scan; or a CSV with the columns `image`, `seconds`
            and, where there are several, `reader`, the model's rows having the reader `model`.
        images: the dataset's images.
        report: called with every `Problem`: rows of other images, which are left out.

    Returns:
        For the model and each reader: scans, how many were timed (None for a number); mean, median, min, max seconds.

    Raises:
        FileNotFoundError: neither a number nor a file.
        ValueError: columns are missing; no row can be used; a time that is not above 0, or a scan timed twice.
    """
    try:
        value = float(source)
    except ValueError:
        pass
    else:
        if not 0 < value < math.inf:
            raise ValueError(f"{source} seconds a scan; expected a number above 0.")
        return {MODEL: {"scans": None, "mean": value, "median": None, "min": None, "max": None}}
    find, times = _finder(images), {}  # seconds of each image by its index, for each reader
    for line, row in _rows(source, ("image", "seconds")):
        where = f"{source}, line {line}"
        image = find(row["image"], where, report)
        if image is None:
            continue
        seconds = _number(row["seconds"])
        if not 0 < seconds < math.inf:
            raise ValueError(f"{where}: {row['seconds']!r} seconds, expected a number above 0.")
        timed = times.setdefault(row.get("reader") or MODEL, {})
        if image in timed:
            raise ValueError(f"{where}: {row['image']} is timed twice; expected one row a scan and reader.")
        timed[image] = seconds
    if not times:
        raise ValueError(f"{source} has no row for these images; expected image and seconds of each scan.")
    made = {}
    for reader, found in sorted(times.items()):
        t = np.array(list(found.values()))
        summary = {"mean": t.mean(), "median": np.median(t), "min": t.min(), "max": t.max()}
        made[reader] = {"scans": len(t)} | {k: float(v) for k, v in summary.items()}
    return made


def _rows(file: str | Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Line and cells, without space around them, of each row of a CSV that is not empty."""
    if not Path(file).is_file():
        raise FileNotFoundError(f"{file} is not a file; expected a CSV with the columns {', '.join(columns)}.")
    try:
        with Path(file).open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, restval="")
            head = [str(c).strip() for c in reader.fieldnames or ()]
            reader.fieldnames = head
            missing = [c for c in columns if c not in head]
            if missing:
                raise ValueError(f"{file} has no column {', '.join(missing)}; it has {', '.join(head) or 'none'}.")
            rows = [(reader.line_num, {k: v.strip() for k, v in row.items() if k}) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file} is not a CSV in UTF-8: {error}") from error
    return [(line, row) for line, row in rows if any(row.values())]


def _number(text: str) -> float:
    """A number, NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _corners(row: dict[str, str], where: str, image: str) -> tuple[float, ...] | None:
    """x1 y1 x2 y2 of a row, None where all four are empty."""
    text = [row[c] for c in CORNERS]
    if not any(text):
        return None
    x1, y1, x2, y2 = corners = tuple(map(_number, text))
    if not (all(map(math.isfinite, corners)) and x1 < x2 and y1 < y2):
        raise ValueError(f"{where}: box {', '.join(text)} in {image}, expected x1 < x2 and y1 < y2 in pixels.")
    return corners


def _finder(images: Sequence[ImageFindings]) -> Callable[[str, str, Reporter], int | None]:
    """A function from an image's name, the place it stands in, and a reporter to the image's index."""
    known = ImageNames([x.name for x in images])

    def find(name: str, where: str, report: Reporter) -> int | None:
        found = known.find(name)
        if len(found) > 1:
            both = " and ".join(images[i].name for i in found[:2])
            raise ValueError(f"{where}: {name!r} may be {both}; give its folder too.")
        if not found:
            report(Problem(where, "unknown-image", f"the data set has no image {name!r}; left out"))
            return None
        return found[0]

    return find
