"""Tables of a sweep from its records and predictions: `summary.csv`, `comparisons.csv`, `ranks.csv`.

A value of a seed is that of its cell, or, with folds, of all its folds: the AP of a class is averaged over the folds
that have ground truth of it and then over classes, agreement comes from the sum of the folds' confusion matrices,
everything else is averaged (Forman and Scholz 2010 say why scores of different folds are never ranked together). A seed
counts when all its folds are done. Means and intervals in `summary.csv` are over seeds (Student's t); differences in
`comparisons.csv` are between the means over the seeds that both models have, with the interval of a bootstrap
(percentiles) that draws patients, the same for all models, and seeds, the same for rows that share a training; ranks
are of the same resamples, among all models, over the seeds that all have.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from yolospine_ultra.benchmark.equal_positives import RECALLS, find_recalled, mean_recall
from yolospine_ultra.benchmark.metrics import AP_NAMES, agreement
from yolospine_ultra.benchmark.plan import share_trainings
from yolospine_ultra.benchmark.records import (
    DONE,
    Record,
    Sweep,
    Truth,
    predictions_file,
    read_records,
    read_sweep,
    read_truth,
)
from yolospine_ultra.benchmark.statistics import (
    match,
    mean_precision,
    ranks,
    seed_weights,
    t_interval,
)
from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.evaluate.dataset_files import ALL
from yolospine_ultra.evaluate.findings import read_predictions
from yolospine_ultra.evaluate.intervals import (
    RESAMPLES,
    mean_defined,
    percentile_bounds,
    percentile_interval,
    resample_weights,
)

SUMMARY = ("dataset", "model", "scale", "metric", "class", "n", "mean", "sd", "ci_low", "ci_high")
COMPARISONS = ("dataset", "a", "b", "metric", "diff", "ci_low", "ci_high")
RANKS = ("dataset", "model", "metric", "n", "mean_rank", "ci_low", "ci_high")
Rows = list[dict[str, Any]]
COMMON = "map50_95_common"  # without the classes of a handful of boxes
COMPARED = ("map50_95", "map50", COMMON, *RECALLS)  # of `statistics.mean_precision`, `equal_positives.mean_recall`


def write_tables(folder: Path, resamples: int = RESAMPLES) -> None:
    """Write the three tables of a sweep, from what is in its folder.

    Args:
        folder: of the sweep.
        resamples: of patients and seeds.

    Raises:
        FileNotFoundError: the predictions of a cell are missing; nothing has been written then.
    """
    sweep = read_sweep(folder)
    seeds = complete_seeds(sweep, read_records(folder))
    summary = summary_rows(sweep, seeds, read_latency(folder))
    compared, ranked = comparison_rows(
        sweep, read_truth(folder), seeds, lambda cell: predictions_file(folder, cell), resamples
    )
    save_tables(folder, summary, compared, ranked)


def save_tables(folder: Path, summary: Rows, compared: Rows, ranked: Rows) -> None:
    """Write the rows of the three tables into a folder, each file whole or not at all."""
    _write(folder / "summary.csv", SUMMARY, summary)
    _write(folder / "comparisons.csv", COMPARISONS, compared)
    _write(folder / "ranks.csv", RANKS, ranked)


def _write(file: Path, columns: Sequence[str], rows: Rows) -> None:
    """A CSV, whole or not at all; numbers to six digits, nothing for NaN."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: _cell(v) for k, v in row.items()})
    AtomicPath(file).write_bytes(text.getvalue().encode())


def _cell(value: Any) -> Any:
    """A value as it stands in a table."""
    if not isinstance(value, float):
        return value
    return f"{value:.6g}" if math.isfinite(value) else ""


def complete_seeds(sweep: Sweep, records: Sequence[Record]) -> dict[str, dict[int, list[Record]]]:
    """Of each model, in the order of the sweep, the seeds whose every fold is done, with their records by fold."""
    folds = 1 if sweep.folds is None else sweep.folds
    found: dict[str, dict[int, list[Record]]] = {m: {} for m in sweep.models}
    for r in sorted(records, key=lambda r: (r.seed, r.fold or 0)):
        if r.status == DONE and r.model in found:
            found[r.model].setdefault(r.seed, []).append(r)
    return {m: {s: rs for s, rs in seeds.items() if len(rs) == folds} for m, seeds in found.items()}


def seed_values(records: Sequence[Record]) -> dict[tuple[str, str], float]:
    """Every value of a seed from the records of its folds: (metric, class) to value, NaN where it is not defined."""
    nan = float("nan")
    names = list(records[0].classes)

    def number(value: float | None) -> float:
        return nan if value is None else float(value)

    made: dict[tuple[str, str], float] = {}
    for metric in AP_NAMES:
        table = np.array([[number(r.classes[c].get(metric)) for c in names] for r in records])
        by_class = mean_defined(table)
        made[metric, ALL] = float(mean_defined(by_class))
        made |= {(metric, c): float(v) for c, v in zip(names, by_class, strict=True)}
    matrix = np.sum([r.confusion for r in records], 0)
    made |= {(k, ALL): v for k, v in agreement(matrix).items()}
    flat = [_flat(r) for r in records]
    for key in dict.fromkeys(k for f in flat for k in f):  # records of an older version may lack one
        if (key, ALL) not in made:
            made[key, ALL] = float(mean_defined(np.array([number(f.get(key)) for f in flat])))
    return made


