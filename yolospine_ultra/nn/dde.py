"""DDE, the Disjoint Disorder Extractor: stage 1, a dense anchor-free head with objectness and a softmax.

Shape shorthand: B images, A anchor points over all levels, C classes, R bins of the box distribution.

Source: YOLOspine (Masood and Taj 2026), section "Stage 1": N1 x (C1 + 4 + 1) predictions on three scales, softmax over
the classes, objectness o, boxes by CIoU; box distribution (DFL) from Li et al. 2020. The class tower is depth-wise as
in YOLO11.

Deviations. The softmax runs over all classes of the dataset, not over a disjoint subset, because which disorders are
disjoint is a property of the data; what overlaps is decided by stage 2. Objectness is not an output by itself: with
class logits z and a logit b of the background it is o = sigmoid(log sum_c exp z_c - b), so that o * softmax(z)_c is the
probability of class c in a softmax over the classes and the background. What tells a rare finding from everything else
so counts as an object too; an objectness that the box tower alone has to know hardly ever learns it
(docs/experiments.md, 19).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import Conv, Detect, DWConv
from ultralytics.utils.ops import xyxy2xywh
from ultralytics.utils.tal import dist2bbox

from yolospine_ultra.registry import register_head

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel

LEAST_SCORE = 1e-6  # scores nearer to 0 or 1 have the logit of this


@register_head()
class DDEDetect(Detect):
    """Single-stage head: the model without MLDR, and the first stage of `SpineDetect`.

    Inference output is (B, 4 + C, A): centre x, centre y, width, height in input pixels, and scores o * softmax. In
    training, or beside the output in evaluation, a dict of raw predictions: "boxes" (B, 4R, A) box distributions,
    "obj" (B, 1, A) and "cls" (B, C, A), logits of o and of the softmax, "feats" the input maps, "towers" the class
    features of each level; in evaluation also "scores" (B, C, A), the logits of the scores, which the host explains and
    distils.

    Args:
        nc: number of classes C.
        reg_max: bins R of the distribution of each box side.
        ch: channels of the input maps, finest first.
    """

    multi_hot = True  # an anchor point is taught the classes of all ground truths that share its region
    legacy = False  # the host sets this flag on Detect while it parses old YAMLs; this head has one form

    def __init__(self, nc: int = 80, reg_max: int = 16, ch: tuple[int, ...] = ()) -> None:
        super().__init__(nc, reg_max, False, ch)
        c2, c3 = max(16, ch[0] // 4, 4 * reg_max), max(ch[0], min(nc, 100))
        # cv2 and cv3 are the host's names: it transfers weights between class sets by them
        self.cv3 = nn.ModuleList(
            nn.Sequential(
                nn.Sequential(DWConv(c, c, 3), Conv(c, c3, 1)),
                nn.Sequential(DWConv(c3, c3, 3), Conv(c3, c3, 1)),
                nn.Conv2d(c3, nc, 1),
            )
            for c in ch
        )
        self.background = nn.ModuleList(nn.Conv2d(c2, 1, 1) for _ in ch)
        self.tower_channels = c3

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "background" not in state["_modules"]:
            raise RuntimeError(
                "This checkpoint's DDE has an objectness of its own, as yolospine_ultra had before the logit of the "
                "background; its weights mean something else now. Train the model again, or load it with the "
                "yolospine_ultra that trained it."
            )
        super().__setstate__(state)

    def bias_init(self) -> None:
        """Prior of the biases: boxes of two strides a side, about five objects an image, classes equally likely."""
        levels = zip(self.cv2, self.cv3, self.background, self.stride.tolist(), strict=True)
        for box, cls, background, stride in levels:
            box[-1].bias.data[:] = 2.0
            cls[-1].bias.data[:] = 0.0
            background.bias.data[:] = math.log(self.nc) - math.log(5 / (640 / stride) ** 2)

    def dense(self, feats: list[Tensor]) -> dict[str, Any]:
        """Raw predictions of stage 1 on all levels, as the class docstring names them."""
        boxes, backgrounds, classes, towers = [], [], [], []
        for x, box_branch, cls_branch, background in zip(feats, self.cv2, self.cv3, self.background, strict=True):
            regression = box_branch[1](box_branch[0](x))
            towers.append(cls_branch[1](cls_branch[0](x)))
            boxes.append(box_branch[2](regression).flatten(2))
            backgrounds.append(background(regression).flatten(2))
            classes.append(cls_branch[2](towers[-1]).flatten(2))
        cls = torch.cat(classes, 2)
        return {
            "boxes": torch.cat(boxes, 2),
            "obj": cls.logsumexp(1, keepdim=True) - torch.cat(backgrounds, 2),
            "cls": cls,
            "feats": feats,
            "towers": towers,
        }

    @staticmethod
    def scores(preds: dict[str, Any]) -> Tensor:
        """Scores of stage 1, (B, C, A) in 0..1: objectness times the softmax over the classes."""
        return preds["obj"].sigmoid() * preds["cls"].softmax(1)

    def forward(self, x: list[Tensor]) -> dict[str, Any] | Tensor | tuple[Tensor, dict[str, Any]]:
        """Raw predictions in training, the output when exporting, both otherwise."""
        preds = self.dense(x)
        if self.training:
            return preds
        y = self.infer(preds)
        if self.export:
            return y
        return y, {**preds, "scores": self.scores(preds).logit(LEAST_SCORE)}

    def decode_bboxes(self, bboxes: Tensor, anchors: Tensor, angle: None = None) -> Tensor:
        """Corners x1 y1 x2 y2 (B, 4, A) of side distances, in cells; `infer` brings them to the layout asked for."""
        return dist2bbox(bboxes, anchors, xywh=False, dim=1)

    def layout(self, boxes: Tensor) -> Tensor:
        """Boxes (B, N, 4) x1 y1 x2 y2 as the host wants them: x y w h, or unchanged for its `Exporter` with NMS in it.

        `YOLOspine.export` refuses that NMS; an `Exporter` of one's own does not ask.
        """
        return boxes if self.xyxy else xyxy2xywh(boxes)

    def infer(self, preds: dict[str, Any]) -> Tensor:
        """The output (B, 4 + C, A) of raw predictions."""
        boxes = self.layout(self._get_decode_boxes(preds).transpose(1, 2))
        return torch.cat((boxes.transpose(1, 2), self.scores(preds)), 1)

    def build_criterion(self, model: DetectionModel) -> Any:
        """The loss of this head: `yolospine_ultra.losses.dde_loss.DDELoss`."""
        from yolospine_ultra.losses.dde_loss import DDELoss

        return DDELoss(model)
