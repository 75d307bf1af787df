"""The two-stage head: DDE proposes, MLDR decides.

Shape shorthand: B images, A anchor points, K proposals an image, C classes.

Source: YOLOspine (Masood and Taj 2026), "Detection Pipeline". Deviation: proposals are the K most likely objects of all
levels together, with places for each class, instead of those over a threshold, so that shapes are static and an image's
result depends on nothing but the image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from yolospine_ultra.nn.boxes import decode_boxes, safe_boxes, without_nan
from yolospine_ultra.nn.dde import DDEDetect
from yolospine_ultra.nn.mldr import MLDR
from yolospine_ultra.nn.order import order_in_column
from yolospine_ultra.nn.proposals import MOST_SURE, Proposals, agree, choose_anchors
from yolospine_ultra.nn.relations import ClassRelations
from yolospine_ultra.registry import register_head

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel

LARGEST = 50.0  # logit of stage 2


@register_head()
class SpineDetect(DDEDetect):
    """DDE and MLDR in one head.

    Inference output is (B, 4 + C, K * C), the host's layout: column k * C + c holds the box that MLDR gives class c of
    proposal k, and a single non-zero score, that of class c. A proposal may so carry several classes, each with its own
    box, through any back end of the host.

    Score fusion: s_kc = sqrt(o_k * q_kc), the geometric mean of DDE's objectness o and the probability q of the class.
    Its logit is a weighted mean of what both stages say, averaged over the proposals of one object. What stage 2 says
    weighs the more, the more labelled boxes it was taught with. DDE's softmax must split its mass where a region has
    two findings; what it says is corrected for classes that share boxes, and what the dataset declares about its
    classes comes last (`nn/relations.py`).

    Args:
        nc: number of classes C.
        proposals: K, regions an image that stage 2 looks at.
        dim: channels of the region features.
        hidden: width of a region's embedding.
        match_iou: overlap of a proposal with a ground truth from which stage 2 is taught its class; one value, or one a
            class.
        order: whether stage 2 is told how many levels lie above and below a region. Without it no group is divided.
        class_boxes: whether every class has its own refined box; otherwise the classes of a proposal share one.
        multi_hot: whether stage 1 is taught all labels of an anchor point's region, or as the host does, the one of the
            ground truth that the point is given to.
        reg_max: bins of the distribution of each box side in stage 1.
        ch: channels of the input maps, finest first.
    """

    def __init__(
        self,
        nc: int = 80,
        proposals: int = 100,
        dim: int = 64,
        hidden: int = 128,
        match_iou: float | list[float] = 0.5,
        order: bool = True,
        class_boxes: bool = True,
        multi_hot: bool = True,
        reg_max: int = 16,
        ch: tuple[int, ...] = (),
    ) -> None:
        super().__init__(nc, reg_max, ch)
        self.proposals, self.multi_hot = proposals, multi_hot
        self.match_iou = [match_iou] * nc if isinstance(match_iou, (int, float)) else list(match_iou)
        if len(self.match_iou) != nc or not all(0 <= x <= 1 for x in self.match_iou):
            raise ValueError(
                f"SpineDetect: match_iou needs one value or one a class, {nc}, from 0 to 1, but is {match_iou}."
            )
        self.relations = ClassRelations(nc)
        self.mldr = MLDR(nc, ch, self.tower_channels, dim, hidden, order, class_boxes)

    def bias_init(self) -> None:
        """As of DDE; the host has measured the strides now. The finest is kept as a number for RoIAlign.

        A tensor would wait for a GPU in every step, and cannot be compiled.
        """
        super().bias_init()
        self.finest = float(self.stride[0])

    def propose(self, preds: dict[str, Any]) -> Proposals:
        """The K proposals of raw stage-1 predictions, in the order of `choose_anchors`."""
        height, width = (n * self.finest for n in preds["feats"][0].shape[2:])
        boxes = self._get_decode_boxes({"feats": preds["feats"], "boxes": preds["boxes"].detach()}).transpose(1, 2)
        objectness = without_nan(preds["obj"].detach()[:, 0].float().sigmoid())
        classes = without_nan(preds["cls"].detach().float().softmax(1))
        anchor = choose_anchors(objectness, classes, self.proposals)
        boxes, objectness = boxes.gather(1, anchor[..., None].expand(-1, -1, 4)), objectness.gather(1, anchor)
        classes = classes.transpose(1, 2).gather(1, anchor[..., None].expand(-1, -1, self.nc))
        # a softmax over one class, or over classes that are all one finding, says nothing
        classes = self.relations.joined(classes) / (1 + (self.relations.sizes == self.nc))
        classes = classes.clamp(1 - MOST_SURE, MOST_SURE)
        evidence = (classes / (1 - classes)).log()  # the logit, which not every exported back end knows
        return Proposals(safe_boxes(boxes.float(), width, height), objectness, evidence, anchor)

    def refine(
        self, preds: dict[str, Any], boxes: Tensor, index: Tensor, counts: Tensor, evidence: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Stage 2 on regions `boxes` (R, 4) of images `index` (R,): logits (R, C), and boxes (R, C, 4) in pixels.

        Args:
            preds: raw predictions of stage 1.
            boxes: regions, finite and inside the image.
            index: image of each region.
            counts: levels above and below each region, (R, 2), as `order_in_column` counts the proposals.
            evidence: what stage 1 says about the regions, (R, C): that of proposals is their own, that of other regions
                `evidence_of` finds.
        """
        logits, deltas = self.mldr(preds["feats"], preds["towers"], boxes, index, counts, evidence, self.finest)
        return logits, decode_boxes(boxes[:, None], deltas.float())

    def infer(self, preds: dict[str, Any]) -> Tensor:
        """The output (B, 4 + C, K * C) of raw predictions."""
        proposals = self.propose(preds)
        boxes, objectness = proposals.boxes, proposals.objectness
        b, k = objectness.shape
        index = torch.arange(b, device=boxes.device)[:, None].expand(b, k).reshape(-1)
        regions = boxes.flatten(0, 1)
        counts = order_in_column(regions, index, boxes, objectness)
        logits, refined = self.refine(preds, regions, index, counts, proposals.evidence.flatten(0, 1))
        # finite, since one proposal's overflow would reach all others of its object
        logits = without_nan(logits.float()).clamp(-LARGEST, LARGEST).view(b, k, -1)
        with torch.autocast(boxes.device.type, enabled=False):  # scores near one are what findings are ordered by
            both = self.relations.combine(proposals.evidence, logits)
            classes = self.relations(agree(both, boxes, objectness).flatten(0, 1), counts)
        scores = (objectness.reshape(-1, 1) * classes).sqrt()
        columns = (scores[..., None] * torch.eye(self.nc, device=scores.device)).view(b, -1, self.nc)
        return torch.cat((self.layout(refined.view(b, -1, 4)), columns), 2).transpose(1, 2)

    def build_criterion(self, model: DetectionModel) -> Any:
        """The loss of this head: `yolospine_ultra.losses.two_stage.TwoStageLoss`."""
        from yolospine_ultra.losses.two_stage import TwoStageLoss

        return TwoStageLoss(model)
