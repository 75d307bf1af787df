"""Where a region stands in the column of objects around it: how many levels lie above it, and how many below.

Shape shorthand: B images, K proposals an image, R regions over all images. Boxes are x1 y1 x2 y2 in input pixels.

Source: own. The paper names a disorder by its level (a bulge at T12/L1 is a thoracic one, the same picture at L1/L2 a
lumbar one), and radiologists find a level by counting from the sacrum. No crop of a disc can be counted from, but the
proposals of stage 1 can. Counting needs no labels of levels and survives a missed disc as a number that is one less.

Levels are counted, not objects: a disc, the narrowed canal behind it and the slipped vertebra around it are three
objects at one level. Two boxes stand at one level where the centre of the shorter one lies beside the taller.
"""

from __future__ import annotations

import torch
from torch import Tensor

SURE = 0.5  # objectness from which an object counts as a whole one
REACH = 3.0  # of the column to each side of a centre, in widths of the box: an image may show two spines


def level_shares(boxes: Tensor, objectness: Tensor) -> Tensor:
    """Share of each proposal in its level, so that a level counts once however many proposals it has.

    With o_j the objectness of proposal j and D_j those at its level, itself among them, its share is
    o_j / sum(o_k: k in D_j) * min(1, max(o_k: k in D_j) / `SURE`).

    Args:
        boxes: (B, K, 4).
        objectness: (B, K) in 0..1.

    Returns:
        (B, K) in 0..1. Shares sum to one a level where no box reaches over two, or to less where stage 1 is unsure.
    """
    aside, down, reach, half = _apart(boxes[:, :, None], boxes[:, None])
    here = (aside < reach) & (down.abs() <= half)
    own = torch.where(here, objectness[:, None], torch.zeros_like(objectness[:, None]))
    return objectness / own.sum(2).clamp(min=1e-6) * (own.amax(2) / SURE).clamp(max=1)


def order_in_column(regions: Tensor, index: Tensor, boxes: Tensor, objectness: Tensor) -> Tensor:
    """Number of levels above and below each region, (R, 2).

    Args:
        regions: (R, 4).
        index: image of each region, (R,).
        boxes: proposals of stage 1, (B, K, 4).
        objectness: theirs, (B, K) in 0..1.
    """
    aside, down, reach, half = _apart(regions[:, None], boxes[index])
    shares = level_shares(boxes, objectness)[index] * (aside < reach)
    return torch.stack(((shares * (down < -half)).sum(1), (shares * (down > half)).sum(1)), 1)


def _apart(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How far `other` lies aside and below `one`, centre to centre, and the bounds of one column and one level."""
    size, other_size = one[..., 2:] - one[..., :2], other[..., 2:] - other[..., :2]
    width, height = torch.maximum(size, other_size).unbind(-1)
    x, y = ((other[..., :2] + other[..., 2:] - one[..., :2] - one[..., 2:]) / 2).unbind(-1)
    return x.abs(), y, REACH * width, height / 2
