"""Class-aware Soft-NMS, exact to its sequential definition and vectorised over groups.

Source: Bodla et al. 2017, "Soft-NMS -- Improving Object Detection With One Line of Code", arXiv 1704.04503. The
schedule below (several picks per pass) is this project's own.

The definition picks one box at a time. A box whose score no overlapping live box exceeds will be picked with exactly
the score it has now: scores only fall, and nothing that could lower its score comes before it. All such boxes are
therefore picked in one pass, and only the order of the multiplications differs from the definition. Scores and overlaps
are computed in float64 on the CPU with NumPy, wherever the tensors live: every device decays by the same arithmetic,
and the order of the multiplications shows only in float64 rounding. Whether two boxes meet at all is asked in the
boxes' own precision, where it is exact, and half of float64's memory traffic.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

# Boxes of a group looked at for picks in one pass. Any value gives the same result; 24 was the best compromise between
# few passes (large) and little work per pass (small) on clustered and uniform boxes.
HEAD_SIZE = 24
# Dead boxes are dropped from the arrays once the largest group has shrunk to this share of the array's width.
COMPACT_SHARE = 0.92


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    decay: Literal["gaussian", "linear"],
    sigma: float = 0.5,
    iou_threshold: float = 0.3,
    score_threshold: float = 0.001,
) -> Tensor:
    """Decay the scores of overlapping boxes, every group by itself.

    Repeats in each group: pick the live box with the highest score (ties: lowest index), stop if that score is
    <= score_threshold, else multiply every remaining score by exp(-IoU^2 / sigma) ("gaussian") or, where
    IoU > iou_threshold, by 1 - IoU ("linear"). Boxes without area overlap nothing.

    Args:
        boxes (Tensor): (G, M, 4) x1 y1 x2 y2, finite, any one length unit.
        scores (Tensor): (G, M) in 0..1; padding has score 0.
        decay (str): "gaussian" or "linear".
        sigma (float): width of the Gaussian decay in squared IoU, > 0; unused by "linear".
        iou_threshold (float): overlap above which "linear" decays, 0..1; unused by "gaussian".
        score_threshold (float): a box at or below this score is dropped, >= 0.

    Returns:
        (Tensor): (G, M), scores' dtype and device: the score at which each box was picked, 0 where it was dropped.

    Raises:
        ValueError: unknown decay, a parameter out of range, or shapes that do not match.
    """
    if decay not in ("gaussian", "linear"):
        raise ValueError(f"decay must be 'gaussian' or 'linear', got {decay!r}")
    if not sigma > 0:
        raise ValueError(f"sigma must be > 0, got {sigma}")
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be within 0..1, got {iou_threshold}")
    if not score_threshold >= 0:
        raise ValueError(f"score_threshold must be >= 0, got {score_threshold}")
    if scores.ndim != 2 or boxes.shape != (*scores.shape, 4):
        raise ValueError(
            f"expected boxes (G, M, 4) and scores (G, M), got {tuple(boxes.shape)} and {tuple(scores.shape)}"
        )

    live = scores.detach().cpu().double().numpy().copy()
    live[~(live > score_threshold)] = 0.0
    own = torch.promote_types(boxes.dtype, torch.float32)  # NumPy has no bfloat16
    corners = np.ascontiguousarray(np.moveaxis(boxes.detach().cpu().to(own).numpy(), -1, 0))
    final = np.zeros(live.size)
    origin = np.arange(live.size).reshape(live.shape)

    while live.any():
        corners, live, origin = _compact(corners, live, origin)
        flat = live.reshape(-1)  # a view, `live` being contiguous: writes below reach it
        picks = _unblocked(corners, live, decay, sigma, iou_threshold)
        final[origin.reshape(-1)[picks]] = flat[picks]
        flat[picks] = 0.0
        padded, _ = _pad_groups(corners, picks, len(live))
        first, second = _overlapping_pairs(padded, corners)
        # Unbuffered and in order: a box decayed by several picks of this pass takes them by falling score.
        np.multiply.at(flat, second, _decay_factor(padded, first, corners, second, decay, sigma, iou_threshold))
        flat[flat <= score_threshold] = 0.0
    return torch.from_numpy(final.reshape(scores.shape)).to(scores.dtype).to(scores.device)


def _compact(corners: np.ndarray, live: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drop finished groups and dead boxes, keeping index order, once that saves enough to pay for the copy."""
    alive = live > 0
    count = alive.sum(axis=1)
    width = count.max()
    if count.all() and width > COMPACT_SHARE * live.shape[1]:
        return corners, live, origin
    rows = np.flatnonzero(count)
    columns = np.argsort(~alive[rows], axis=1, kind="stable")[:, :width]
    # NumPy promises no memory order for an indexed copy, and the caller writes through a flat view.
    corners, live, origin = (np.ascontiguousarray(a[..., rows[:, None], columns]) for a in (corners, live, origin))
    return corners, live, origin


