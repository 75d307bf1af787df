"""A network that is plain PyTorch: its interface, and detecting with it in files.

Written for this project. A network says what its loss is and which boxes it found; `families.training` trains any.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from ultralytics.utils import ops

from yolospine_ultra.benchmark.families.data import Targets, read_input
from yolospine_ultra.benchmark.family import MAX_FINDINGS, MIN_SCORE
from yolospine_ultra.evaluate.findings import ImageFindings


@dataclass(frozen=True)
class Found:
    """What a network found in one input.

    Attributes:
        boxes: (N, 4) x1 y1 x2 y2 in pixels of the input.
        classes: (N,) from 0.
        scores: (N,) in 0..1.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


class DetectionNetwork(nn.Module, ABC):
    """A network with its loss and its way to boxes. `forward` takes images (B, C, S, S) in 0..1."""

    @abstractmethod
    def loss(self, images: torch.Tensor, targets: list[Targets]) -> dict[str, torch.Tensor]:
        """Terms of the training loss, scalars that are added up; finite also for images without targets."""

    @abstractmethod
    def found(self, output: object) -> list[Found]:
        """What was found in each image, from the output of `forward` in evaluation mode."""


class TorchDetector:
    """Detects with a network in evaluation mode, one image file after the other."""

    def __init__(self, module: DetectionNetwork, imgsz: int, channels: int, device: torch.device) -> None:
        self.module = module.to(device).eval()
        self.imgsz, self.channels, self.device = imgsz, channels, device

    @torch.inference_mode()
    def detect(self, images: Sequence[Path]) -> list[ImageFindings]:
        """See `benchmark.family.Detector`.

        Raises:
            ValueError: a file that cannot be read as an image.
        """
        return [self._detect(Path(file)) for file in images]

    def _detect(self, file: Path) -> ImageFindings:
        """Findings of one file."""
        inputs, shape = read_input(file, self.imgsz, self.channels)
        found = self.module.found(self.module(inputs.to(self.device)))[0]
        return to_findings(file.name, found, (self.imgsz, self.imgsz), shape)


def to_findings(name: str, found: Found, inner: tuple[int, int], outer: tuple[int, int]) -> ImageFindings:
    """Findings in pixels of the file, best first, at most `MAX_FINDINGS`, scores above `MIN_SCORE`.

    Args:
        name: of the image.
        found: in pixels of a letterboxed input.
        inner: height and width of the input.
        outer: height and width of the file's image. Boxes are clipped to it, and left out where nothing remains.
    """
    boxes = ops.scale_boxes(inner, np.array(found.boxes, dtype=np.float64).reshape(-1, 4), outer)
    usable = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & (found.scores > MIN_SCORE)
    order = np.flatnonzero(usable)
    order = order[np.argsort(-found.scores[order], kind="stable")][:MAX_FINDINGS]
    return ImageFindings(name, boxes[order], found.classes[order], found.scores[order])


def one_device(name: str) -> torch.device:
    """The torch device of an Ultralytics device name.

    Raises:
        ValueError: several devices, where one is used.
    """
    if "," in name:
        raise ValueError(f"device '{name}' names several; expected one device, such as '0' or 'cpu'.")
    return torch.device(f"cuda:{name}" if name.isdecimal() else name)
