"""The training loop of the families that are plain PyTorch.

Written for this project, after the host's policy wherever it has one, so that rows of the benchmark differ by model:
linear warm-up, then the learning rate falls to `lrf` of its start; gradient norm clipped at 10; a moving average of the
weights is what is kept; mosaic off in the last `close_mosaic` epochs; half precision on CUDA. What differs from the
host: always AdamW, and a step after every batch (the host gathers 64 images first).
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER
from ultralytics.utils.torch_utils import ModelEMA, init_seeds, unset_deterministic

from yolospine_ultra.benchmark.families.data import AUGMENTATION, CellImages, loader, unpack
from yolospine_ultra.benchmark.families.network import DetectionNetwork
from yolospine_ultra.benchmark.family import Budget, CellData

CLIP = 10.0  # largest norm of the gradient, as in the host


@dataclass(frozen=True)
class Recipe:
    """What the loop takes from a row's recipe, in Ultralytics' names.

    Attributes:
        lr0: learning rate after the warm-up.
        lrf: last learning rate, as a share of `lr0`.
        cos_lr: the rate falls along a cosine instead of a line.
        momentum: first beta of AdamW.
        weight_decay: of matrices and kernels; biases and norms have none.
        warmup_epochs: epochs of linear warm-up; at most a quarter of the training.
        close_mosaic: last epochs without mosaic.
        amp: half precision on CUDA.
        augmentation: the values of `data.AUGMENTATION` that are given.
    """

    lr0: float = 1e-3
    lrf: float = 0.01
    cos_lr: bool = True
    momentum: float = 0.9
    weight_decay: float = 0.01
    warmup_epochs: float = 3.0
    close_mosaic: int = 10
    amp: bool = True
    augmentation: dict[str, Any] = field(default_factory=dict)


def read_recipe(given: Mapping[str, Any]) -> Recipe:
    """The recipe of a row, from the training arguments of `family.settings`.

    Arguments that this loop has no use for, such as the gains of a YOLO's loss, are named in the log.

    Raises:
        ValueError: a name that Ultralytics does not know either, or another optimizer than AdamW.
    """
    unknown = sorted(given.keys() - DEFAULT_CFG_DICT.keys())
    if unknown:
        raise ValueError(f"The recipe has {', '.join(unknown)}; expected training arguments of Ultralytics.")
    if given.get("optimizer", "AdamW") not in ("AdamW", "auto"):
        raise ValueError(f"The recipe's optimizer is {given['optimizer']}; this family's training has AdamW only.")
    own = {f.name for f in fields(Recipe)} - {"augmentation"}
    unused = sorted(given.keys() - own - AUGMENTATION - {"optimizer"})
    if unused:
        LOGGER.info(f"Not used by this family's training: {', '.join(unused)}.")
    return Recipe(
        **{k: v for k, v in given.items() if k in own},
        augmentation={k: v for k, v in given.items() if k in AUGMENTATION},
    )


@contextmanager
def repeatable(budget: Budget) -> Iterator[None]:
    """Seed everything and ask torch for deterministic algorithms; the thread count is the budget's meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(budget.threads)
    init_seeds(budget.seed, deterministic=True)
    try:
        yield
    finally:
        unset_deterministic()
        torch.set_num_threads(threads)


def fit(
    network: DetectionNetwork, data: CellData, budget: Budget, recipe: Recipe, device: torch.device, folder: Path
) -> nn.Module:
    """Train `network` in place.

    Args:
        network: on `device`.
        data: the cell's files.
        budget: epochs, batch, seed.
        recipe: of the row.
        device: where to train.
        folder: gets ``results.csv``: epoch, seconds since the start, learning rate, mean of every loss term.

    Returns:
        The moving average of the weights, in evaluation mode.

    Raises:
        FloatingPointError: a loss that is not finite.
    """
    images = CellImages(data, budget, recipe.augmentation)
    batches = loader(images, budget)
    groups = parameter_groups(network, recipe.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr0, betas=(recipe.momentum, 0.999))
    average = ModelEMA(network)
    half = recipe.amp and device.type == "cuda"
    scaler = torch.amp.GradScaler(device.type, enabled=half)
    steps, done, start = budget.epochs * len(batches), 0, time.perf_counter()
    warmup = min(round(recipe.warmup_epochs * len(batches)), steps // 4)
    network.train()
    with open(folder / "results.csv", "w", newline="", encoding="utf-8") as file:
        table: csv.DictWriter | None = None
        for epoch in range(budget.epochs):
            if epoch == budget.epochs - recipe.close_mosaic:
                images.plain()
            sums: dict[str, float] = {}
            for batch in batches:
                rate = recipe.lr0 * schedule(done, steps, warmup, recipe)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                pictures, targets = unpack(batch, device)
                with torch.autocast(device.type, enabled=half):
                    terms = network.loss(pictures, targets)
                step(network, optimizer, scaler, terms, epoch)
                average.update(network)
                done += 1
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + float(value.detach()) / len(batches)
            row = {"epoch": epoch + 1, "time": round(time.perf_counter() - start, 3), "lr": rate} | sums
            if table is None:
                table = csv.DictWriter(file, row.keys())
                table.writeheader()
            table.writerow(row)
            file.flush()
            LOGGER.info(", ".join(f"{k} {v:.4g}" for k, v in row.items()))
    return average.ema


def step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    terms: Mapping[str, torch.Tensor],
    epoch: int,
) -> None:
    """One step down the sum of the loss terms.

    Raises:
        FloatingPointError: the sum is not finite.
    """
    total = sum(terms.values())
    if not torch.isfinite(total):
        shown = ", ".join(f"{k} {float(v.detach()):g}" for k, v in terms.items())
        raise FloatingPointError(f"Loss not finite in epoch {epoch + 1} ({shown}); lower `lr0` in the row's recipe.")
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(total).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(network.parameters(), CLIP)
    scaler.step(optimizer)
    scaler.update()


def schedule(done: int, steps: int, warmup: int, recipe: Recipe) -> float:
    """Factor of the learning rate for the step after `done` of `steps`: linear up over `warmup`, then down to `lrf`."""
    if done < warmup:
        return (done + 1) / (warmup + 1)
    left = 1 - (done - warmup) / max(steps - warmup, 1)
    share = (1 - math.cos(math.pi * left)) / 2 if recipe.cos_lr else left
    return recipe.lrf + (1 - recipe.lrf) * share


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters with and, for those of one dimension, without weight decay."""
    trained = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
