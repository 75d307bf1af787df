"""Boxes that a user has drawn on converted pictures: a CSV of the columns this package writes, or COCO JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from yolospine_ultra.data.coco import coco_to_yolo, read_coco
from yolospine_ultra.data.labels import Problem
from yolospine_ultra.data.public.classes import DISORDERS, class_index
from yolospine_ultra.data.public.tables import read_table


@dataclass
class Annotations:
    """Boxes by the stem of their picture.

    Attributes:
        boxes: class index, (x1, y1, x2, y2) and level. The corners are in pixels of the picture, or where `relative` in
            shares of its sides.
        relative: see there.
    """

    boxes: dict[str, list[tuple[int, tuple[float, float, float, float], str]]] = field(default_factory=dict)
    relative: bool = False

    def on(self, stem: str, width: int, height: int) -> list[tuple[int, tuple[float, float, float, float], str]]:
        """The boxes of a picture, in its pixels."""
        scale = (width, height, width, height) if self.relative else (1, 1, 1, 1)
        return [
            (c, tuple(v * s for v, s in zip(xyxy, scale, strict=True)), level)
            for c, xyxy, level in self.boxes.get(stem, ())
        ]


def read_annotations(file: str | Path, problems: list[Problem]) -> Annotations:
    """Read a user's annotations.

    Args:
        file: `.csv` with the columns image, class, x1, y1, x2, y2 (pixels of the written picture) and perhaps level, as
            in `annotations.csv`; a row with an empty class says that the image was looked at and has no finding.
            `.json`: COCO; classes by the names of the categories, in any known spelling.
        problems: rows that cannot be used are added and left out.

    Raises:
        FileNotFoundError, ValueError: the file is not there, of another kind, or without a class of ours.
    """
    file = Path(file)
    if file.suffix.lower() == ".csv":
        return _from_csv(file, problems)
    if file.suffix.lower() == ".json":
        return _from_coco(file, problems)
    raise ValueError(f"{file}: expected annotations as .csv or COCO .json.")


def _from_csv(file: Path, problems: list[Problem]) -> Annotations:
    """Annotations of a table."""
    found = Annotations()
    corners = ("x1", "y1", "x2", "y2")
    for line, row in read_table(file, ("image", "class", *corners), problems):
        boxes = found.boxes.setdefault(PurePosixPath(row["image"]).stem, [])
        if not row["class"]:
            continue
        index = class_index(row["class"])
        if index is None or index >= len(DISORDERS):
            detail = f"class {row['class']!r}, expected one of {', '.join(DISORDERS)}; left out"
            problems.append(Problem(file.name, "class", detail, line))
            continue
        try:
            x1, y1, x2, y2 = (float(row[c]) for c in corners)
        except ValueError:
            problems.append(Problem(file.name, "format", "a corner is no number; left out", line))
            continue
        if not (0 <= x1 < x2 < 1e5 and 0 <= y1 < y2 < 1e5):
            problems.append(Problem(file.name, "empty-box", f"{x1:g}, {y1:g}, {x2:g}, {y2:g}; left out", line))
            continue
        boxes.append((index, (x1, y1, x2, y2), row.get("level", "")))
    return found


def _from_coco(file: Path, problems: list[Problem]) -> Annotations:
    """Annotations of a COCO dataset."""
    coco = read_coco(file)
    names = [c.get("name") for c in coco["categories"] if isinstance(c, dict)]
    known = {n: class_index(n) for n in names if isinstance(n, str)}
    classes = {n: i for n, i in known.items() if i is not None and i < len(DISORDERS)}
    if not classes:
        raise ValueError(f"{file} has none of the classes {', '.join(DISORDERS)} among its categories.")
    tables, _, found = coco_to_yolo(coco, classes)
    problems += [Problem(f"{file.name}, {p.file}", p.kind, p.detail) for p in found]
    boxes = {
        PurePosixPath(name).stem: [
            (int(c), (x - w / 2, y - h / 2, x + w / 2, y + h / 2), "") for c, x, y, w, h in rows.tolist()
        ]
        for name, rows in tables.items()
    }
    return Annotations(boxes, relative=True)
