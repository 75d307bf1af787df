"""What stage 1 hands to stage 2, and what it says about a region.

Shape shorthand: B images, A anchor points, K proposals an image, R regions over all images, C classes. Boxes are x1 y1
x2 y2 in input pixels.

Source: own. Stage 2 that starts from nothing has to learn again, from far fewer samples, what stage 1 knows about a
single class; given it, what is left to learn is where stage 1 is wrong: second labels, levels, fit of the box.

Objectness ranks what is common first. A rare finding with a box of its own, such as a slipped vertebra among discs and
canals, is hardly ever among the first K by it, so that stage 2 neither sees it nor learns to tell it from what only
looks like it (docs/experiments.md, 18). Hence a few places are kept for each class.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

PER_CLASS = 4  # proposals kept for each class, beside those of most objectness
LEAST_WEIGHT = 1e-3  # of a proposal among those of its object; half precision can tell it from nothing
MOST_SURE = 0.99  # DDE's probabilities are taken for this much at most, so that stage 2 can overrule them
SAME_OBJECT = 0.5  # IoU from which two boxes, of proposals or regions, mean one object


class Proposals(NamedTuple):
    """Proposals of stage 1, without gradient.

    Attributes:
        boxes: (B, K, 4), finite and inside the image.
        objectness: (B, K) in 0..1.
        evidence: (B, K, C), logits of DDE's softmax probabilities, of classes that are one finding of their sum.
        anchor: anchor point of each, (B, K).
    """

    boxes: Tensor
    objectness: Tensor
    evidence: Tensor
    anchor: Tensor


def choose_anchors(objectness: Tensor, classes: Tensor, k: int) -> Tensor:
    """The K anchor points whose boxes stage 2 looks at, (B, K) or (B, A) where there are fewer.

    `PER_CLASS` are the best of each class by o * p_c among those that objectness alone leaves out, the others, at least
    half, those of most objectness, which come first. What is among the best of two classes comes twice. Many classes
    get fewer places each, none where C > K / 2, or where all anchor points are taken anyway.

    Args:
        objectness: o, (B, A) in 0..1.
        classes: p, softmax over the classes, (B, C, A).
        k: K.
    """
    anchors, nc = objectness.shape[1], classes.shape[1]
    each = min(PER_CLASS, k // (2 * nc)) if k < anchors else 0
    first = objectness.topk(min(k, anchors) - each * nc, 1).indices
    if not each:
        return first
    left = objectness.scatter(1, first, 0.0)
    return torch.cat((first, (left[:, None] * classes).topk(each, 2).indices.flatten(1)), 1)


def same_object(boxes: Tensor) -> Tensor:
    """Whether two boxes of an image mean one object, (B, K, K), for boxes (B, K, 4)."""
    corner = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    size = (torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:]) - corner).clamp(min=0)
    overlap = size[..., 0] * size[..., 1]
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return overlap >= SAME_OBJECT * (area[:, :, None] + area[:, None] - overlap)


def agree(logits: Tensor, boxes: Tensor, objectness: Tensor) -> Tensor:
    """Logits (B, K, C) averaged over the proposals of one object, weighted by their objectness.

    The proposals of an object see nearly the same, and differ by chance; their mean is steadier than the best of them.

    Args:
        logits: of each proposal, (B, K, C).
        boxes: (B, K, 4).
        objectness: (B, K) in 0..1.
    """
    weights = same_object(boxes).to(logits.dtype) * objectness.clamp(min=LEAST_WEIGHT)[:, None]
    return weights @ logits / weights.sum(2, keepdim=True)


def evidence_of(regions: Tensor, index: Tensor, proposals: Proposals) -> Tensor:
    """Evidence (R, C) of the proposal that a region overlaps most; zeros, no evidence, where none is the same object.

    Args:
        regions: (R, 4).
        index: image of each region, (R,).
        proposals: of all images.
    """
    b, k, _ = proposals.boxes.shape
    own = index[:, None] == torch.arange(b, device=index.device).repeat_interleave(k)
    best, which = (box_iou(regions, proposals.boxes.flatten(0, 1)) * own).max(1)
    found = proposals.evidence.flatten(0, 1)[which]
    return torch.where(best[:, None] >= SAME_OBJECT, found, torch.zeros_like(found))
