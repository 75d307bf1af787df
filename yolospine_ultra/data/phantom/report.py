"""The spine phantom beside the paper: class shares, overlapping pairs, their mean IoU, Meyerding grades.

Source: the tables of Masood and Taj 2026 over 1,038 images with 8,991 boxes. Everything is counted on the written
labels, the pairs by `yolospine_ultra.evaluate.overlap`. The 95% intervals are percentiles of a bootstrap over patients,
whose slices are not independent; a grade share has too few patients for that and gets a Wilson interval with the
slipped patients as trials. The cohort is drawn more evenly than by chance, so the intervals are rather too wide.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolospine_ultra.data.phantom.slices import CLASS_NAMES
from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import wilson
from yolospine_ultra.evaluate.overlap.pairs import (
    PAPER_RULES,
    PAPER_TABLE,
    find_pairs,
    pair_statistics,
    rules_by_class,
)

PAPER_IMAGES = 1038
PAPER_BOXES = dict(zip(CLASS_NAMES, (633, 4131, 1921, 122, 2033, 151), strict=True))
PAPER_GRADES = {1: 0.764, 2: 0.227, 3: 0.009}
TOLERANCE = 0.1  # relative
_ROUNDS = 2000
_ROMAN = {1: "I", 2: "II", 3: "III"}
_NEEDED = ("image", "patient", "class", "x1", "y1", "x2", "y2", "meyerding")


@dataclass(frozen=True)
class Row:
    """One compared quantity; `low` and `high` bound the 95% interval of the phantom's value."""

    quantity: str
    paper: float
    phantom: float
    low: float
    high: float

    @property
    def relative(self) -> float:
        """Relative difference of the phantom from the paper."""
        return self.phantom / self.paper - 1

    @property
    def verdict(self) -> str:
        """ "within 10%", else "within sampling error" where the interval holds the paper's value, else "off"."""
        if abs(self.relative) <= TOLERANCE:
            return "within 10%"
        return "within sampling error" if self.low <= self.paper <= self.high else "off"


@dataclass(frozen=True)
class Report:
    """The comparison of one dataset."""

    images: int
    patients: int
    boxes: int
    rows: list[Row]

    def as_dict(self) -> dict:
        """The report as plain data; a value that cannot be had, such as the mean of nothing, is None."""
        rows = [
            {
                "quantity": r.quantity,
                **{k: _or_none(getattr(r, k)) for k in ("paper", "phantom", "relative", "low", "high")},
                "verdict": r.verdict,
            }
            for r in self.rows
        ]
        return {"images": self.images, "patients": self.patients, "boxes": self.boxes, "rows": rows}

    def as_text(self) -> str:
        """The report as a table for people."""
        head = f"{self.images} images of {self.patients} patients, {self.boxes} boxes; counts per {PAPER_IMAGES} images"
        lines = [head, "", f"{'':24}{'paper':>9}{'phantom':>9}{'diff':>8}   {'95% interval':<18}verdict"]
        for r in self.rows:
            digits = 3 if r.paper < 1 else 0
            interval = f"{r.low:.{digits}f} to {r.high:.{digits}f}"
            values = f"{r.paper:>9.{digits}f}{r.phantom:>9.{digits}f}{r.relative:>+8.1%}"
            lines.append(f"{r.quantity:24}{values}   {interval:<18}{r.verdict}")
        return "\n".join(lines)


