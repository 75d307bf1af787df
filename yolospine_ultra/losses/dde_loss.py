"""Loss of stage 1: L_DDE = L_FL + lambda * L_reg, with objectness.

Shape shorthand: B images, A anchor points, C classes.

Source: YOLOspine (Masood and Taj 2026), "Stage 1"; assignment, CIoU and distribution loss are the host's. Deviations:
objectness is taught the task-aligned quality of an anchor point (a soft target, as the host teaches its classes), the
distribution loss is added, and labels are multi-hot (see `yolospine_ultra.losses.assign`).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import v8DetectionLoss
from ultralytics.utils.tal import make_anchors

from yolospine_ultra.losses.assign import multi_hot_labels, one_hot_labels
from yolospine_ultra.losses.focal import softmax_focal_loss


class DDELoss(v8DetectionLoss):
    """Criterion of a model whose head is `DDEDetect`.

    Gains are the host's arguments: `box` for CIoU, `dfl` for the distribution, `cls` for objectness and classes. Class
    weights w_k come from the host's `cls_pw`.
    """

    def __init__(self, model: DetectionModel) -> None:
        super().__init__(model)
        self.head = model.model[-1]
        self.weights = None if self.class_weights is None else self.class_weights.flatten()

    def loss(self, preds: dict[str, Any], batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss terms times the batch size, and each of them by name, detached."""
        items = self.stage_one(preds, self.truths(preds, batch))
        return self.total(items, len(preds["obj"]))

    def softmax_labels(self, labels: Tensor) -> Tensor:
        """What the softmax is taught, (..., C) in 0..1 and 1 a finding, of the labels (..., C) in {0, 1} of regions."""
        return labels

    @staticmethod
    def total(items: dict[str, Tensor], batch_size: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The host's form of a loss: the terms times the batch size, and detached for the log."""
        return torch.stack(list(items.values())) * batch_size, {k: v.detach() for k, v in items.items()}

    def truths(self, preds: dict[str, Any], batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Ground truths in input pixels, padded: classes (B, M, 1), boxes (B, M, 4), and which are real (B, M, 1)."""
        height, width = preds["feats"][0].shape[2:]
        size = self.stride[0].to(self.device) * torch.tensor([width, height, width, height], device=self.device)
        rows = torch.cat((batch["batch_idx"].view(-1, 1), batch["cls"].view(-1, 1), batch["bboxes"]), 1)
        # the host's padding expects the rows of an image together
        rows = rows[batch["batch_idx"].argsort(stable=True)].to(self.device).float()
        labels, boxes = self.preprocess(rows, len(preds["obj"]), size).split((1, 4), 2)
        return labels, boxes, boxes.sum(2, keepdim=True).gt(0).float()

    def stage_one(self, preds: dict[str, Any], truths: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """The four terms of stage 1, scaled by their gains, in single precision."""
        with torch.autocast(self.device.type, enabled=False):
            gt_labels, gt_boxes, gt_valid = truths
            distances = preds["boxes"].float().transpose(1, 2).contiguous()
            objectness, classes = preds["obj"].float()[:, 0], preds["cls"].float().transpose(1, 2)
            points, strides = make_anchors(preds["feats"], self.stride, 0.5)
            points, strides = points.float(), strides.float()
            boxes = self.bbox_decode(points, distances)

            scores = (objectness.sigmoid()[..., None] * classes.softmax(-1)).detach()
            _, target_boxes, target_scores, positive, gt_index = self.assigner(
                scores, boxes.detach() * strides, points * strides, gt_labels, gt_boxes, gt_valid
            )
            quality = target_scores.sum(-1)
            norm = quality.sum().clamp(min=1)
            if self.head.multi_hot:
                labels = multi_hot_labels(gt_labels, gt_boxes, gt_valid, self.nc)
            else:
                labels = one_hot_labels(gt_labels, gt_valid, self.nc)
            labels = self.softmax_labels(labels)
            if labels.shape[1]:
                labels = labels.gather(1, gt_index.long()[..., None].expand(-1, -1, self.nc))[positive]
            else:  # no ground truth in the whole batch: nothing is positive
                labels = classes.new_zeros(0, self.nc)

            box, dfl = self.bbox_loss(
                distances,
                boxes,
                points,
                target_boxes / strides,
                target_scores,
                norm,
                positive,
                torch.tensor(preds["feats"][0].shape[2:], device=self.device) * self.stride[0],
                strides,
            )
            focal = softmax_focal_loss(classes[positive], labels, self.weights)
            return {
                "box_loss": box * self.hyp.box,
                "dfl_loss": dfl * self.hyp.dfl,
                "obj_loss": F.binary_cross_entropy_with_logits(objectness, quality, reduction="sum")
                / norm
                * self.hyp.cls,
                "cls_loss": (focal * quality[positive]).sum() / norm * self.hyp.cls,
            }