def _unblocked(corners: np.ndarray, live: np.ndarray, decay: str, sigma: float, iou_threshold: float) -> np.ndarray:
    """Flat indices of boxes that nothing ahead of them can decay, ordered by group, then falling score.

    Only the HEAD_SIZE best boxes of a group are looked at: whatever is ahead of one of them is among them too. The
    best box of every live group is always returned, so each pass makes progress.
    """
    n_groups, width = live.shape
    floor = 0.0
    if width > HEAD_SIZE:
        floor = np.partition(live, width - HEAD_SIZE, axis=1)[:, width - HEAD_SIZE, None]
    head = np.flatnonzero((live >= floor) & (live > 0))
    # Stable: equal scores stay in index order.
    head = head[np.lexsort((-live.reshape(-1)[head], head // width))]
    head = head[_rank_in_group(head // width, n_groups) < HEAD_SIZE]  # ties at the floor may exceed the head

    padded, slots = _pad_groups(corners, head, n_groups)
    size = padded.shape[2]
    behind, ahead = _overlapping_pairs(padded, padded, _earlier(size))
    decayed = _decay_factor(padded, behind, padded, ahead, decay, sigma, iou_threshold) < 1
    blocked = np.zeros(n_groups * size, dtype=bool)
    blocked[behind[decayed]] = True
    return head[~blocked[slots]]


@lru_cache
def _earlier(size: int) -> np.ndarray:
    """(size, size), true where the column comes before the row."""
    return np.tri(size, k=-1, dtype=bool)


def _rank_in_group(group: np.ndarray, n_groups: int) -> np.ndarray:
    """Position of each entry among those of its group; `group` is sorted."""
    count = np.bincount(group, minlength=n_groups)
    return np.arange(len(group)) - (np.cumsum(count) - count)[group]


def _pad_groups(corners: np.ndarray, members: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Gather flat indices, sorted by group, into (4, G, P), and the flat place of each in it.

    Padding is infinite: its x1 lies left of nothing, so it overlaps no box.
    """
    group = members // corners.shape[2]
    rank = _rank_in_group(group, n_groups)
    size = int(rank.max()) + 1
    slots = group * size + rank
    padded = np.full((4, n_groups * size), np.inf, dtype=corners.dtype)
    padded[:, slots] = corners.reshape(4, -1).take(members, axis=1)
    return padded.reshape(4, n_groups, size), slots


def _overlapping_pairs(a: np.ndarray, b: np.ndarray, where: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices into a (4, G, P) and b (4, G, M) of the pairs of one group that overlap, in index order.

    Comparisons alone find the few pairs that need an IoU; `where` (P, M) restricts the search.
    """
    hit = a[0, :, :, None] < b[2, :, None, :]
    hit &= b[0, :, None, :] < a[2, :, :, None]
    hit &= a[1, :, :, None] < b[3, :, None, :]
    hit &= b[1, :, None, :] < a[3, :, :, None]
    if where is not None:
        hit &= where
    _, size, width = hit.shape
    found = np.flatnonzero(hit)
    first = found // width
    return first, found - first * width + first // size * width


def _decay_factor(
    a: np.ndarray, first: np.ndarray, b: np.ndarray, second: np.ndarray, decay: str, sigma: float, iou_threshold: float
) -> np.ndarray:
    """Factor in 0..1 for each pair of overlapping boxes a[first], b[second]."""
    ax1, ay1, ax2, ay2 = a.reshape(4, -1).take(first, axis=1).astype(np.float64)
    bx1, by1, bx2, by2 = b.reshape(4, -1).take(second, axis=1).astype(np.float64)
    # A box with x2 < x1 can pass the comparisons of _overlapping_pairs; it must not yield a negative overlap.
    intersection = np.maximum(np.minimum(ax2, bx2) - np.maximum(ax1, bx1), 0)
    intersection *= np.maximum(np.minimum(ay2, by2) - np.maximum(ay1, by1), 0)
    union = _area(ax1, ay1, ax2, ay2) + _area(bx1, by1, bx2, by2) - intersection
    iou = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    if decay == "gaussian":
        return np.exp(-(iou * iou) / sigma)
    return np.where(iou > iou_threshold, 1 - iou, 1.0)


def _area(x1: np.ndarray, y1: np.ndarray, x2: np.ndarray, y2: np.ndarray) -> np.ndarray:
    return np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
