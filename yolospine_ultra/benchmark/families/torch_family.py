"""What the families that are plain PyTorch share: training a cell, and loading what came of it.

Written for this project. A family adds one method, `build`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import torch

from yolospine_ultra.benchmark.families.network import DetectionNetwork, TorchDetector, one_device
from yolospine_ultra.benchmark.families.training import fit, read_recipe, repeatable
from yolospine_ultra.benchmark.families.weights import read_weights, save_weights
from yolospine_ultra.benchmark.family import Budget, CellData, ModelEntry, settings


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