def _or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _read(folder: Path) -> tuple[list[ImageFindings], list[str], dict[str, Counter]]:
    """Findings and patient of every image, and the Meyerding grades of every patient's boxes."""
    table = folder / "annotations.csv"
    if not table.is_file():
        raise FileNotFoundError(f"{table} is not there; expected a folder made by scripts/make_phantom.py.")
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [c for c in _NEEDED if c not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{table} lacks the columns {', '.join(missing)}; expected one of a spine phantom.")
        rows = list(reader)
    images: dict[str, list[tuple[int, list[float]]]] = {}
    patients: dict[str, str] = {}
    grades: dict[str, Counter] = {}
    for number, row in enumerate(rows, 2):
        try:
            images.setdefault(row["image"], []).append(
                (CLASS_NAMES.index(row["class"]), [float(row[c]) for c in ("x1", "y1", "x2", "y2")])
            )
            grade = int(row["meyerding"])
        except (ValueError, TypeError) as error:
            raise ValueError(f"{table}, line {number}: {error}; expected a class of the phantom and numbers.") from None
        patients[row["image"]] = row["patient"]
        if grade:
            grades.setdefault(row["patient"], Counter())[grade] += 1
    if not images:
        raise ValueError(f"{table} holds no finding; expected one of a spine phantom.")
    found = [
        ImageFindings(name, np.array([b for _, b in boxes]), np.array([c for c, _ in boxes]))
        for name, boxes in images.items()
    ]
    return found, [patients[f.name] for f in found], grades


def compare(folder: str | Path, seed: int = 0) -> Report:
    """Compare a written spine phantom with the paper's tables.

    Args:
        folder: made by `dataset.write_dataset`; its `annotations.csv` is read.
        seed: of the bootstrap.

    Raises:
        FileNotFoundError: there is no `annotations.csv`.
        ValueError: it is not one of a spine phantom.
    """
    images, patients, grades = _read(Path(folder))
    names, owner = np.unique(patients, return_inverse=True)
    rules = rules_by_class(PAPER_RULES, CLASS_NAMES)
    pairs = find_pairs(images, len(CLASS_NAMES))
    statistics = pair_statistics(pairs, rules)

    # One line a patient: images, boxes a class; then pairs and the sum of their IoU a pair type.
    sums = np.zeros((len(names), 1 + len(CLASS_NAMES) + 2 * len(rules)))
    np.add.at(sums[:, 0], owner, 1)
    for who, image in zip(owner, images, strict=True):
        sums[who, 1:7] += np.bincount(image.classes, minlength=len(CLASS_NAMES))
    for k, (pair, tau) in enumerate(rules.items()):
        kept = pairs.of(pair) & (pairs.iou >= tau) & statistics[pair].compatible
        np.add.at(sums[:, 7 + k], owner[pairs.image[kept]], 1)
        np.add.at(sums[:, 11 + k], owner[pairs.image[kept]], pairs.iou[kept])

    rng = np.random.default_rng(seed)
    drawn = np.stack(
        [np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names)) @ sums for _ in range(_ROUNDS)]
    )
    samples = np.concatenate([sums.sum(0)[None], drawn])
    scale = PAPER_IMAGES / samples[:, 0]
    boxes = samples[:, 1:7]
    rows = [_row("boxes", sum(PAPER_BOXES.values()), boxes.sum(1) * scale)]
    for k, (name, count) in enumerate(PAPER_BOXES.items()):
        rows.append(_row(f"share of {name}", count / sum(PAPER_BOXES.values()), boxes[:, k] / boxes.sum(1)))
    for k, pair in enumerate(PAPER_TABLE):
        rows.append(_row(f"pairs {pair.first}+{pair.second}", pair.pairs, samples[:, 7 + k] * scale))
    for k, pair in enumerate(PAPER_TABLE):
        with np.errstate(invalid="ignore"):
            rows.append(
                _row(f"mean IoU {pair.first}+{pair.second}", pair.mean_iou, samples[:, 11 + k] / samples[:, 7 + k])
            )
    rows += _grade_rows(grades)
    return Report(len(images), len(names), int(boxes[0].sum()), rows)


def _row(quantity: str, paper: float, samples: np.ndarray) -> Row:
    """A row of the value itself (first sample) and the bootstrap's samples of it."""
    low, high = np.nanpercentile(samples[1:], (2.5, 97.5)) if np.isfinite(samples[1:]).any() else (np.nan, np.nan)
    return Row(quantity, float(paper), float(samples[0]), float(low), float(high))


def _grade_rows(grades: dict[str, Counter]) -> list[Row]:
    """Shares of the Meyerding grades among the boxes of slipped discs."""
    total = sum(grades.values(), Counter())
    rows = []
    for grade, paper in PAPER_GRADES.items():
        share = total[grade] / total.total() if total else math.nan
        low, high = wilson(round(share * len(grades)), len(grades)) if total else (math.nan, math.nan)
        rows.append(Row(f"Meyerding {_ROMAN[grade]}", paper, share, low, high))
    return rows
