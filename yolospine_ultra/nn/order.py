"""Where a region stands in the column of objects around it: how many lie above it, and how many below.

Shape shorthand: B images, K proposals an image, R regions over all images. Boxes are x1 y1 x2 y2 in input pixels.

Source: own. The paper names a disorder by its level (a bulge at T12/L1 is a thoracic one, the same picture at L1/L2 a
lumbar one), and radiologists find a level by counting from the sacrum. No crop of a disc can be counted from, but the
proposals of stage 1 can. Counting needs no labels of levels and survives a missed disc as a number that is one less.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yolospine_ultra.nn.proposals import same_object

SURE = 0.5  # objectness from which an object counts as a whole one
REACH = 3.0  # of the column to each side of a region's centre, in widths of the region: an image may show two spines
STEP = 0.5  # from which something lies above or below, in heights of the region


def object_shares(boxes: Tensor, objectness: Tensor) -> Tensor:
    """Share of each proposal in its object, so that an object counts once however many proposals it has.

    With o_j the objectness of proposal j and D_j its duplicates, itself among them (IoU >= `SAME_OBJECT`), its share
    is o_j / sum(o_k: k in D_j) * min(1, max(o_k: k in D_j) / `SURE`).

    Args:
        boxes: (B, K, 4).
        objectness: (B, K) in 0..1.

    Returns:
        (B, K) in 0..1. Shares of separate groups of duplicates sum to one a group, or to less where stage 1 is unsure.
    """
    same = same_object(boxes)
    duplicates = torch.where(same, objectness[:, None], torch.zeros_like(objectness[:, None]))
    return objectness / duplicates.sum(2).clamp(min=1e-6) * (duplicates.amax(2) / SURE).clamp(max=1)


def order_in_column(regions: Tensor, index: Tensor, boxes: Tensor, objectness: Tensor) -> Tensor:
    """Number of objects above and below each region, (R, 2).

    Args:
        regions: (R, 4).
        index: image of each region, (R,).
        boxes: proposals of stage 1, (B, K, 4).
        objectness: theirs, (B, K) in 0..1.
    """
    shares = object_shares(boxes, objectness)[index]
    away = _centre(boxes)[index] - _centre(regions)[:, None]
    width, height = (regions[:, 2:] - regions[:, :2]).T[..., None]
    shares = shares * (away[..., 0].abs() < REACH * width)
    steps = away[..., 1] / height
    return torch.stack(((shares * (steps < -STEP)).sum(1), (shares * (steps > STEP)).sum(1)), 1)


def _centre(boxes: Tensor) -> Tensor:
    """Centres (..., 2) of `boxes` (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2
