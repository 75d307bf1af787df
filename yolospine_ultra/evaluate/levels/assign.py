"""The disc level of every finding, by its order along the spine, also where a disc was missed or made up.

Written for this project. The boxes of discs are places along a curve (`spine_curve`). Every way to give them levels
that keeps their order, L5/S1 the lowest there is, is scored by how well the spine then looks like one
(`spine_profile`), and the best is taken:

- step: the gap between two places against the steps that lie between their levels. Steps shrink towards the head. A gap
  of two steps is a missed disc, which costs log `MISSED`;
- angle, aspect: the lowest step leans back and the box of L5/S1 is tall, because that disc is tilted. This, not the
  order, tells whether the lowest place is L5/S1;
- room: how far below the lowest place the image ends, where its height is known: the sacrum is below L5/S1;
- width against the other places. Of predictions up to two places may be no disc of the spine, such as the rest of the
  disc S1/S2, which is narrow, or a shadow in the belly. Each costs the log of 1 - its score, and what an odd true
  disc costs, lest that is called false. Labels are taken for true.

A cue counts as the logarithm of Student's t density (4 degrees of freedom), whose tails let one odd vertebra pass. The
cues of one patient lean together, so angle and aspect count `_DEPENDENT` times. Vertebrae are counted, not recognised:
a patient with four or six lumbar vertebrae is numbered as if there were five, as radiologists do without a view of the
whole spine.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.levels.spine_curve import find_places, fit_curve, typical_width
from yolospine_ultra.evaluate.levels.spine_profile import LEVELS, SpineProfile, box_centres, default_profile, lean

DISC_CLASSES = ("DDD", "IVDn", "LDB", "TDB", "IVD")  # boxes drawn around the disc
BESIDE_DISC_CLASSES = ("SS", "SP")  # boxes of a level that are not the disc's
MISSED = 0.05  # chance that a disc of the spine has no finding; chosen on training patients, as is _DEPENDENT
_LEAST_FALSE = 0.02  # chance that a prediction of whatever score is no disc
_MOST_FALSE, _DOUBTFUL = 2, 4  # how many places may be false, of how many with the lowest scores
# What the cues of an odd but true disc cost; an average one costs 3 (2.2 cues of 2.5 E[log(1 + t^2 / 4)] = 1.3). Chosen
# on predictions for training patients: from 4.5 to 6 all is the same, below discs are called false.
_TRUE_COST = 5.0
_LEAST_TRUE = 3  # places that must be left for others to be called false
_DEPENDENT = 0.4
_FREEDOM = 4
# Boxes are drawn by hand, patients lie crooked, and how far an image goes on is the habit of a place.
_LEAST_SPREAD = {"step": 0.07, "angle": 7.0, "aspect": 0.15, "room": 0.47, "width": 0.1}
_BEYOND = 0.75  # steps from the nearest level at which a finding is no longer of it
_BESIDE = 1.7  # widths of a disc from the spine's curve, likewise; the canal is 0.8 behind it


@dataclass(frozen=True)
class SpineLevels:
    """Levels of the findings of an image.

    Attributes:
        levels: a name in `LEVELS` a finding; None for what is no disc of the spine, and for classes without level.
        missed: levels between the lowest and the highest disc that have no disc finding, from below.
        support: weight of this numbering among all, 0..1; None where no disc was found. It orders images by certainty,
            it is no calibrated probability.
    """

    levels: tuple[str | None, ...]
    missed: tuple[str, ...]
    support: float | None


def assign_levels(
    image: ImageFindings,
    names: Sequence[str],
    height: float | None = None,
    profile: SpineProfile | None = None,
    discs: Collection[str] = DISC_CLASSES,
    beside: Collection[str] = BESIDE_DISC_CLASSES,
) -> SpineLevels:
    """Give every finding of a mid-sagittal image its disc level.

    Args:
        image: findings, labelled or predicted; of predictions those that count (`ImageFindings.above`).
        names: class names by index.
        height: height of the image in pixels, where the image was not cropped for another purpose.
        profile: what spines look like; the one of spider-lumbar by default.
        discs: classes whose boxes are discs; they carry the order.
        beside: classes of a level whose boxes are not discs. They take the level they lie at, and carry the order
            where there is no disc.

    Raises:
        ValueError: `names` has none of these classes.
    """
    roles = [{n for n in names if n in group} for group in (discs, beside)]
    if not any(roles):
        raise ValueError(f"the classes {', '.join(names)} have no disc level; name those that are discs.")
    disc, other = (np.isin(image.classes, [names.index(n) for n in group]) for group in roles)
    carrying = disc if disc.any() else other
    levels = np.full(len(image), -1, dtype=np.int64)
    if not carrying.any():
        return SpineLevels((None,) * len(image), (), None)
    profile = profile or default_profile()
    place = find_places(image.boxes[carrying])
    boxes = np.stack([image.boxes[carrying][place == k].mean(0) for k in range(place.max() + 1)])
    level, support = _number(boxes, _doubt(image, carrying, place), profile, height, with_aspect=bool(disc.any()))
    levels[carrying] = np.where(place >= 0, level[place], -1)
    rest, named = other & ~carrying, level >= 0
    levels[rest] = _nearest_level(image.boxes[rest], boxes[named], level[named], profile)
    missed = tuple(LEVELS[k] for k in range(level[named][0], level[named][-1]) if k not in level)
    return SpineLevels(tuple(LEVELS[k] if k >= 0 else None for k in levels), missed, support)


def _doubt(image: ImageFindings, carrying: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Cost (P,) of calling each place no disc; minus infinity for labels."""
    if image.scores is None:
        return np.full(place.max() + 1, -np.inf)
    best = np.array([image.scores[carrying][place == k].max() for k in range(place.max() + 1)])
    return np.log(np.maximum(1 - best, _LEAST_FALSE)) - _TRUE_COST