def _flat(record: Record) -> dict[str, float | None]:
    """Everything of a record that is one number."""
    timed = {f"seconds_{k}": v for k, v in record.seconds.items()}
    held = {f"memory_{k}": v for k, v in record.memory.items()}
    return {**record.metrics, "parameters": record.parameters, **timed, **held}


def summary_rows(
    sweep: Sweep, seeds: dict[str, dict[int, list[Record]]], latency: Mapping[str, dict[str, Any]]
) -> Rows:
    """Rows of `summary.csv`. The values of `latency_ms` are the medians of its rounds."""
    rows = []
    for model, by_seed in seeds.items():
        values = [seed_values(records) for records in by_seed.values()]
        keys = sorted({key for v in values for key in v})
        columns = {key: [v.get(key, math.nan) for v in values] for key in keys}
        if model in latency:
            columns["latency_ms", ALL] = latency[model]["rounds_ms"]
        for (metric, name), column in columns.items():
            made = t_interval([v for v in column if math.isfinite(v)])
            rows.append(
                {
                    "dataset": sweep.dataset,
                    "model": model,
                    "scale": sweep.models[model].scale,
                    "metric": metric,
                    "class": name,
                    "n": made.n,
                    "mean": made.mean,
                    "sd": made.sd,
                    "ci_low": made.low,
                    "ci_high": made.high,
                }
            )
    return rows


def read_latency(folder: Path) -> dict[str, dict[str, Any]]:
    """Latency of each model, from `latency.json`; empty where none has been measured."""
    file = folder / "latency.json"
    return json.loads(file.read_text(encoding="utf-8"))["models"] if file.is_file() else {}


def comparison_rows(
    sweep: Sweep,
    truth: Truth,
    seeds: dict[str, dict[int, list[Record]]],
    where: Callable[[str], Path],
    resamples: int,
) -> tuple[Rows, Rows]:
    """Rows of `comparisons.csv` and of `ranks.csv`; `where` is the predictions of a cell."""
    draws = resample_weights(truth.patients, resamples)  # the first is the data as it is
    index = [truth.of(fold) for fold in ([None] if sweep.folds is None else range(sweep.folds))]
    curves: dict[str, dict[int, np.ndarray]] = {}
    for model, by_seed in seeds.items():
        for seed, records in by_seed.items():
            runs, recalled = [], []
            for record, own in zip(records, index, strict=True):
                images = [truth.images[i] for i in own]
                found = read_predictions(where(record.cell), images, len(sweep.names))
                runs.append(match(images, found, len(sweep.names)))
                recalled.append(find_recalled(images, found, sweep.class_names))
            weights = [draws[:, own] for own in index]
            made = (mean_precision([runs], weights), mean_recall([recalled], weights))
            curves.setdefault(model, {})[seed] = np.concatenate(made, 1)
    groups = share_trainings(list(sweep.models.values()))
    streams = {model: i for i, group in enumerate(groups) for model in group}
    return _compare(sweep.dataset, curves, streams), _rank(sweep.dataset, curves, streams)


def _mean_of(curves: dict[int, np.ndarray], seeds: Sequence[int], stream: int) -> np.ndarray:
    """Mean of a model's values over seeds: (resamples + 1, 6), the first without resampling, then over drawn seeds."""
    values = np.stack([curves[s] for s in seeds], 1)
    weights = seed_weights(len(seeds), len(values) - 1, stream)
    return (values * weights[..., None]).sum(1)


def _compare(dataset: str, curves: dict[str, dict[int, np.ndarray]], streams: dict[str, int]) -> Rows:
    """Every two models over the seeds that both have; no row of a measure that the data do not define."""
    rows = []
    for a, b in combinations(curves, 2):
        both = sorted(curves[a].keys() & curves[b].keys())
        if not both:
            continue
        diff = _mean_of(curves[a], both, streams[a]) - _mean_of(curves[b], both, streams[b])
        for k, metric in enumerate(COMPARED):
            if np.isnan(diff[0, k]):
                continue
            low, high = percentile_interval(diff[1:, k])
            # adding zero takes the sign off a difference of -0.0
            row = {"dataset": dataset, "a": a, "b": b, "metric": metric, "diff": float(diff[0, k]) + 0.0}
            rows.append({**row, "ci_low": low, "ci_high": high})
    return rows


def _rank(dataset: str, curves: dict[str, dict[int, np.ndarray]], streams: dict[str, int]) -> Rows:
    """Mean rank of each model over the resamples; no row where there are none, as of one patient."""
    both = sorted(set.intersection(*(set(c) for c in curves.values()))) if curves else []
    if not both or len(next(iter(curves.values()))[both[0]]) < 2:
        return []
    rows = []
    for k, metric in enumerate(COMPARED):
        table = ranks(np.stack([_mean_of(c, both, streams[m])[1:, k] for m, c in curves.items()]))
        if not table.size:
            continue
        for model, row in zip(curves, table, strict=True):
            low, high = percentile_bounds(row)
            made = {
                "dataset": dataset,
                "model": model,
                "metric": metric,
                "n": len(both),
                "mean_rank": float(row.mean()),
            }
            rows.append({**made, "ci_low": low, "ci_high": high})
    return rows
