"""What stage 1 hands to stage 2, and what it says about a region.

Shape shorthand: B images, K proposals an image, R regions over all images, C classes. Boxes are x1 y1 x2 y2 in input
pixels.

Source: own. Stage 2 that starts from nothing has to learn again, from far fewer samples, what stage 1 knows about a
single class; given it, what is left to learn is where stage 1 is wrong: second labels, levels, fit of the box.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

SAME_OBJECT = 0.5  # IoU from which two boxes, of proposals or regions, mean one object


class Proposals(NamedTuple):
    """Proposals of stage 1, without gradient.

    Attributes:
        boxes: (B, K, 4), finite and inside the image.
        objectness: (B, K) in 0..1.
        evidence: (B, K, C), logits of DDE's softmax probabilities.
    """

    boxes: Tensor
    objectness: Tensor
    evidence: Tensor


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
