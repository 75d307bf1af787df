"""Segmentation networks as detectors: UNet++, Swin-UNet, TransUNet and a U-Net on PVTv2.

Source: YOLOspine (Masood and Taj 2026) compares with three such networks, from segmentation-models-pytorch, without
saying how their masks became boxes. Here masks are made of the boxes, one sigmoid map a class, so that findings of two
classes may overlap; a finding is a connected component of its class's map, with the mean foreground probability as its
score. What no such network can do: keep two findings of ONE class apart that touch, and give a score below `THRESHOLD`.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from yolospine_ultra.benchmark.families.data import Targets
from yolospine_ultra.benchmark.families.network import DetectionNetwork, Found
from yolospine_ultra.benchmark.families.torch_family import TorchFamily
from yolospine_ultra.benchmark.families.transunet import TransUNet
from yolospine_ultra.benchmark.family import Budget, CellData, ModelEntry

THRESHOLD = 0.5  # least probability of a foreground pixel
STRIDE = 32  # the input size is a multiple


def masks_from_boxes(targets: list[Targets], classes: int, size: int) -> torch.Tensor:
    """Filled boxes, (B, classes, size, size) of 0 and 1. Edges are rounded to pixels; a box fills at least one."""
    masks = torch.zeros(len(targets), classes, size, size)
    for image, target in zip(masks, targets, strict=True):
        corners = target.boxes.round().long().clamp(0, size).tolist()
        for (x1, y1, x2, y2), c in zip(corners, target.classes.tolist(), strict=True):
            x1, y1 = min(x1, size - 1), min(y1, size - 1)
            image[c, y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] = 1
    return masks.to(targets[0].boxes.device)


def boxes_from_maps(maps: np.ndarray) -> Found:
    """Connected components of each class's map, with the mean probability of their pixels as score.

    Args:
        maps: (classes, H, W) probabilities. Pixels above `THRESHOLD` that share an edge belong together.

    Returns:
        Boxes on the outer edges of the pixels, so that a filled box of whole pixels comes back as it was.
    """
    boxes, classes, scores = [np.zeros((0, 4))], [np.zeros(0, np.int64)], [np.zeros(0)]
    for c, probability in enumerate(maps):
        mask = (probability > THRESHOLD).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        x, y, w, h, area = stats[1:].T.astype(np.float64)  # the first is the background
        total = np.bincount(labels.ravel(), weights=probability.ravel(), minlength=count)[1:]
        boxes.append(np.stack([x, y, x + w, y + h], 1))
        classes.append(np.full(count - 1, c))
        scores.append(np.clip(total / area, 0, 1))
    return Found(np.concatenate(boxes), np.concatenate(classes), np.concatenate(scores))


class SegmentationDetector(DetectionNetwork):
    """A network that gives one map of logits a class, with its loss and its boxes."""

    def __init__(self, net: nn.Module, classes: int) -> None:
        super().__init__()
        self.net, self.classes = net, classes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes, S, S)."""
        return self.net(images)

    def loss(self, images: torch.Tensor, targets: list[Targets]) -> dict[str, torch.Tensor]:
        """Binary cross-entropy of the pixels, and one minus the Dice overlap of each class in the batch."""
        logits = self(images).float()
        masks = masks_from_boxes(targets, self.classes, images.shape[-1])
        return {"bce": F.binary_cross_entropy_with_logits(logits, masks), "dice": dice_loss(logits, masks)}

    def found(self, output: torch.Tensor) -> list[Found]:
        """See `boxes_from_maps`."""
        return [boxes_from_maps(maps) for maps in output.float().sigmoid().cpu().numpy()]


def dice_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Mean of 1 - Dice over the classes that the batch shows; 0 where it shows none.

    A class that is absent has no overlap to speak of; the cross-entropy keeps its map empty.
    """
    probability = logits.sigmoid()
    over = (0, 2, 3)
    size, shared = masks.sum(over), (probability * masks).sum(over)
    dice = 2 * shared / (probability.sum(over) + size).clamp(min=1e-6)
    shown = size > 0
    return ((1 - dice) * shown).sum() / shown.sum().clamp(min=1)


def make_network(build: dict[str, Any], classes: int, imgsz: int, channels: int) -> nn.Module:
    """A segmentation network with random weights.

    Args:
        build: ``network``, a class of segmentation-models-pytorch such as "UnetPlusPlus", with its ``encoder``; or
            "TransUNet", with ``encoder`` a hybrid ViT of timm. ``arguments`` are further ones of either; ``sized`` says
            that the encoder is made for one input size.
        classes: maps.
        imgsz: side of the input.
        channels: input channels.

    Raises:
        ValueError: the input size is no multiple of `STRIDE`.
    """
    if imgsz % STRIDE:
        raise ValueError(f"imgsz is {imgsz}; segmentation networks take multiples of {STRIDE}.")
    arguments = dict(build.get("arguments", {}))
    if build["network"] == "TransUNet":
        return TransUNet(classes, imgsz, channels, build["encoder"], arguments)
    import segmentation_models_pytorch as smp

    if build.get("sized"):
        arguments["img_size"] = imgsz
    network = getattr(smp, build["network"])
    return network(build["encoder"], encoder_weights=None, in_channels=channels, classes=classes, **arguments)


class SegmentationFamily(TorchFamily):
    """Segmentation networks of segmentation-models-pytorch and timm."""

    extra = "bench"
    packages = ("segmentation_models_pytorch", "timm")

    def build(self, entry: ModelEntry, data: CellData, budget: Budget) -> SegmentationDetector:
        """See `make_network`."""
        classes = len(data.names)
        return SegmentationDetector(make_network(entry.build, classes, budget.imgsz, data.channels), classes)


FAMILY = SegmentationFamily()

_MASKS = "Masks made of the boxes, boxes of connected components; scores are above 0.5 by construction."
ROWS = (
    ModelEntry(
        "unetpp-r50",
        "segmentation",
        {"network": "UnetPlusPlus", "encoder": "resnet50"},
        paper="UNet++",
        note=_MASKS,
    ),
    ModelEntry(
        "swin-unet",
        "segmentation",
        {"network": "Unet", "encoder": "tu-swin_tiny_patch4_window7_224", "sized": True},
        recipe={"lr0": 3e-4},
        paper="SwinUNet",
        note=f"{_MASKS} As in the paper, a Swin-T encoder with a convolutional decoder (31.63 M parameters); not the "
        "pure transformer of Cao et al. 2021.",
    ),
    ModelEntry(
        "transunet",
        "segmentation",
        {"network": "TransUNet", "encoder": "vit_base_r50_s16_384"},
        recipe={"lr0": 3e-4},
        note=f"{_MASKS} R50-ViT-B/16 as in Chen et al. 2021. The paper's row of this name is another network, see "
        "pvtv2-unet.",
    ),
    ModelEntry(
        "pvtv2-unet",
        "segmentation",
        {"network": "Unet", "encoder": "tu-pvt_v2_b2"},
        recipe={"lr0": 3e-4},
        paper="TransUNet",
        note=f"{_MASKS} A U-Net on PVTv2-B2, which is what the 28.13 M parameters of the paper's TransUNet are.",
    ),
)
