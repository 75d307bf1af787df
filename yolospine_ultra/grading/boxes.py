"""Boxes with grades: the rows of a dataset's `annotations.csv`, each with its image file.

Written for this project. The table is the one that the spine phantom, the converters of public datasets and
spider-lumbar bring along: image, patient, level, a box as x1 y1 x2 y2 or x y w h in pixels, `class` (a row a finding)
or `classes` (a row a disc, `A|B`), and a column a grade. What cannot be used is reported and left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from yolospine_ultra.data.labels import Problem
from yolospine_ultra.data.public.tables import read_table, whole_number
from yolospine_ultra.evaluate.dataset_files import find_files
from yolospine_ultra.evaluate.findings import Reporter, log_problem

_CORNERS, _SIZE = ("x1", "y1", "x2", "y2"), ("x", "y", "w", "h")


@dataclass(frozen=True, eq=False)
class GradedBoxes:
    """N boxes.

    Attributes:
        files: (N,) image file of each, as Path objects.
        patients, sequences, levels: (N,) str; sequence and level are empty where the table has none.
        classes: (N,) tuples of class names.
        boxes: (N, 4) float64, x1 y1 x2 y2 in pixels of the image.
        grades: (N,) int64; 0 where no grade was asked for.
    """

    files: np.ndarray
    patients: np.ndarray
    sequences: np.ndarray
    levels: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    grades: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    def take(self, keep: np.ndarray) -> GradedBoxes:
        """Some of the boxes, by mask or index."""
        return GradedBoxes(**{f.name: getattr(self, f.name)[keep] for f in fields(self)})

    def by_image(self) -> list[np.ndarray]:
        """Indices of the boxes of each image, images in the order of their first box."""
        _, first, image = np.unique(self.files.astype(str), return_index=True, return_inverse=True)
        return [np.flatnonzero(image == k) for k in np.argsort(first)]


def read_boxes(
    data: str | Path,
    split: str,
    grade: str | None,
    root: str | Path | None = None,
    grades: Sequence[int] = (1, 2, 3, 4, 5),
    report: Reporter = log_problem,
) -> GradedBoxes:
    """Read the boxes of a split that have a grade.

    Args:
        data: a dataset YAML, or the name of one of the plugin's; `annotations.csv` lies in its folder.
        split: "train", "val", "test" or "all".
        grade: column of the grade. Rows where it is empty or 0 have none and are left out without a word. None: every
            row, without a grade.
        root: folder in place of the YAML's `path`.
        grades: grades there are.
        report: called with every `Problem`.

    Raises:
        FileNotFoundError: no such YAML or folder, or no `annotations.csv` in it.
        ValueError: the table lacks a column, several images have one name, or no box of the split has a grade.
    """
    found = find_files(data, split, root)
    table = found.base / "annotations.csv"
    if not table.is_file():
        raise FileNotFoundError(f"{table} is not there; expected a row a box with the column {grade}.")
    files = {f.name: f for f in found.images}
    if len(files) < len(found.images):
        twice = next(f.name for f in found.images if files[f.name] is not f)
        raise ValueError(f"several images are called {twice}, so that {table.name} does not tell whose boxes it has.")
    problems: list[Problem] = []
    rows = []
    for line, row in read_table(table, ("image", "patient", *([grade] if grade else [])), problems):
        of_another = split != "all" and row.get("split") not in (None, "", split)
        if row["image"] not in files or of_another or (grade and row[grade] in ("", "0")):
            continue
        parsed = _parse(row, grade, grades)
        if isinstance(parsed, str):
            problems.append(Problem(table.name, "row", f"{parsed}; left out", line))
            continue
        names = tuple((row.get("classes") or row.get("class") or "").split("|"))
        place = files[row["image"]], row["patient"], row.get("sequence", ""), row.get("level", "")
        rows.append((*place, names, *parsed))
    for problem in problems:
        report(problem)
    if not rows:
        what = f"with {grade} {grades[0]} to {grades[-1]} " if grade else ""
        raise ValueError(f"{table} has no box {what}in split {split!r}; expected at least one.")
    return _from_rows(rows)


def _from_rows(rows: Sequence[tuple]) -> GradedBoxes:
    """Columns of rows in the order of the attributes; tuples and paths stay objects."""
    columns = []
    for column in zip(*rows, strict=True):
        made = np.empty(len(column), dtype=object)
        made[:] = column
        columns.append(made)
    files, patients, sequences, levels, classes, boxes, values = columns
    text = (x.astype(str) for x in (patients, sequences, levels))
    return GradedBoxes(files, *text, classes, np.array(list(boxes), dtype=float), values.astype(np.int64))


def _parse(row: dict[str, str], grade: str | None, grades: Sequence[int]) -> tuple[list[float], int] | str:
    """Box and grade of a row, or what is wrong with it."""
    value = whole_number(row[grade]) if grade else 0
    if grade and value not in grades:
        return f"{grade} {row[grade]!r}, expected {grades[0]} to {grades[-1]}"
    columns = _CORNERS if "x1" in row else _SIZE
    try:
        box = [float(row[c]) for c in columns]
    except (KeyError, ValueError):
        return f"no box: expected numbers in the columns {', '.join(_CORNERS)} or {', '.join(_SIZE)}"
    if columns is _SIZE:
        box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    if not (np.isfinite(box).all() and box[2] > box[0] and box[3] > box[1]):
        return f"box {box}, expected finite corners and a size above 0"
    return box, value
