"""What the families that are plain PyTorch share: a network's interface, training a cell, and detecting in files.

Written for this project. A family adds one method, `build`; a network says what its loss is and which boxes it found.
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
from yolospine_ultra.benchmark.families.training import fit, read_recipe, repeatable
from yolospine_ultra.benchmark.families.weights import read_weights, save_weights
from yolospine_ultra.benchmark.family import MAX_FINDINGS, MIN_SCORE, Budget, CellData, ModelEntry, settings
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


class TorchFamily(ABC):
    """A `benchmark.family.Family` of `DetectionNetwork`s. Subclasses give `build`, and `extra` and `packages`."""

    extra = ""
    packages: tuple[str, ...] = ()

    @abstractmethod
    def build(self, entry: ModelEntry, data: CellData, budget: Budget) -> DetectionNetwork:
        """The untrained network, without weights from anywhere."""

    def train(self, entry: ModelEntry, data: CellData, budget: Budget, folder: Path) -> Path:
        """Train from scratch and return ``folder/last.pt``, see `benchmark.family.Family` and `training.fit`.

        Raises:
            ValueError: an argument of the recipe that is none of Ultralytics', several devices, or a bad input size.
            FloatingPointError: the loss is no longer finite.
        """
        recipe, device = read_recipe(settings(entry, budget)), one_device(budget.device)
        with repeatable(budget):
            network = self.build(entry, data, budget).to(device)
            averaged = fit(network, data, budget, recipe, device, folder)
        return save_weights(folder / "last.pt", averaged.state_dict(), entry, data, budget)

    def load(self, entry: ModelEntry, weights: Path | None, data: CellData, budget: Budget) -> TorchDetector:
        """A detector, see `benchmark.family.Family`. Loading runs no code from the file.

        Raises:
            ValueError: the weights cannot be read, or are of another model, input size or set of classes.
        """
        torch.set_num_threads(budget.threads)
        device = one_device(budget.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(budget.seed)
            network = self.build(entry, data, budget)
        if weights is not None:
            network.load_state_dict(read_weights(weights, entry, data, budget))
        return TorchDetector(network, budget.imgsz, data.channels, device)


def one_device(name: str) -> torch.device:
    """The torch device of an Ultralytics device name.

    Raises:
        ValueError: several devices; these networks are trained on one.
    """
    if "," in name:
        raise ValueError(f"device '{name}' names several; this family trains on one device, such as '0' or 'cpu'.")
    return torch.device(f"cuda:{name}" if name.isdecimal() else name)
