"""The line of a spine through its findings: which boxes are one disc, and how far along the spine each of them is.

Written for this project. The spine is roughly upright in the image, head up, so that its line is a function of y: a
polynomial, fitted with the soft L1 loss so that a stray box does not bend it. Boxes are one place if IoU >= .5, or if
their centres are closer along the line than half a step between discs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.sparse.csgraph import connected_components

from yolospine_ultra.evaluate.levels.spine_profile import box_centres
from yolospine_ultra.evaluate.matching import iou_matrix

SAME_IOU = 0.5
_NARROWEST_STEP = 0.6  # of a disc's width; 5% of the training patients of spider-lumbar have less, at T11/T12
_CUBIC = 7  # places that a third degree needs; it is the lumbar lordosis and the thoracic kyphosis above it
_SCATTER = 0.15  # of a disc's width: how far discs lie from the curve
_FAR = 1.7  # of a disc's width: further from the straight line is no place of the spine, nor from the curve:
_STRAY = 0.8  # of a disc's width
_SAMPLES = 512


@dataclass(frozen=True, eq=False)
class SpineCurve:
    """A sampled line from tail to head.

    Attributes:
        points: (512, 2) x, y in pixels; y falls.
        arc: (512,) length from the lower end, pixels.
    """

    points: np.ndarray
    arc: np.ndarray

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Length along the line and distance from it, (N,) pixels each, of points (N, 2)."""
        distance = np.linalg.norm(points[:, None] - self.points, axis=2)
        nearest = distance.argmin(1)
        return self.arc[nearest], distance[np.arange(len(points)), nearest]


def fit_curve(centres: np.ndarray, width: float, most: int = 3) -> SpineCurve:
    """Fit the line through disc centres.

    Args:
        centres: (N, 2) pixels, N >= 1; different in y.
        width: typical width of a disc, pixels.
        most: highest degree of the polynomial; fewer centres than bear it get a lower one.

    Returns:
        The line, three widths longer than the centres at either end: straight where a polynomial would turn away.
    """
    origin = centres.mean(0)
    x, y = ((centres - origin) / width).T
    degree = min(most, 0 if len(y) == 1 else 1 if len(y) < 4 else 2 if len(y) < _CUBIC else 3)
    powers = np.vander(y, degree + 1)
    start = np.zeros(degree + 1)
    fit = least_squares(lambda c: powers @ c - x, start, lambda c: powers, loss="soft_l1", f_scale=_SCATTER)
    low, high = y.max(), y.min()
    at = np.linspace(low + 3, high - 3, _SAMPLES)
    inside = at.clip(high, low)
    line = np.polyval(fit.x, inside) + np.polyval(np.polyder(fit.x), inside) * (at - inside)
    points = np.stack([line, at], 1) * width + origin
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    return SpineCurve(points, arc)


def typical_width(boxes: np.ndarray) -> float:
    """Median width of boxes (N, 4), N >= 1, above 0."""
    return max(float(np.median(boxes[:, 2] - boxes[:, 0])), 1e-6)


def find_places(boxes: np.ndarray) -> np.ndarray:
    """Group the boxes of discs into places.

    Args:
        boxes: (N, 4) x1 y1 x2 y2 in pixels, N >= 1, of discs, several of which may be one disc.

    Returns:
        (N,) int64, number of the place of each from the lowest one up, -1 for a box beside the spine.
    """
    width = typical_width(boxes)
    place = connected_components(iou_matrix(boxes, boxes) >= SAME_IOU, directed=False)[1]
    # A box far away at either end would bend the curve to itself; a straight line it cannot.
    line = fit_curve(_middles(boxes, place), width, most=1)
    keep = _near(boxes, line, _FAR * width)
    curve = fit_curve(_middles(boxes[keep], place[keep]), width)
    keep[keep] = _near(boxes[keep], curve, _STRAY * width)
    made = np.full(len(boxes), -1, dtype=np.int64)
    made[keep] = _merge(boxes[keep], place[keep], curve, width)
    return made


def _near(boxes: np.ndarray, curve: SpineCurve, distance: float) -> np.ndarray:
    """Which boxes have their centre that near to the curve, (N,) bool; all where it would be none."""
    near = curve.project(box_centres(boxes))[1] <= distance
    return near if near.any() else np.ones(len(boxes), dtype=bool)


def _middles(boxes: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Mean centre of each place, in the order of its number."""
    return np.stack([box_centres(boxes[place == k]).mean(0) for k in np.unique(place)])


def _merge(boxes: np.ndarray, place: np.ndarray, curve: SpineCurve, width: float) -> np.ndarray:
    """Places closer than half a step become one; numbered from the lowest up."""
    _, place = np.unique(place, return_inverse=True)
    arc = curve.project(_middles(boxes, place))[0]
    order = np.argsort(arc, kind="stable")
    gaps = np.diff(arc[order])
    apart = gaps[gaps >= _NARROWEST_STEP * width / 2]
    step = max(float(np.median(apart)) if len(apart) else 0.0, _NARROWEST_STEP * width)
    number = np.empty(len(order), dtype=np.int64)
    # a gap of two steps is a missed disc and must not widen what counts as one place
    number[order] = np.concatenate([[0], np.cumsum(gaps >= min(step, 1.5 * width) / 2)])
    return number[place]
