"""Weights of a cell on disk: the state of a network with what it belongs to, and nothing that runs code.

Written for this project.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from yolospine_ultra.benchmark.family import Budget, CellData, ModelEntry
from yolospine_ultra.data.atomic import AtomicPath


def save_weights(
    file: Path, state: Mapping[str, torch.Tensor], entry: ModelEntry, data: CellData, budget: Budget
) -> Path:
    """Write a network's state, whole or not at all, and return `file`."""
    buffer = io.BytesIO()
    torch.save({**_identity(entry, data, budget), "state": {k: v.cpu() for k, v in state.items()}}, buffer)
    AtomicPath(file).write_bytes(buffer.getvalue())
    return file


def read_weights(file: Path, entry: ModelEntry, data: CellData, budget: Budget) -> dict[str, torch.Tensor]:
    """The state that `save_weights` wrote.

    Raises:
        ValueError: the file is no such file, or belongs to another model, input size or set of classes.
    """
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are not its own
        raise ValueError(
            f"{file} cannot be read as weights ({error.__class__.__name__}); train the cell again."
        ) from error
    expected = _identity(entry, data, budget)
    found = {k: saved.get(k) for k in expected} if isinstance(saved, dict) else saved.__class__.__name__
    if found != expected:
        raise ValueError(f"{file} holds weights of {found}, expected {expected}; give the weights of that cell.")
    return saved["state"]


def _identity(entry: ModelEntry, data: CellData, budget: Budget) -> dict[str, Any]:
    """What the shapes of a network follow from."""
    names = [data.names[k] for k in sorted(data.names)]
    return {"build": entry.build, "imgsz": budget.imgsz, "channels": data.channels, "names": names}
