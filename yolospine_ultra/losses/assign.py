"""What each stage is taught: labels of anchor points, regions of stage 2, and their targets.

Shape shorthand: B images, A anchor points, M padded ground truths an image, G ground truths over all images, R regions,
C classes. All boxes are x1 y1 x2 y2 in input pixels.

Source: own. The host's task-aligned assigner gives an anchor point to one ground truth; of two findings with one box
the second would have no anchor point at all, which is why labels are made multi-hot here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

from yolospine_ultra.nn.boxes import decode_boxes

SAME_REGION = 0.7  # overlap from which two ground truths of stage 1 share their anchor points' labels
MAX_TRUTHS = 64  # ground truths an image that give regions: bounds memory on crowded images
SAMPLED = 24  # proposals an image that stage 2 trains on, drawn from the K it will see at inference
JITTERED = 2  # moved copies of each ground truth: what stage 1 proposes in training is closer than what it will propose
JITTER = (1.0, 1.0, 0.75, 0.75)  # deviations of their deltas: a tenth of a side in place, .15 in a side's logarithm


def one_hot_labels(gt_labels: Tensor, gt_valid: Tensor, classes: int) -> Tensor:
    """Labels (B, M, C) in {0, 1} of each ground truth by itself; arguments as of `multi_hot_labels`."""
    return torch.nn.functional.one_hot(gt_labels[..., 0].long(), classes).to(gt_valid.dtype) * gt_valid


def multi_hot_labels(gt_labels: Tensor, gt_boxes: Tensor, gt_valid: Tensor, classes: int) -> Tensor:
    """Labels (B, M, C) in {0, 1} of each ground truth's region: its own, and those of ground truths that share it.

    Args:
        gt_labels: class of each ground truth, (B, M, 1).
        gt_boxes: (B, M, 4).
        gt_valid: 1 for real ground truths, 0 for padding, (B, M, 1).
        classes: C.
    """
    one_hot = one_hot_labels(gt_labels, gt_valid, classes)
    shared = (
        torch.stack([box_iou(b, b) for b in gt_boxes]) >= SAME_REGION
        if gt_boxes.numel()
        else gt_boxes.new_zeros((*gt_boxes.shape[:2], gt_boxes.shape[1]))
    )
    own = torch.eye(gt_boxes.shape[1], device=gt_boxes.device, dtype=torch.bool)  # boxes without area overlap nothing
    return ((shared.bool() | own).to(one_hot.dtype) @ one_hot).clamp(max=1)


def sample_regions(
    proposals: Tensor, boxes: Tensor, image: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Regions to train stage 2 on: drawn proposals, ground truths, and moved copies of these.

    Ground truths let stage 2 learn from the first step, before stage 1 proposes anything of use.

    Args:
        proposals: (B, K, 4), finite and inside the image.
        boxes: ground truths (G, 4).
        image: image of each ground truth, (G,).
        generator: of the draws, on the same device; None for torch's own.

    Returns:
        Regions (R, 4), not yet clamped to the image, and the image of each, (R,).
    """
    b, k, _ = proposals.shape
    device = proposals.device
    drawn = torch.rand(b, k, device=device, generator=generator).argsort(1)[:, :SAMPLED]
    regions = [proposals.gather(1, drawn[..., None].expand(-1, -1, 4)).reshape(-1, 4)]
    index = [torch.arange(b, device=device)[:, None].expand_as(drawn).reshape(-1)]
    for i in range(b):
        mine = boxes[image == i].unique(dim=0)  # findings that share a box are one region
        mine = mine[torch.randperm(len(mine), device=device, generator=generator)[:MAX_TRUTHS]]
        copies = mine.repeat(JITTERED, 1)
        moves = torch.randn(copies.shape, device=device, generator=generator) * copies.new_tensor(JITTER)
        mine = torch.cat((mine, decode_boxes(copies, moves)))
        regions.append(mine)
        index.append(torch.full((len(mine),), i, device=device))
    return torch.cat(regions), torch.cat(index)


def match_regions(
    regions: Tensor, index: Tensor, boxes: Tensor, labels: Tensor, image: Tensor, thresholds: Tensor
) -> Tensor:
    """For each region and class, the ground truth that the region answers for.

    Args:
        regions: (R, 4).
        index: image of each region, (R,).
        boxes: ground truths (G, 4).
        labels: the classes that each teaches, (G, C) in {0, 1}.
        image: their images, (G,).
        thresholds: overlap from which a region answers for a ground truth of a class, (C,).

    Returns:
        Index (R, C) into the ground truths, -1 where the class is absent from the region. Classes are matched on their
        own, so that a region may answer for several.
    """
    match = torch.full((len(regions), len(thresholds)), -1, device=regions.device)
    if not len(boxes):
        return match
    overlap = box_iou(regions, boxes) * (index[:, None] == image)
    for c in labels.any(0).nonzero()[:, 0].tolist():
        mine = labels[:, c].nonzero()[:, 0]
        best, which = overlap[:, mine].max(1)
        match[:, c] = torch.where(best >= thresholds[c], mine[which], -1)
    return match
