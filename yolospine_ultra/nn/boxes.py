"""Boxes of stage 2: decoded from deltas, and made fit for RoIAlign.

Shape shorthand: ``...`` any leading dimensions. Boxes are ``x1 y1 x2 y2`` in input pixels, deltas are ``dx dy dw dh``.

Source: R-CNN (Girshick et al. 2014, appendix C), with the usual variances of Fast R-CNN. Deviation: the size delta is
clamped, so that an untrained head cannot produce a box that overflows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

VARIANCE = (0.1, 0.1, 0.2, 0.2)  # deltas are divided by these, so that the head regresses numbers of order one
MAX_LOG_SCALE = math.log(4.0)  # one refinement changes a side by a factor of four at most


def decode_boxes(proposals: Tensor, deltas: Tensor) -> Tensor:
    """Boxes (..., 4) that `deltas` (..., 4) make of `proposals`, which broadcast against them, in pixels."""
    px, py, pw, ph = _centre_size(proposals)
    dx, dy, dw, dh = (deltas * deltas.new_tensor(VARIANCE)).unbind(-1)
    x, y = px + dx * pw, py + dy * ph
    w = pw * dw.clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE).exp()
    h = ph * dh.clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE).exp()
    return torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), -1)


def safe_boxes(boxes: Tensor, width: float | Tensor, height: float | Tensor) -> Tensor:
    """`boxes` (..., 4) made finite, inside the image and at least one pixel wide and high.

    torchvision's `roi_align` reads out of bounds on non-finite or huge boxes on the CPU, and the host profiles models
    with uninitialised memory, so such boxes do arrive.
    """
    x1, y1, x2, y2 = without_nan(boxes).unbind(-1)
    x1, y1 = x1.clamp(min=0).clamp(max=width - 1), y1.clamp(min=0).clamp(max=height - 1)
    x2 = torch.maximum(x2.clamp(max=width), x1 + 1)
    y2 = torch.maximum(y2.clamp(max=height), y1 + 1)
    return torch.stack((x1, y1, x2, y2), -1)


def without_nan(x: Tensor) -> Tensor:
    """`x` with zeros in place of NaN, by comparison, since not every exported back end knows `nan_to_num`."""
    return torch.where(x == x, x, torch.zeros_like(x))


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre x, centre y, width and height, each (...), of `boxes` (..., 4)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
