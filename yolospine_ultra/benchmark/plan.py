"""Which trainings a sweep has, and in which order: seeds outermost, so that an interrupted sweep is a balanced one.

Written for this project.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from yolospine_ultra.benchmark.family import ModelEntry
from yolospine_ultra.benchmark.records import cell_name


@dataclass(frozen=True)
class Job:
    """One training, and the rows that are evaluated with its weights.

    Attributes:
        models: names of the rows; they differ in nothing but what they do when predicting.
        seed: of the training.
        fold: that is evaluated, None for the val split.
    """

    models: tuple[str, ...]
    seed: int
    fold: int | None

    @property
    def name(self) -> str:
        """Name of its folder, that of its first cell."""
        return self.cells[0]

    @property
    def cells(self) -> tuple[str, ...]:
        """Its cells, one a row."""
        return tuple(cell_name(m, self.seed, self.fold) for m in self.models)


def share_trainings(entries: Sequence[ModelEntry]) -> list[tuple[str, ...]]:
    """Names of the rows that one training serves, in the order of their first."""
    groups: dict[str, list[str]] = {}
    for e in entries:
        key = json.dumps([e.family, e.build, e.recipe], sort_keys=True)
        groups.setdefault(key, []).append(e.name)
    return [tuple(g) for g in groups.values()]


def make_plan(entries: Sequence[ModelEntry], seeds: Sequence[int], folds: int | None) -> list[Job]:
    """Every training of a sweep: for each seed, for each fold, every model.

    Args:
        entries: the rows.
        seeds: of the trainings.
        folds: number of folds, None for none.
    """
    numbers = [None] if folds is None else list(range(folds))
    groups = share_trainings(entries)
    return [Job(models, seed, fold) for seed in seeds for fold in numbers for models in groups]