@lru_cache(maxsize=32)
def _numberings(places: int) -> np.ndarray:
    """All rising choices of levels for places, (K, places)."""
    return np.array(list(combinations(range(len(LEVELS)), places)), dtype=np.int64)


def _number(
    boxes: np.ndarray, doubt: np.ndarray, profile: SpineProfile, height: float | None, with_aspect: bool
) -> tuple[np.ndarray, float]:
    """Levels (P,) of places (P, 4), lowest first, -1 for no disc or beyond the levels there are; and their support."""
    known = np.arange(min(len(boxes), len(LEVELS)))
    doubtful = [k for k in np.argsort(-doubt[known], kind="stable")[:_DOUBTFUL] if np.isfinite(doubt[k])]
    made, scores = [], []
    for count in range(min(_MOST_FALSE, len(doubtful), max(len(known) - _LEAST_TRUE, 0)) + 1):
        for false in map(list, combinations(doubtful, count)):
            kept = np.setdiff1d(known, false)
            choices = _numberings(len(kept))
            levels = np.full((len(choices), len(boxes)), -1, dtype=np.int64)
            levels[:, kept] = choices
            made.append(levels)
            scores.append(doubt[false].sum() + _score(boxes[kept], choices, profile, height, with_aspect))
    every, score = np.concatenate(made), np.concatenate(scores)
    weight = np.exp(score - score.max())
    best = every[score.argmax()]
    same = ((every == best) | (every < 0) | (best < 0)).all(1)
    return best, float(weight[same].sum() / weight.sum())


def _score(
    boxes: np.ndarray, choices: np.ndarray, profile: SpineProfile, height: float | None, with_aspect: bool
) -> np.ndarray:
    """Score (K,) of each choice of levels (K, P) for places (P, 4)."""
    score = (choices[:, -1] + 1.0 - len(boxes)) * np.log(MISSED)
    unit = _units(boxes, choices, profile)
    if len(boxes) > 1:
        score += _score_steps(boxes, choices, unit, profile)
    if with_aspect:
        size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
        aspect = np.log(size[:, 1] / size[:, 0]) - profile.aspect[choices]
        score += _DEPENDENT * _log_t(aspect / _spread(profile, "aspect")[choices]).sum(1)
        width = np.log(size[:, 0]) - profile.width[choices]
        width -= np.median(width, axis=1, keepdims=True)  # boxes are drawn wide or narrow in a whole dataset
        score += _DEPENDENT * _log_t(width / _LEAST_SPREAD["width"]).sum(1)
    lowest = choices[:, 0]
    if height is not None:
        room = (height - box_centres(boxes)[0, 1]) / unit
        score += _log_t((room - profile.room[lowest]) / _spread(profile, "room")[lowest])
    return score


def _units(boxes: np.ndarray, choices: np.ndarray, profile: SpineProfile) -> np.ndarray:
    """Pixels a unit of the profile under each choice, (K,): from the steps, of a single place from its width."""
    if len(boxes) == 1:
        return np.maximum(boxes[0, 2] - boxes[0, 0], 1e-6) / np.exp(profile.width[choices[:, 0]])
    length = np.linalg.norm(np.diff(box_centres(boxes), axis=0), axis=1)
    return np.median(length / np.diff(profile.height[choices], axis=1), axis=1)


def _score_steps(boxes: np.ndarray, choices: np.ndarray, unit: np.ndarray, profile: SpineProfile) -> np.ndarray:
    """Score (K,) of the lengths and directions of the steps between places."""
    steps = np.diff(box_centres(boxes), axis=0)
    expected = np.diff(profile.height[choices], axis=1)
    relative = np.linalg.norm(steps, axis=1) / (unit[:, None] * expected) - 1
    turned = lean(steps) - lean(np.diff(profile.place[choices], axis=1))
    length = _log_t(relative / _spread(profile, "step")[choices[:, :-1]])
    angle = _log_t(turned / _spread(profile, "angle")[choices[:, :-1]])
    return length.sum(1) + _DEPENDENT * angle.sum(1)


def _spread(profile: SpineProfile, cue: str) -> np.ndarray:
    """Spread of a cue at each level, (12,), not below what hands and habits bring."""
    return np.maximum(profile.spread[cue], _LEAST_SPREAD[cue])


def _log_t(z: np.ndarray) -> np.ndarray:
    """Logarithm of Student's t density, its constant left out."""
    return -(_FREEDOM + 1) / 2 * np.log1p(z * z / _FREEDOM)


def _nearest_level(boxes: np.ndarray, places: np.ndarray, level: np.ndarray, profile: SpineProfile) -> np.ndarray:
    """Level (N,) that boxes beside the discs lie at, -1 where they lie beyond all; also levels that were missed."""
    width = typical_width(places)
    curve = fit_curve(box_centres(places), width)
    arc = curve.project(box_centres(places))[0]
    height, low, high = profile.height, level[0], level[-1]
    unit = _units(places, level[None], profile)[0]
    at = np.interp(height, height[level], arc)
    at[:low] = arc[0] - (height[low] - height[:low]) * unit
    at[high + 1 :] = arc[-1] + (height[high + 1 :] - height[high]) * unit
    along, beside = curve.project(box_centres(boxes))
    distance = np.abs(along[:, None] - at)
    nearest = distance.argmin(1)
    near = distance[np.arange(len(boxes)), nearest] <= _BEYOND * profile.step[nearest] * unit
    return np.where(near & (beside <= _BESIDE * width), nearest, -1)
