"""Cascade R-CNN with a ResNet-FPN, made of torchvision's parts.

Source: Cai and Vasconcelos 2018, "Cascade R-CNN: Delving into High Quality Object Detection", with the settings of
Detectron2's ``cascade_mask_rcnn_R_50_FPN_3x.yaml`` without the mask branch, which is what YOLOspine's row "Detectron2"
is: three stages at IoU .5, .6 and .7, class-agnostic boxes, two hidden layers of 1024 a stage, scores averaged over
the stages, aligned RoIAlign. Deviations: trained from scratch, hence group normalisation in the ResNet, as in
Detectron2's configurations for that, instead of frozen ImageNet statistics; the proposal network is torchvision's (its
box loss is rounded off at 1/9); up to 300 detections with scores down to 0.001, as every model of the benchmark gives.

`families.detectron2_family` runs Detectron2 itself where it is installed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.detection import _utils as parts
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes, roi_align

from yolospine_ultra.benchmark.families.data import Targets
from yolospine_ultra.benchmark.families.network import DetectionNetwork, Found
from yolospine_ultra.benchmark.families.torch_family import TorchFamily
from yolospine_ultra.benchmark.family import MAX_FINDINGS, MIN_SCORE, Budget, CellData, ModelEntry

STAGES = ((0.5, (10, 10, 5, 5)), (0.6, (20, 20, 10, 10)), (0.7, (30, 30, 15, 15)))  # IoU, weights of the box code
CHANNELS = 256  # of the pyramid
POOLED = 7  # side of a pooled region
STRIDES = (4, 8, 16, 32)  # of the levels that regions are pooled from
SAMPLES, POSITIVE = 512, 0.25  # regions an image in training, and the largest share of positives
NMS_IOU = 0.5
GROUPS = 32  # of the group normalisation

Boxes = list[torch.Tensor]  # one (N, 4) an image


def pool(features: Sequence[torch.Tensor], boxes: Boxes) -> torch.Tensor:
    """Aligned RoIAlign of every box on the level that fits its size.

    Args:
        features: maps (B, C, h, w) of `STRIDES`.
        boxes: in pixels of the input.

    Returns:
        (sum N, C, POOLED, POOLED)
    """
    flat = torch.cat(boxes).float().nan_to_num(0.0)  # torchvision's CPU kernel may crash on boxes that are not finite
    image = torch.cat([torch.full((len(b), 1), float(i), device=b.device) for i, b in enumerate(boxes)])
    side = (flat[:, 2:] - flat[:, :2]).clamp(min=0).prod(1).sqrt()
    level = torch.floor(4 + torch.log2(side / 224 + 1e-8)).clamp(2, 1 + len(STRIDES)).long() - 2
    regions = torch.cat([image, flat], 1)
    pooled = features[0].new_zeros(len(regions), features[0].shape[1], POOLED, POOLED)
    for i, (feature, stride) in enumerate(zip(features, STRIDES, strict=True)):
        mine = torch.where(level == i)[0]
        values = roi_align(feature, regions[mine], POOLED, 1 / stride, aligned=True)
        pooled = pooled.index_copy(0, mine, values.to(pooled.dtype))
    return pooled


class CascadeHeads(nn.Module):
    """The three stages. Label 0 is background, class c has label c + 1."""

    def __init__(self, classes: int, hidden: int, samples: int) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(TwoMLPHead(CHANNELS * POOLED**2, hidden) for _ in STAGES)
        self.scores = nn.ModuleList(nn.Linear(hidden, classes + 1) for _ in STAGES)
        self.deltas = nn.ModuleList(nn.Linear(hidden, 4) for _ in STAGES)
        for layers, std in ((self.scores, 0.01), (self.deltas, 0.001)):
            for layer in layers:
                nn.init.normal_(layer.weight, std=std)
                nn.init.zeros_(layer.bias)
        self.coders = [parts.BoxCoder(weights) for _, weights in STAGES]
        self.sampler = parts.BalancedPositiveNegativeSampler(samples, POSITIVE)

    def stage(self, k: int, features: Sequence[torch.Tensor], boxes: Boxes) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, classes + 1) and box codes (N, 4) of all images' boxes together."""
        x = pool(features, boxes)
        if self.training:  # each stage gives a third of the gradient to the features that they share
            share = 1 / len(STAGES)
            x = x * share + x.detach() * (1 - share)
        x = self.hidden[k](x)
        return self.scores[k](x), self.deltas[k](x)

    def refine(self, k: int, deltas: torch.Tensor, boxes: Boxes, size: tuple[int, int]) -> Boxes:
        """Boxes of the next stage, without gradient, inside the image."""
        decoded = self.coders[k].decode(deltas.detach().float(), boxes).reshape(-1, 4)
        return [clip_boxes_to_image(b, size) for b in decoded.split([len(b) for b in boxes])]

    def forward(
        self, features: Sequence[torch.Tensor], boxes: Boxes, size: tuple[int, int]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Refined boxes (N, 4) and mean probabilities (N, classes), background left out, of each image."""
        total: torch.Tensor | float = 0.0
        counts = [len(b) for b in boxes]
        for k in range(len(STAGES)):
            logits, deltas = self.stage(k, features, boxes)
            total = total + logits.float().softmax(1) / len(STAGES)
            boxes = self.refine(k, deltas, boxes, size)
        return [(b, p[:, 1:]) for b, p in zip(boxes, total.split(counts), strict=True)]

    def loss(
        self, features: Sequence[torch.Tensor], proposals: Boxes, targets: list[Targets], size: tuple[int, int]
    ) -> dict[str, torch.Tensor]:
        """Cross-entropy and box loss of each stage; its regions are the refined ones of the stage before."""
        boxes = [torch.cat([p, t.boxes]) for p, t in zip(proposals, targets, strict=True)]
        terms: dict[str, torch.Tensor] = {}
        for k in range(len(STAGES)):
            matched = [match(b, t, STAGES[k][0]) for b, t in zip(boxes, targets, strict=True)]
            if k == 0:
                positive, negative = self.sampler([labels for labels, _ in matched])
                chosen = [torch.where(p | n)[0] for p, n in zip(positive, negative, strict=True)]
                boxes = [b[c] for b, c in zip(boxes, chosen, strict=True)]
                matched = [(labels[c], truth[c]) for (labels, truth), c in zip(matched, chosen, strict=True)]
            labels, truth = (torch.cat(x) for x in zip(*matched, strict=True))
            logits, deltas = self.stage(k, features, boxes)
            goal = self.coders[k].encode([truth], [torch.cat(boxes)])[0]
            count = max(len(labels), 1)
            found = labels > 0
            terms[f"cls{k + 1}"] = F.cross_entropy(logits.float(), labels, reduction="sum") / count
            terms[f"box{k + 1}"] = F.l1_loss(deltas.float()[found], goal[found], reduction="sum") / count
            if k + 1 < len(STAGES):
                refined = self.refine(k, deltas, boxes, size)
                boxes = [b[remove_small_boxes(b, 1e-3)] for b in refined]
        return terms


def match(boxes: torch.Tensor, target: Targets, iou: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Label (N,) and box (N, 4) that each box should have: of the ground truth it overlaps most, if by `iou`.

    Where two findings share a box, the first of them is taken: a softmax has one class a region.
    """
    if not len(target.boxes) or not len(boxes):
        return boxes.new_zeros(len(boxes), dtype=torch.long), boxes.detach()
    overlap, index = box_iou(target.boxes, boxes).max(0)
    return torch.where(overlap >= iou, target.classes[index] + 1, 0), target.boxes[index]


class CascadeRCNN(DetectionNetwork):
    """Backbone, proposals and three stages."""

    def __init__(
        self, classes: int, channels: int = 3, backbone: str = "resnet50", hidden: int = 1024, samples: int = SAMPLES
    ) -> None:
        """Build with random weights.

        Args:
            classes: number of classes, without background.
            channels: input channels.
            backbone: a ResNet of torchvision.
            hidden: width of the stages' hidden layers.
            samples: regions an image in training.
        """
        super().__init__()
        norm = partial(nn.GroupNorm, GROUPS)
        self.backbone = resnet_fpn_backbone(backbone_name=backbone, weights=None, norm_layer=norm, trainable_layers=5)
        if channels != 3:
            stem = self.backbone.body.conv1
            self.backbone.body.conv1 = nn.Conv2d(channels, stem.out_channels, 7, stride=2, padding=3, bias=False)
        sizes, ratios = ((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5
        self.rpn = RegionProposalNetwork(
            AnchorGenerator(sizes, ratios),
            RPNHead(CHANNELS, 3),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2000, "testing": 1000},
            post_nms_top_n={"training": 1000, "testing": 1000},
            nms_thresh=0.7,
        )
        self.heads = CascadeHeads(classes, hidden, samples)

    def propose(
        self, images: torch.Tensor, targets: list[Targets] | None = None
    ) -> tuple[list[torch.Tensor], Boxes, dict[str, torch.Tensor]]:
        """Maps that regions are pooled from, proposals, and the proposals' loss in training."""
        size = tuple(images.shape[-2:])
        features: OrderedDict[str, torch.Tensor] = self.backbone((images - 0.5) / 0.25)
        known = None if targets is None else [{"boxes": t.boxes} for t in targets]
        with torch.autocast(images.device.type, enabled=False):  # half a mantissa is a quarter of a pixel at 384
            exact = OrderedDict((name, feature.float()) for name, feature in features.items())
            proposals, terms = self.rpn(ImageList(images, [size] * len(images)), exact, known)
        terms = {name.removeprefix("loss_"): value for name, value in terms.items()}
        return list(features.values())[: len(STRIDES)], [p.detach() for p in proposals], terms

    def forward(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Boxes (N, 4) and probabilities (N, classes) of each image, before suppression."""
        features, proposals, _ = self.propose(images)
        return self.heads(features, proposals, tuple(images.shape[-2:]))

    def loss(self, images: torch.Tensor, targets: list[Targets]) -> dict[str, torch.Tensor]:
        """Two terms of the proposals and two a stage."""
        features, proposals, terms = self.propose(images, targets)
        return terms | self.heads.loss(features, proposals, targets, tuple(images.shape[-2:]))

    def found(self, output: list[tuple[torch.Tensor, torch.Tensor]]) -> list[Found]:
        """Class by class suppression at `NMS_IOU`."""
        return [suppress(boxes, probabilities) for boxes, probabilities in output]


def suppress(boxes: torch.Tensor, probabilities: torch.Tensor) -> Found:
    """The best findings of one image after hard suppression within each class, from (N, 4) and (N, classes)."""
    region, classes = torch.where(probabilities > MIN_SCORE)
    boxes, scores = boxes[region], probabilities[region, classes]
    keep = batched_nms(boxes, scores, classes, NMS_IOU)[:MAX_FINDINGS]
    return Found(boxes[keep].cpu().numpy(), classes[keep].cpu().numpy(), scores[keep].clamp(0, 1).cpu().numpy())


class CascadeFamily(TorchFamily):
    """Cascade R-CNN on torchvision, which the package needs anyway."""

    def build(self, entry: ModelEntry, data: CellData, budget: Budget) -> CascadeRCNN:
        """Build with the arguments of `CascadeRCNN` that the row names."""
        return CascadeRCNN(len(data.names), data.channels, **entry.build)


FAMILY = CascadeFamily()

ROWS = (
    ModelEntry(
        "cascade-rcnn-r50",
        "cascade_rcnn",
        {"backbone": "resnet50"},
        recipe={"lr0": 3e-4},
        paper="Detectron2",
        note="Cascade R-CNN R50-FPN with Detectron2's settings on torchvision's parts, from scratch with group "
        "normalisation; of findings that share a box it learns one class.",
    ),
)
