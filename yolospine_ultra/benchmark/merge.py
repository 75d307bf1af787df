"""Tables of several sweeps of one protocol, seen as one: more seeds, more models or folds of another day or machine.

Written for this project. Each sweep stays as it is, with tables of its own; the cells' records keep where each was
trained. What was measured of the machine (seconds, memory) is averaged with the rest, so that it means little where
machines differ; latency is left out.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from yolospine_ultra.benchmark.records import (
    DONE,
    Sweep,
    predictions_file,
    read_records,
    read_sweep,
    write_sweep,
)
from yolospine_ultra.benchmark.summary import write_tables
from yolospine_ultra.evaluate.intervals import RESAMPLES

TABLES = ("summary.csv", "comparisons.csv", "ranks.csv")


def merge_tables(folders: Sequence[Path], out: Path, resamples: int = RESAMPLES) -> int:
    """Write `TABLES` of several sweeps into a folder.

    Args:
        folders: of the sweeps, with the `predictions.json` of their cells.
        out: where the tables go; made where it is not there.
        resamples: of patients and seeds.

    Returns:
        How many finished cells the tables are made of.

    Raises:
        FileNotFoundError: a file of a sweep or the predictions of a cell are missing; nothing has been written then.
        ValueError: fewer than two sweeps, sweeps of two protocols, a cell that two of them have, or `out` has a sweep,
            whose own tables would be lost; nothing has been written then.
    """
    if (out / "sweep.json").exists():
        raise ValueError(f"{out} holds a sweep with tables of its own; choose another folder for those of several.")
    whole = merged_protocol(folders)
    owners = _owners(folders)
    with TemporaryDirectory() as name:
        made = Path(name)
        write_sweep(made, whole)
        shutil.copy(folders[0] / "ground_truth.json", made)
        for cell, folder in owners.items():
            shutil.copytree(folder / "cells" / cell, made / "cells" / cell)
        write_tables(made, resamples)
        out.mkdir(parents=True, exist_ok=True)
        for table in TABLES:
            shutil.copy(made / table, out)
    return len(owners)


def merged_protocol(folders: Sequence[Path]) -> Sweep:
    """The protocol of all: that of the first, with the models of all.

    Raises:
        FileNotFoundError, ValueError: see `merge_tables`.
    """
    if len(folders) < 2:
        raise ValueError(f"{len(folders)} sweep given; expected two or more, whose tables are to be made together.")
    first = read_sweep(folders[0])
    truth = (folders[0] / "ground_truth.json").read_bytes()
    models = dict(first.models)
    for folder in folders[1:]:
        other = read_sweep(folder)
        found = dataclasses.replace(first, models=models).differences(other, elsewhere=True)
        if not found and (folder / "ground_truth.json").read_bytes() != truth:
            found = ["ground_truth.json: of other images, patients or folds"]
        if found:
            raise ValueError(
                f"{folder} is not of the protocol of {folders[0]}; expected the same of both: {'; '.join(found)}."
            )
        models |= other.models
    return dataclasses.replace(first, models=models)


def _owners(folders: Sequence[Path]) -> dict[str, Path]:
    """Which sweep has each finished cell."""
    owners: dict[str, Path] = {}
    for folder in folders:
        for cell in (r.cell for r in read_records(folder) if r.status == DONE):
            if cell in owners:
                raise ValueError(f"{owners[cell]} and {folder} both have {cell}; expected each model and seed once.")
            predictions_file(folder, cell)
            owners[cell] = folder
    return owners
