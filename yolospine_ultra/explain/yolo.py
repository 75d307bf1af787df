"""Stock YOLO detectors of Ultralytics, 8 to 26: the score is a class's logit at the anchor point of the prediction.

Shape shorthand: A anchor points over all levels, C classes.

Source: own, on the host's heads. Explained are the features that the head reads, on the level of the anchor point:
all of the score passes through them. YOLOv10 and YOLO26 have two branches; as in the host's `predict`, it is the one
that needs suppression unless `nms_free` says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import Detect
from ultralytics.utils.nms import non_max_suppression
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

IOU = 0.7  # of the host's suppression


class YoloScene(Scene):
    """What a stock head saw in one image.

    Args:
        boxes: decoded, (A, 4) x1 y1 x2 y2 in input pixels.
        logits: (C, A), with the graph.
        leaves: features that are explained: of every level, or one that the user named.
        grids: height and width of every level, finest first.
        size: height and width of the input.
        suppress: whether predictions go through suppression.
    """

    def __init__(
        self,
        boxes: Tensor,
        logits: Tensor,
        leaves: Sequence[Tensor],
        grids: Sequence[tuple[int, int]],
        size: tuple[int, int],
        suppress: bool,
    ) -> None:
        self.boxes, self.logits, self.leaves, self.size, self.suppress = boxes.detach(), logits, leaves, size, suppress
        self.ends = torch.tensor([h * w for h, w in grids]).cumsum(0)

    def found(self, conf: float) -> list[Finding]:
        """See `Scene`: the best class of an anchor point, as the host gives it."""
        scores = self.logits.detach().sigmoid()
        if not self.suppress:
            best, flat = scores.T.flatten().topk(min(MAX_FINDINGS, scores.numel()))
            flat = flat[best > conf]
            return [self._finding(int(i) // len(scores), int(i) % len(scores)) for i in flat]
        centre, half = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2, self.boxes[:, 2:] - self.boxes[:, :2]
        columns = torch.cat((centre.T, half.T, scores))[None]
        nc = len(scores)
        rows, places = non_max_suppression(columns, conf, IOU, max_det=MAX_FINDINGS, nc=nc, return_idxs=True)
        return [self._finding(int(p), int(c)) for p, c in zip(places[0].flatten(), rows[0][:, 5], strict=True)]

    def _finding(self, place: int, category: int) -> Finding:
        score = float(self.logits[category, place].detach().sigmoid())
        return Finding(to_numpy(self.boxes[place]).astype(float), category, score, place)

    def score(self, place: int, category: int) -> Tensor:
        """The scalar that is explained."""
        return self.logits[category, place]

    def patches(self, finding: Finding, category: int, stage: str) -> list[Patch]:
        """See `Scene`."""
        level = int(torch.searchsorted(self.ends, finding.place, right=True)) if len(self.leaves) > 1 else 0
        leaf = self.leaves[level]
        (gradient,) = gradients(self.score(finding.place, category), [leaf])
        return [Patch(to_numpy(leaf)[0], gradient[0], (0, 0, self.size[1], self.size[0]))]


class YoloModel(ExplainedModel):
    """Any detector whose head is the host's `Detect`.

    Args:
        module: the host's model.
        arguments: those of `ExplainedModel`.
        nms_free: explain the branch without suppression of a model that has both.

    Raises:
        ValueError: `nms_free`, and the model has no such branch.
    """

    fit = "rect"

    def __init__(self, module: nn.Module, *arguments: Any, nms_free: bool = False, **named: Any) -> None:
        super().__init__(module, *arguments, **named)
        self.head.shape = None  # anchors may come from a pass without gradients
        if nms_free and getattr(self.head, "one2one_cv2", None) is None:
            raise ValueError("the model has no branch without suppression; leave nms_free out.")
        self.head.end2end = nms_free

    @property
    def head(self) -> Detect:
        """The last module."""
        return self.module.model[-1]

    def _raw(self, inputs: Tensor) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Boxes (B, A, 4) x1 y1 x2 y2 in input pixels, logits (B, C, A), and the head's raw predictions."""
        raw = self.module(inputs)[1]
        raw = raw["one2one" if self.head.end2end else "one2many"] if "one2one" in raw else raw
        boxes = self.head._get_decode_boxes(raw).transpose(1, 2)
        return (boxes if self.head.end2end else xywh2xyxy(boxes)), raw["scores"], raw

    def look(self, inputs: Tensor) -> YoloScene:
        """See `ExplainedModel`."""
        with self.leaves(self.head) as leaves:
            boxes, logits, raw = self._raw(inputs)
        grids = [tuple(f.shape[2:]) for f in raw["feats"]]
        return YoloScene(boxes[0], logits[0], leaves, grids, tuple(inputs.shape[2:]), not self.head.end2end)

    @torch.no_grad()
    def scores(self, inputs: Tensor, finding: Finding) -> dict[str, Tensor]:
        """See `ExplainedModel`."""
        boxes, logits, _ = self._raw(inputs)
        return {STAGE1: best_overlap(boxes, logits[:, finding.category].sigmoid(), finding.box)}

    def cascade(self) -> dict[str, list[nn.Module]]:
        """See `ExplainedModel`."""
        return host_cascade(self.module)


def host_cascade(module: nn.Module) -> dict[str, list[nn.Module]]:
    """Head, neck and backbone of a model of the host."""
    layers, split = list(module.model), len(module.yaml["backbone"])
    return {"head": layers[-1:], "neck": layers[split:-1], "backbone": layers[:split]}
