"""What a lumbar spine looks like to someone who sees only its disc boxes: a few numbers for each disc level.

Written for this project. `spine_profile.csv` holds the numbers of the 52 training patients of spider-lumbar
(van der Graaf et al. 2024, CC BY 4.0); `scripts/grade.py levels fit` measures those of another set. Distances are in
units of the patient, the mean step between the six lowest discs, so that pixels and body size do not matter. The
patient stands head up with the front to the left.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.stats import median_abs_deviation

from yolospine_ultra.data.public.classes import disc_level
from yolospine_ultra.data.public.tables import read_table

LEVELS = tuple(disc_level(k) for k in range(1, 13))  # caudal to cranial: L5/S1 to T6/T7
UNIT_STEPS = 5  # the steps between L5/S1 and T12/L1, which every lumbar image shows
CUES = ("step", "angle", "aspect", "room", "width")
_LEAST = 10  # discs that a level needs for numbers of its own


@dataclass(frozen=True, eq=False)
class SpineProfile:
    """Median and spread of the cues of each of `LEVELS`, (12,) each, the lowest first.

    Attributes:
        step: distance from this disc's centre to the next above, in units; its spread is relative to it.
        angle: direction of that step, degrees from upright, positive where it leans to the front (left).
        aspect: log of height / width of the disc's box.
        room: distance from the disc's centre to the lower edge of the image, in units.
        width: log of the box's width in units.
        spread: standard deviation of each cue at each level by its name, from the median absolute deviation.
        discs: discs that were measured; where there were too few, the numbers are those of the level below.
    """

    step: np.ndarray
    angle: np.ndarray
    aspect: np.ndarray
    room: np.ndarray
    width: np.ndarray
    spread: dict[str, np.ndarray]
    discs: np.ndarray

    @property
    def height(self) -> np.ndarray:
        """How far each disc is above L5/S1 along the spine, in units, (12,)."""
        return np.concatenate([[0.0], np.cumsum(self.step[:-1])])

    @property
    def place(self) -> np.ndarray:
        """Where each disc lies, x to the right and y downwards from L5/S1, in units, (12, 2)."""
        turn = np.radians(self.angle[:-1])
        steps = -np.stack([np.sin(turn), np.cos(turn)], 1) * self.step[:-1, None]
        return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])


def box_centres(boxes: np.ndarray) -> np.ndarray:
    """Centres (N, 2) of boxes (N, 4)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def lean(steps: np.ndarray) -> np.ndarray:
    """Degrees from upright of steps (..., 2) towards the head in pixels, positive to the left."""
    return np.degrees(np.arctan2(-steps[..., 0], -steps[..., 1]))


def measure_profile(spines: Sequence[tuple[np.ndarray, Sequence[str], float]]) -> SpineProfile:
    """Measure a profile.

    Args:
        spines: of each image boxes (N, 4) of its discs, one a disc, their levels, and the height of the image in
            pixels. Images that lack one of the six lowest discs, or a disc in between, are left out.

    Raises:
        ValueError: fewer than 10 images are left.
    """
    values: dict[str, list[list[float]]] = {cue: [[] for _ in LEVELS] for cue in CUES}
    used = 0
    for boxes, levels, height in spines:
        order = np.argsort([LEVELS.index(x) if x in LEVELS else len(LEVELS) for x in levels])
        if tuple(levels[i] for i in order) != LEVELS[: len(order)] or len(order) <= UNIT_STEPS:
            continue
        used += 1
        for cue, row in _cues(np.asarray(boxes, dtype=float)[order], height).items():
            for level, value in enumerate(row):
                values[cue][level].append(float(value))
    if used < _LEAST:
        raise ValueError(
            f"{used} images show the discs L5/S1 to T12/L1 without a gap; expected at least {_LEAST}, add images."
        )
    return _profile(values)


def _cues(boxes: np.ndarray, height: float) -> dict[str, np.ndarray]:
    """The cues of one image's discs, lowest first."""
    centres, size = box_centres(boxes), boxes[:, 2:] - boxes[:, :2]
    steps = np.diff(centres, axis=0)
    length = np.linalg.norm(steps, axis=1)
    unit = length[:UNIT_STEPS].mean()
    return {
        "step": length / unit,
        "angle": lean(steps),
        "aspect": np.log(size[:, 1] / size[:, 0]),
        "room": (height - centres[:, 1]) / unit,
        "width": np.log(size[:, 0] / unit),
    }


def _profile(values: dict[str, list[list[float]]]) -> SpineProfile:
    """Medians and spreads, those of the level below where a level has too few discs."""
    middle: dict[str, np.ndarray] = {}
    spread: dict[str, np.ndarray] = {}
    for cue, levels in values.items():
        source = [k for k in range(len(levels)) if len(levels[k]) >= _LEAST]
        taken = [max(s for s in source if s <= k) for k in range(len(levels))]
        middle[cue] = np.array([np.median(levels[t]) for t in taken])
        spread[cue] = np.array([median_abs_deviation(levels[t], scale="normal") for t in taken])
    spread["step"] = spread["step"] / middle["step"]
    return SpineProfile(**middle, spread=spread, discs=np.array([len(x) for x in values["aspect"]]))


def profile_text(profile: SpineProfile) -> str:
    """A profile as the text of a CSV file, one row a level."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["level", "discs", *(name for cue in CUES for name in (cue, f"{cue}_sd"))])
    for k, level in enumerate(LEVELS):
        cells = [f"{v:.4f}" for cue in CUES for v in (getattr(profile, cue)[k], profile.spread[cue][k])]
        writer.writerow([level, profile.discs[k], *cells])
    return stream.getvalue()


@lru_cache(maxsize=1)
def default_profile() -> SpineProfile:
    """The profile measured on spider-lumbar."""
    return read_profile()


def read_profile(file: str | Path | None = None) -> SpineProfile:
    """Read a profile; the one measured on spider-lumbar by default.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no profile: a column or level is missing, or a cell is no finite number (spreads: above 0).
    """
    file = Path(file) if file else Path(__file__).with_name("spine_profile.csv")
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not a file; expected a profile that `grade.py levels fit` wrote.")
    columns = ["level", "discs", *(name for cue in CUES for name in (cue, f"{cue}_sd"))]
    rows = [row for _, row in read_table(file, columns, [])]
    if tuple(r["level"] for r in rows) != LEVELS:
        raise ValueError(f"{file} has the levels {', '.join(r['level'] for r in rows)}; expected {', '.join(LEVELS)}.")
    try:
        table = {c: np.array([float(r[c]) for r in rows]) for c in columns[1:]}
    except ValueError as error:
        raise ValueError(f"{file} is no profile: {error}; write it anew with `grade.py levels fit`.") from None
    spread = {cue: table[f"{cue}_sd"] for cue in CUES}
    if not (np.isfinite(list(table.values())).all() and all((s > 0).all() for s in (*spread.values(), table["step"]))):
        raise ValueError(f"{file} is no profile: steps and spreads must be above 0, and every number finite.")
    return SpineProfile(**{cue: table[cue] for cue in CUES}, spread=spread, discs=table["discs"].astype(int))
