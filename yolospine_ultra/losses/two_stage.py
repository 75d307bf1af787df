"""Loss of both stages: L_DDE + L_WBCE + the refined boxes' CIoU.

Shape shorthand: B images, R regions, C classes.

Source: YOLOspine (Masood and Taj 2026), "Stage 2". Deviations: a class's target is not 1 but the overlap of its refined
box with its ground truth, so that scores rank boxes by their fit; refined boxes are taught by CIoU, as in stage 1.

The stage-2 forward pass happens here, because here ground truth is known. The host calls the criterion inside the
model's `forward`, so that distributed training sees its parameters, or with `compile=True` behind it. Every image gives
regions, also one without findings, hence every parameter of stage 2 has a gradient in every step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.metrics import bbox_iou

from yolospine_ultra.losses.assign import match_regions, one_hot_labels, sample_regions
from yolospine_ultra.losses.dde_loss import DDELoss
from yolospine_ultra.losses.weighted_bce import weighted_bce
from yolospine_ultra.nn.boxes import safe_boxes
from yolospine_ultra.nn.order import order_in_column
from yolospine_ultra.nn.proposals import evidence_of

GAIN_CLASS, GAIN_BOX = 1.0, 2.0  # of stage 2; chosen so that its terms are of the size of stage 1's after an epoch


class TwoStageLoss(DDELoss):
    """Criterion of a model whose head is `SpineDetect`."""

    def __init__(self, model: DetectionModel) -> None:
        super().__init__(model)
        self.thresholds = torch.tensor(self.head.match_iou, device=self.device)
        if self.weights is not None:
            self.weights = self.head.relations.averaged(self.weights)

    def softmax_labels(self, labels: Tensor) -> Tensor:
        """What the softmax is taught, (..., C) in 0..1 and 1 a finding, of the labels (..., C) in {0, 1} of regions."""
        return self.head.relations.taught(labels) / self.head.relations.sizes

    def loss(self, preds: dict[str, Any], batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss terms times the batch size, and each of them by name, detached."""
        truths = self.truths(preds, batch)
        items = self.stage_one(preds, truths) | self.stage_two(preds, truths)
        return self.total(items, len(preds["obj"]))

    def stage_two(self, preds: dict[str, Any], truths: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """The two terms of stage 2, scaled by their gains."""
        gt_labels, gt_boxes, gt_valid = truths
        image, row = gt_valid[..., 0].nonzero(as_tuple=True)
        labels = self.head.relations.taught(one_hot_labels(gt_labels, gt_valid, self.nc))[image, row]
        boxes = gt_boxes[image, row]
        height, width = (n * self.head.finest for n in preds["feats"][0].shape[2:])

        proposals = self.head.propose(preds)
        # one draw for all validations: their losses can be compared, and the training's draws are what they were
        generator = None if self.head.training else torch.Generator(self.device).manual_seed(0)
        regions, index = sample_regions(proposals.boxes, boxes, image, generator)
        regions = safe_boxes(regions, width, height)
        match = match_regions(regions, index, boxes, labels, image, self.thresholds)
        counts = order_in_column(regions, index, proposals.boxes, proposals.objectness)
        logits, refined = self.head.refine(preds, regions, index, counts, evidence_of(regions, index, proposals))

        with torch.autocast(self.device.type, enabled=False):
            region, cls = (match >= 0).nonzero(as_tuple=True)
            own = refined.float()[region, cls]
            target = boxes[match[region, cls]]
            ciou = bbox_iou(own, target, xywh=False, CIoU=True)[:, 0]
            fit = bbox_iou(own.detach(), target, xywh=False)[:, 0].clamp(0, 1)
            quality = torch.zeros_like(logits, dtype=torch.float32).index_put((region, cls), fit)
            # the sum over all refined boxes, times nothing, keeps their layer in the graph when no region matches
            box = (1 - ciou).sum() / max(len(region), 1) + refined.sum() * 0
            return {
                "mldr_cls_loss": weighted_bce(logits.float(), quality, self.weights) * GAIN_CLASS,
                "mldr_box_loss": box * GAIN_BOX,
            }
