"""YOLOspine: the score of stage 1 at the anchor point of a proposal, and that of stage 2 in the proposal's region.

Shape shorthand: A anchor points over all levels, K proposals, C classes, D channels of a region's features.

Source: own, on `nn.dde` and `nn.mldr`. Stage 1 explains z_c - b, the logits of class and background: the logarithm of
its score up to what normalises it, so that it does not saturate as the softmax does. Stage 2 explains MLDR's logit in
the features that RoIAlign cuts out, 7 x 7 bins over the proposal and 7 x 7 over the wide region around it, each map put
back where its bins lie. What reaches stage 2 otherwise, the order of levels and what stage 1 says of them, is held
fixed; what comes after it, the mean over stages and proposals and the relations of classes, is not explained. Classes
that a dataset declares to be one finding are taught as one, so that their maps are much alike: what tells them apart is
their level, which no map shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from ultralytics.utils.ops import xywh2xyxy

from yolospine_ultra.autoload.arguments import ARGUMENTS
from yolospine_ultra.explain.cam import Patch
from yolospine_ultra.explain.model import (
    MAX_FINDINGS,
    STAGE1,
    STAGE2,
    Finding,
    best_overlap,
    gradients,
    to_numpy,
)
from yolospine_ultra.explain.yolo import IOU, YoloModel, YoloScene
from yolospine_ultra.nn.dde import DDEDetect
from yolospine_ultra.nn.mldr import CONTEXT
from yolospine_ultra.nn.order import order_in_column
from yolospine_ultra.nn.proposals import evidence_of
from yolospine_ultra.nn.spine_detect import SpineDetect
from yolospine_ultra.postprocess.detections import select_detections


class SpineScene(YoloScene):
    """What DDE, and MLDR where there is one, saw in one image.

    Args:
        head: of the model.
        preds: raw predictions of stage 1, with the graph.
        leaves, size: as in `YoloScene`.
    """

    def __init__(self, head: DDEDetect, preds: dict[str, Any], leaves: Sequence[Tensor], size: tuple[int, int]) -> None:
        boxes = head._get_decode_boxes(preds)[0].T
        grids = [tuple(f.shape[2:]) for f in preds["feats"]]
        logits = preds["obj"][0] + preds["cls"][0].log_softmax(0)  # z_c - b
        super().__init__(boxes, logits, leaves, grids, size, True)
        self.head, self.preds = head, preds
        self.proposals = head.propose(preds) if isinstance(head, SpineDetect) else None
        self._regions: dict[bytes, tuple[list[Tensor], Tensor]] = {}

    def found(self, conf: float) -> list[Finding]:
        """See `Scene`: with Soft-NMS at its defaults."""
        with torch.no_grad():
            output = self.head.infer(self.preds)
        limits = {"conf": conf, "iou": IOU, "max_det": MAX_FINDINGS}
        (rows,), (columns,) = select_detections(
            output, **limits, suppression=ARGUMENTS["suppression"], sigma=ARGUMENTS["soft_sigma"]
        )
        places, regions = columns, [None] * len(columns)
        if self.proposals is not None:
            proposal = columns // self.head.nc
            places = self.proposals.anchor[0][proposal]
            regions = list(to_numpy(self.proposals.boxes[0][proposal]))
        return [
            Finding(to_numpy(row[:4]).astype(float), int(row[5]), float(row[4]), int(place), region)
            for row, place, region in zip(rows, places, regions, strict=True)
        ]

    def patches(self, finding: Finding, category: int, stage: str) -> list[Patch]:
        """See `Scene`."""
        if stage == STAGE1:
            return super().patches(finding, category, stage)
        crops, logits = self._region(finding.region)
        found = gradients(logits[category], crops)
        tight = finding.region.astype(float)
        centre, half = (tight[:2] + tight[2:]) / 2, (tight[2:] - tight[:2]) / 2 * CONTEXT
        wide = np.concatenate([centre - half, centre + half])
        return [
            Patch(to_numpy(crop)[0], gradient[0], tuple(bounds))
            for crop, gradient, bounds in zip(crops, found, (tight, wide), strict=True)
        ]

    def _region(self, region: np.ndarray) -> tuple[list[Tensor], Tensor]:
        """What RoIAlign cuts out for a region and the wide one, (1, D, 7, 7), as leaves, and the logits (C,) of it."""
        key = region.tobytes()
        if key not in self._regions:
            mldr, preds = self.head.mldr, self.preds
            boxes = torch.as_tensor(region, device=self.boxes.device)[None]
            index = torch.zeros(1, dtype=torch.long, device=boxes.device)
            with torch.no_grad():
                evidence = evidence_of(boxes, index, self.proposals)
                counts = order_in_column(boxes, index, self.proposals.boxes, self.proposals.objectness)
                merged = mldr.merge(preds["feats"], preds["towers"])
                crops = mldr.cut(merged, merged, boxes, index, self.head.finest)
            crops = [crop.requires_grad_() for crop in crops]
            with torch.enable_grad():
                logits, _ = mldr.judge(*mldr.project(*crops), counts, evidence)
            self._regions[key] = crops, logits[0]
        return self._regions[key]


class SpineModel(YoloModel):
    """A detector whose head is `DDEDetect`, or `SpineDetect` with its second stage."""

    fit = "square"

    @property
    def stages(self) -> tuple[str, ...]:
        """One, or two with MLDR."""
        return (STAGE1, STAGE2) if isinstance(self.head, SpineDetect) else (STAGE1,)

    def look(self, inputs: Tensor) -> SpineScene:
        """See `ExplainedModel`."""
        with self.leaves(self.head) as leaves:
            preds = self.module(inputs)[1]
        return SpineScene(self.head, preds, leaves, tuple(inputs.shape[2:]))

    @torch.no_grad()
    def scores(self, inputs: Tensor, finding: Finding) -> dict[str, Tensor]:
        """See `ExplainedModel`: of stage 1 o softmax(z)_c, of stage 2 what the model predicts."""
        output, preds = self.module(inputs)
        outputs = {STAGE1: DDEDetect.infer(self.head, preds), STAGE2: output}
        return {
            stage: best_overlap(
                xywh2xyxy(outputs[stage][:, :4].transpose(1, 2)), outputs[stage][:, 4 + finding.category], finding.box
            )
            for stage in self.stages
        }
