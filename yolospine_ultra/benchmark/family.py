"""What the benchmark asks of a family of detectors: train one cell, load what came out, find things in image files.

Every row of the paper's tables is a family (Ultralytics, RT-DETR, segmentation networks, two-stage detectors) with a
model of it. A family is an object with the two methods of `Family`; it never measures itself: evaluation, timing and
records are the benchmark's, the same for all of them.

Source: own; the list of models is that of YOLOspine (Masood and Taj 2026), tables 'Internal Dataset' and 'Training &
Computational Complexity'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from yolospine_ultra.evaluate.findings import ImageFindings


@dataclass(frozen=True)
class CellData:
    """The files of one cell, the same for every family.

    Attributes:
        yaml: an Ultralytics dataset YAML of exactly these lists, in the cell's folder.
        train: image files to train on; their labels lie where Ultralytics looks for them (``labels`` for ``images``).
        val: image files to evaluate on.
        names: class names by index.
        channels: image channels, 1 or 3.
    """

    yaml: Path
    train: tuple[Path, ...]
    val: tuple[Path, ...]
    names: dict[int, str]
    channels: int = 3


@dataclass(frozen=True)
class Budget:
    """What is the same for every model of a sweep, and what a seed changes.

    Attributes:
        epochs: passes over the training images.
        imgsz: side of the square input, pixels.
        batch: images a step.
        device: as Ultralytics takes it, "cpu", "0" or "0,1".
        seed: of everything random.
        threads: CPU threads of torch.
        workers: processes that load images.
    """

    epochs: int
    imgsz: int
    batch: int
    device: str
    seed: int
    threads: int = 1
    workers: int = 0


@dataclass(frozen=True)
class ModelEntry:
    """One row of the benchmark; adding a model is adding one of these to `benchmark.zoo`.

    Attributes:
        name: what `--models` takes, such as "yolo11n".
        family: key of `benchmark.zoo.FAMILIES`.
        build: what the family needs to build the model, such as ``{"yaml": "yolo11n.yaml"}``.
        recipe: training arguments that differ from the benchmark's common ones; the tables print them.
        paper: name of the model's row in the paper's tables, "" where it has none.
        note: what a reader must know about the row, such as a deviation from the published network.
    """

    name: str
    family: str
    build: dict[str, Any]
    recipe: dict[str, Any] = field(default_factory=dict)
    paper: str = ""
    note: str = ""


class Detector(Protocol):
    """A trained model, from image files to findings.

    Attributes:
        module: the network, for parameters, operations and memory.
    """

    module: nn.Module

    def detect(self, images: Sequence[Path]) -> list[ImageFindings]:
        """Findings of each image in pixels of the file, with scores, best first; at most 300 an image, scores > 0.001.

        This is the whole call that is timed: reading, pre-processing, network, post-processing.
        """


class Family(Protocol):
    """How the models of one library are trained and used.

    Attributes:
        extra: the extra of `setup.cfg` that the family needs, "" for none.
        packages: modules that must be importable; where one is missing the benchmark skips the rows and says why.
    """

    extra: str
    packages: tuple[str, ...]

    def train(self, entry: ModelEntry, data: CellData, budget: Budget, folder: Path) -> Path:
        """Train from scratch; return the weights after the last epoch. Writes into `folder` only."""

    def load(self, entry: ModelEntry, weights: Path | None, data: CellData, budget: Budget) -> Detector:
        """A detector from weights; untrained where `weights` is None, which is enough to count and to time it."""
