"""From the head's output tensor to detections: the one function validator and predictor both call.

Candidates follow the multi-label branch of ultralytics 8.4.190 `utils/nms.py::non_max_suppression`; suppression is
Soft-NMS (Bodla et al. 2017, arXiv 1704.04503) or torchvision's hard NMS. One caller means val measures what predict
gives.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from .soft_nms import soft_nms


@torch.no_grad()
def select_detections(
    prediction: Tensor | tuple | list,
    *,
    conf: float,
    iou: float,
    max_det: int,
    suppression: Literal["gaussian", "linear", "hard"],
    sigma: float,
    classes: Iterable[int] | None = None,
    agnostic: bool = False,
    max_candidates: int = 1000,
) -> tuple[list[Tensor], list[Tensor]]:
    """Select the detections of each image of a batch; an image's result does not depend on the others.

    Every (column, class) with score > conf is a candidate, so one column may give several detections. Columns with a
    non-finite box or score are dropped.

    Args:
        prediction (Tensor): (B, 4 + nc, N): xywh boxes in pixels (centre, size), then class scores in 0..1. Of a tuple
            or list, element 0 is used.
        conf (float): score a detection must exceed, 0..1, before and after decay.
        iou (float): overlap threshold of "hard" and "linear", 0..1; unused by "gaussian".
        max_det (int): most detections per image, >= 1.
        suppression (str): "gaussian" or "linear" Soft-NMS, or "hard" NMS.
        sigma (float): width of the Gaussian decay, > 0; unused by "linear" and "hard".
        classes (Iterable[int] | None): classes to keep, each in 0..nc-1; None keeps all.
        agnostic (bool): suppress across classes rather than within each.
        max_candidates (int): best candidates of each class that enter suppression, >= 1.

    Returns:
        (list[Tensor]): B tensors (n, 6) float32: x1 y1 x2 y2 in pixels, score, class; score descending.
        (list[Tensor]): B tensors (n,) int64: the column of `prediction` each detection came from.

    Raises:
        ValueError: unknown suppression, a parameter out of range, or a prediction of another shape.
    """
    if isinstance(prediction, (tuple, list)):
        prediction = prediction[0]
    if prediction.ndim != 3 or prediction.shape[1] < 5:
        raise ValueError(f"expected a prediction (B, 4 + nc, N) with nc >= 1, got {tuple(prediction.shape)}")
    nc = prediction.shape[1] - 4
    if suppression not in ("gaussian", "linear", "hard"):
        raise ValueError(f"suppression must be 'gaussian', 'linear' or 'hard', got {suppression!r}")
    if not (0 <= conf <= 1 and 0 <= iou <= 1):
        raise ValueError(f"conf and iou must be within 0..1, got {conf} and {iou}")
    if max_det < 1 or max_candidates < 1:
        raise ValueError(f"max_det and max_candidates must be >= 1, got {max_det} and {max_candidates}")
    listed = None if classes is None else _listed(classes, nc)

    detections, columns = [], []
    for image in prediction.float():
        boxes, scores, labels, source = _candidates(image, conf, listed, max_candidates)
        groups = torch.zeros_like(labels) if agnostic else labels
        if suppression == "hard":
            # Candidates stand in score order already; sorting the indices restores it with ties in a fixed order.
            # torchvision keeps groups apart by moving their boxes, which must not be below zero for that.
            above_zero = boxes - boxes.amin().clamp(max=0) if len(boxes) else boxes
            keep = batched_nms(above_zero, scores, groups, iou).sort().values
        else:
            scores = _soft_scores(boxes, scores, groups, suppression, sigma, iou, conf)
            keep = scores.argsort(descending=True, stable=True)
            keep = keep[scores[keep] > 0]
        keep = keep[:max_det]
        detections.append(torch.cat((boxes[keep], scores[keep, None], labels[keep, None].float()), 1))
        columns.append(source[keep])
    return detections, columns


def _listed(classes: Iterable[int], nc: int) -> list[int]:
    """Classes to keep, whatever they came in: a list, the command line's tuple, an array."""
    asked = [classes] if isinstance(classes, str) else [c if isinstance(c, str) else float(c) for c in classes]
    if any(isinstance(c, str) or not c.is_integer() or not 0 <= c < nc for c in asked):
        raise ValueError(f"classes must be whole numbers within 0..{nc - 1}, got {classes!r}")
    return [int(c) for c in asked]


def _candidates(
    image: Tensor, conf: float, classes: list[int] | None, max_candidates: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Candidates of one image (4 + nc, N), by falling score, ties by column, then class.

    Returns:
        (tuple): boxes (n, 4) x1 y1 x2 y2, scores (n,), labels (n,) int64, columns (n,) int64.
    """
    centre, half = image[:2].T, image[2:4].T / 2
    boxes = torch.cat((centre - half, centre + half), 1)
    scores = image[4:].T
    wanted = scores > conf
    wanted &= (boxes.isfinite().all(1) & scores.isfinite().all(1))[:, None]
    if classes is not None:
        listed = torch.zeros(scores.shape[1], dtype=torch.bool, device=image.device)
        listed[classes] = True
        wanted &= listed
    column, label = wanted.nonzero(as_tuple=True)
    order = scores[column, label].argsort(descending=True, stable=True)
    column, label = column[order], label[order]
    kept = _rank_within(label) < max_candidates
    column, label = column[kept], label[kept]
    return boxes[column], scores[column, label], label, column


def _rank_within(group: Tensor) -> Tensor:
    """How many earlier entries share each entry's group: (n,) int64 for (n,) int64."""
    by_group = group.argsort(stable=True)
    count = torch.bincount(group)
    start = count.cumsum(0) - count
    rank = torch.empty_like(group)
    rank[by_group] = torch.arange(len(group), device=group.device) - start[group[by_group]]
    return rank


def _soft_scores(
    boxes: Tensor, scores: Tensor, groups: Tensor, decay: str, sigma: float, iou: float, conf: float
) -> Tensor:
    """Soft-NMS scores (n,) of candidates (n,), 0 where dropped, through one padded row per group."""
    rank = _rank_within(groups)
    n_groups, width = (int(v.max()) + 1 if len(v) else 0 for v in (groups, rank))
    group_boxes = boxes.new_zeros(n_groups, width, 4)
    group_scores = scores.new_zeros(n_groups, width)
    group_boxes[groups, rank] = boxes
    group_scores[groups, rank] = scores
    return soft_nms(group_boxes, group_scores, decay, sigma, iou, conf)[groups, rank]
