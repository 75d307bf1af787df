"""RT-DETR of Ultralytics: the score is a class's logit of the query that the prediction came from.

Shape shorthand: B images, Q queries, C classes.

Source: own, on the host's `RTDETRDecoder`. A query gathers from all levels of the features that the decoder reads; the
level that is explained is the one that carries most of the score, with the largest sum of |A dy/dA|.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou
from ultralytics.utils.ops import xywh2xyxy

from yolospine_ultra.explain.cam import Patch
from yolospine_ultra.explain.model import (
    MAX_FINDINGS,
    STAGE1,
    ExplainedModel,
    Finding,
    Scene,
    best_overlap,
    gradients,
    to_numpy,
)
from yolospine_ultra.explain.yolo import host_cascade

_SAME_BOX = 1e-4  # in IoU


class QueryScene(Scene):
    """What the decoder saw in one image.

    Args:
        boxes: (Q, 4) x1 y1 x2 y2 in input pixels.
        logits: (Q, C), with the graph.
        leaves: features that are explained, of every level.
        size: height and width of the input.
    """

    def __init__(self, boxes: Tensor, logits: Tensor, leaves: Sequence[Tensor], size: tuple[int, int]) -> None:
        self.boxes, self.logits, self.leaves, self.size = boxes.detach(), logits, leaves, size

    def found(self, conf: float) -> list[Finding]:
        """See `Scene`: the best pairs of query and class."""
        nc = self.logits.shape[1]
        scores = self.logits.detach().sigmoid().flatten()
        best, flat = scores.topk(min(MAX_FINDINGS, len(self.logits)))
        return [
            Finding(to_numpy(self.boxes[i // nc]).astype(float), int(i % nc), float(s), int(i // nc))
            for s, i in zip(best, flat, strict=True)
            if s > conf
        ]

    def query(self, finding: Finding) -> int:
        """The finding's own query, or the one at its box: with other weights, queries are others."""
        own = torch.as_tensor(finding.box, dtype=self.boxes.dtype, device=self.boxes.device)[None]
        overlap = box_iou(own, self.boxes)[0]
        best = int(overlap.argmax())
        return finding.place if overlap[finding.place] > overlap[best] - _SAME_BOX else best

    def patches(self, finding: Finding, category: int, stage: str) -> list[Patch]:
        """See `Scene`. The level is that of the finding's own class, for all classes."""
        place = self.query(finding)
        own = gradients(self.logits[place, finding.category], self.leaves)
        shares = [np.abs(to_numpy(leaf) * g).sum() for leaf, g in zip(self.leaves, own, strict=True)]
        leaf = self.leaves[int(np.argmax(shares))]
        (gradient,) = gradients(self.logits[place, category], [leaf])
        return [Patch(to_numpy(leaf)[0], gradient[0], (0, 0, self.size[1], self.size[0]))]


class RTDETRModel(ExplainedModel):
    """A detector whose head is the host's `RTDETRDecoder`."""

    fit = "stretch"

    def __init__(self, module: nn.Module, *arguments: Any, **named: Any) -> None:
        super().__init__(module, *arguments, **named)
        self.head.shapes = []  # anchors may come from a pass without gradients

    @property
    def head(self) -> nn.Module:
        """The last module."""
        return self.module.model[-1]

    def _raw(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, Q, 4) x1 y1 x2 y2 in input pixels, logits (B, Q, C)."""
        boxes, logits = (x.squeeze(0) for x in self.module(inputs)[1][:2])
        height, width = inputs.shape[2:]
        return xywh2xyxy(boxes) * boxes.new_tensor([width, height, width, height]), logits

    def look(self, inputs: Tensor) -> QueryScene:
        """See `ExplainedModel`."""
        with self.leaves(self.head) as leaves:
            boxes, logits = self._raw(inputs)
        return QueryScene(boxes[0], logits[0], leaves, tuple(inputs.shape[2:]))

    @torch.no_grad()
    def scores(self, inputs: Tensor, finding: Finding) -> dict[str, Tensor]:
        """See `ExplainedModel`."""
        boxes, logits = self._raw(inputs)
        return {STAGE1: best_overlap(boxes, logits[..., finding.category].sigmoid(), finding.box)}

    def cascade(self) -> dict[str, list[nn.Module]]:
        """See `ExplainedModel`."""
        return host_cascade(self.module)
