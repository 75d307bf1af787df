"""Tables of several sweeps of one protocol, seen as one: more seeds, more models or folds of another day or machine.

Written for this project. Each sweep stays as it is, with tables of its own; the records of its cells keep where each
was trained. What is the machine's (seconds, memory, latency) is in no common table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yolospine_ultra.benchmark.family import ModelEntry
from yolospine_ultra.benchmark.plan import share_trainings
from yolospine_ultra.benchmark.records import (
    DONE,
    Record,
    Sweep,
    predictions_file,
    read_records,
    read_sweep,
    read_truth,
)
from yolospine_ultra.benchmark.summary import comparison_rows, complete_seeds, save_tables, summary_rows
from yolospine_ultra.evaluate.intervals import RESAMPLES


@dataclass(frozen=True)
class Merged:
    """What tables of several sweeps were made of.

    Attributes:
        cells: how many, those of seeds of which every fold is done.
        differences: of the sweeps after the first from it, in what does not count as protocol: machine and versions.
        common: seeds that all models have, but those that have none; they are ranked over these alone.
    """

    cells: int
    differences: list[str]
    common: list[int]


def merge_tables(folders: Sequence[Path], out: Path, resamples: int = RESAMPLES) -> Merged:
    """Write summary, comparisons and ranks of several sweeps into a folder.

    The same sweeps in another order make the same means; where it changes the order of the models, intervals are drawn
    with other random numbers.

    Args:
        folders: of the sweeps, with the `predictions.json` of their cells.
        out: where the tables go; made where it is not there.
        resamples: of patients and seeds.

    Raises:
        FileNotFoundError: a file of a sweep or the predictions of a cell are missing; nothing has been written then.
        ValueError: fewer than two sweeps, one with no finished cell, sweeps of two protocols, a training that two of
            them have, or `out` is a file or lies in a sweep; nothing has been written then.
    """
    _check_out(out)
    whole, differences = merged_protocol(folders)
    records, owners = _collect(folders, whole)
    seeds = complete_seeds(whole, records)
    out.mkdir(parents=True, exist_ok=True)  # before minutes of work, where it cannot be made
    compared, ranked = comparison_rows(
        whole, read_truth(folders[0]), seeds, lambda cell: predictions_file(owners[cell], cell), resamples
    )
    save_tables(out, summary_rows(whole, seeds, {}), compared, ranked)
    found = [set(s) for s in seeds.values() if s]
    common = set.intersection(*found) if found else set()
    return Merged(sum(len(rs) for s in seeds.values() for rs in s.values()), differences, sorted(common))


def _collect(folders: Sequence[Path], whole: Sweep) -> tuple[list[Record], dict[str, Path]]:
    """Records of all finished cells, without what is the machine's, and which sweep has each."""
    groups = share_trainings(list(whole.models.values()))
    group_of = {model: i for i, group in enumerate(groups) for model in group}
    trained: dict[tuple[int, int, int | None], Path] = {}
    records, owners = [], {}
    for folder in folders:
        done = [r for r in read_records(folder) if r.status == DONE and r.model in whole.models]
        if not done:
            raise ValueError(f"{folder} has no finished cell; run its sweep with --resume, or leave it out.")
        for r in done:
            other = trained.setdefault((group_of[r.model], r.seed, r.fold), folder)
            if r.cell in owners or other != folder:
                raise ValueError(
                    f"{other} and {folder} both have the training of {r.cell}; expected each in one sweep "
                    f"(rows of one training: {', '.join(groups[group_of[r.model]])})."
                )
            predictions_file(folder, r.cell)
            owners[r.cell] = folder
            records.append(dataclasses.replace(r, seconds={}, memory={}))
    return records, owners


def _check_out(out: Path) -> None:
    """Refuse what would replace a sweep's own tables, or is no folder."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; expected a folder for the tables.")
    for folder in (out.resolve(), *out.resolve().parents):
        if (folder / "sweep.json").exists():
            raise ValueError(f"{folder} holds a sweep with tables of its own; choose a folder outside of it.")


def merged_protocol(folders: Sequence[Path]) -> tuple[Sweep, list[str]]:
    """The protocol of all sweeps, that of the first with the models of all; and what of the machines differs from it.

    Raises:
        FileNotFoundError, ValueError: see `merge_tables`.
    """
    if len(folders) < 2:
        raise ValueError(f"{len(folders)} sweep given; expected two or more, whose tables are to be made together.")
    whole, truth = read_sweep(folders[0]), read_truth(folders[0])
    notes = []
    for folder in folders[1:]:
        other, others = read_sweep(folder), read_truth(folder)
        found = whole.differences(other, elsewhere=True)
        names = [[image.name for image in t.images] for t in (truth, others)]
        if (truth.patients, truth.folds, names[0]) != (others.patients, others.folds, names[1]):
            found.append("ground_truth.json: other images, patients or folds")
        if found:
            raise ValueError(
                f"{folder} is not of the protocol of {folders[0]}; expected the same of both: {'; '.join(found)}."
            )
        notes += [f"{folder}: {d}" for d in (*whole.differences(other), *_commits(whole, other))]
        whole = dataclasses.replace(whole, models={**whole.models, **_added(whole, other)})
    return whole, notes


def _added(whole: Sweep, other: Sweep) -> dict[str, ModelEntry]:
    """Models that only the other has."""
    return {name: entry for name, entry in other.models.items() if name not in whole.models}


def _commits(whole: Sweep, other: Sweep) -> list[str]:
    """The commits, where they differ."""
    return [] if whole.commit == other.commit else [f"commit: {whole.commit or '?'}, not {other.commit or '?'}"]
