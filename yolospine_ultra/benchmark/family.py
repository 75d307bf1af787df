"""What the benchmark asks of a family of detectors: train one cell, load what came out, find things in image files.

Every row of the paper's tables is a family (Ultralytics, RT-DETR, segmentation networks, two-stage detectors) with a
model of it. A family is an object with the two methods of `Family`; it never measures itself: evaluation, timing and
records are the benchmark's, the same for all of them. Its file under `benchmark/families` ends with the object,
``FAMILY = MyFamily()``, and its rows, ``ROWS: tuple[ModelEntry, ...]``; `benchmark.zoo` lists the files. Importing such
a file must not import the packages it needs: those are imported inside `train` and `load`.

Each cell runs in a process of its own, in which the benchmark has set seeds and threads, and has switched downloads
off, before `train` is called.

Source: own; the list of models is that of YOLOspine (Masood and Taj 2026), tables 'Internal Dataset' and 'Training &
Computational Complexity'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from yolospine_ultra.evaluate.findings import ImageFindings

MIN_SCORE = 0.001  # of a finding, and
MAX_FINDINGS = 300  # an image, at most: as the host's `val` has it, the same for every model


@dataclass(frozen=True)
class CellData:
    """The files of one cell, the same for every family.

    The files are links in the cell's folder, so that caches which a library writes beside them never reach the user's
    data and never meet another cell's.

    Attributes:
        yaml: an Ultralytics dataset YAML of exactly these lists, in the cell's folder.
        train: image files to train on; their labels lie where Ultralytics looks for them (``labels`` for ``images``).
        val: image files to evaluate on. Training must not look at them: no selection, no early stopping.
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
        jobs: trainings at a time on the machine, which the seconds of each depend on.
        recipe: training arguments common to all models, in Ultralytics' names (optimizer, lr0, lrf, cos_lr,
            weight_decay, momentum, warmup_epochs, augmentation, amp); a family takes those that mean something to it.
            `settings` puts a model's own ones over them.
        init: weights to begin with, of the same model on other data; None for a training from scratch.
    """

    epochs: int
    imgsz: int
    batch: int
    device: str
    seed: int
    threads: int = 1
    workers: int = 0
    jobs: int = 1
    recipe: Mapping[str, Any] = field(default_factory=dict)
    init: Path | None = None


@dataclass(frozen=True)
class ModelEntry:
    """One row of the benchmark; adding a model is adding one of these to `benchmark.zoo`.

    Attributes:
        name: what `--models` takes, such as "yolo11n"; letters, digits, ``-``, ``.`` and ``+``, no ``_``.
        family: key of `benchmark.zoo.FAMILIES`, or "module:attribute" of a family of your own.
        build: what the family needs to build the model, such as ``{"yaml": "yolo11n.yaml"}``; JSON.
        scale: "n", "s", "m", "l", "x" or another letter, "" where the model has only one size.
        recipe: training arguments that differ from the benchmark's common ones; the tables print them; JSON.
        predict: arguments that differ when predicting, such as ``{"suppression": "hard"}``. Rows that differ in nothing
            but `name`, `predict`, `paper` and `note` share a training: one set of weights, evaluated once a row.
        paper: name of the model's row in the paper's tables, "" where it has none.
        note: what a reader must know about the row, such as a deviation from the published network.
    """

    name: str
    family: str
    build: dict[str, Any]
    scale: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    predict: dict[str, Any] = field(default_factory=dict)
    paper: str = ""
    note: str = ""


def settings(entry: ModelEntry, budget: Budget) -> dict[str, Any]:
    """Training arguments of a model: the common recipe under the model's own."""
    return {**budget.recipe, **entry.recipe}


class Detector(Protocol):
    """A trained model, from image files to findings.

    Attributes:
        module: the network, for parameters, operations and memory.
    """

    module: nn.Module

    def detect(self, images: Sequence[Path]) -> list[ImageFindings]:
        """Findings of each image, in their order, in pixels of the file; best first, at most 300, scores > 0.001.

        `ImageFindings.name` is the file's name. This is the whole call that is timed, with one image: reading,
        pre-processing, network, post-processing.
        """


class Family(Protocol):
    """How the models of one library are trained and used.

    Attributes:
        extra: the extra of `setup.cfg` that the family needs, "" for none.
        packages: modules that must be importable; where one is missing the benchmark skips the rows and says why, with
            the line that installs `extra`.
        install: optional; what to say in place of that line, for packages that pip does not find.
        begins_with_weights: optional; True where `train` begins with `Budget.init`. Others refuse a sweep that has it.
    """

    extra: str
    packages: tuple[str, ...]

    def train(self, entry: ModelEntry, data: CellData, budget: Budget, folder: Path) -> Path:
        """Train from scratch; return the weights after the last epoch. Writes into `folder` only, which exists."""

    def load(self, entry: ModelEntry, weights: Path | None, data: CellData, budget: Budget) -> Detector:
        """A detector from weights; untrained where `weights` is None, which is enough to count and to time it."""
