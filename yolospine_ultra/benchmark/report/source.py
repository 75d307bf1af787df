"""What a sweep left on disk, read for the report: whatever is damaged is named, left out and counted.

Written for this project; the files are those of `yolospine_ultra.benchmark.records`. A report never computes a mean, an
interval or a comparison: it shows those of summary.csv, comparisons.csv and ranks.csv.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolospine_ultra.benchmark.records import DONE, FORMAT, Record, Sweep, read_sweep
from yolospine_ultra.benchmark.summary import complete_seeds
from yolospine_ultra.evaluate.dataset_files import ALL


@dataclass(frozen=True)
class Estimate:
    """A measured value over n seeds; None where it is not defined, such as the sd of one seed."""

    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 1


@dataclass(frozen=True)
class Comparison:
    """Difference a minus b of a metric with its 95% interval, Nones where it is not defined, as of one patient."""

    a: str
    b: str
    metric: str
    diff: float
    low: float | None
    high: float | None

    @property
    def wins(self) -> bool:
        """Whether the interval lies above zero."""
        return self.low is not None and self.low > 0

    @property
    def loses(self) -> bool:
        """Whether the interval lies below zero."""
        return self.high is not None and self.high < 0

    def reversed(self) -> Comparison:
        """The same seen from b."""
        # taken from zero, which then stays without a sign
        limits = (None, None) if self.low is None or self.high is None else (0.0 - self.high, 0.0 - self.low)
        return Comparison(self.b, self.a, self.metric, 0.0 - self.diff, *limits)


@dataclass(frozen=True)
class Results:
    """A sweep as the report sees it.

    Attributes:
        folder: where it lies.
        sweep: its protocol.
        records: readable records of finished cells.
        estimates: by (model, metric, class), class `ALL` for all.
        comparisons: as they stand in comparisons.csv.
        ranks: by (model, metric).
        latency: by model, as in latency.json; {} where there is none.
        specs: by model, as `scripts/specs.py --sweep` wrote them to specs.json; {} where there is none.
        problems: what was left out and why, one sentence each.
    """

    folder: Path
    sweep: Sweep
    records: tuple[Record, ...]
    estimates: dict[tuple[str, str, str], Estimate]
    comparisons: tuple[Comparison, ...]
    ranks: dict[tuple[str, str], Estimate]
    latency: dict[str, dict[str, Any]]
    specs: dict[str, dict[str, Any]]
    problems: tuple[str, ...]

    @property
    def models(self) -> list[str]:
        """Models with a measured mAP, best first."""
        found = [m for m in self.sweep.models if self.value(m) is not None]
        return sorted(found, key=lambda m: -self.value(m).mean)

    def value(self, model: str, metric: str = "map50_95", name: str = ALL) -> Estimate | None:
        """A measured value, None where there is none."""
        return self.estimates.get((model, metric, name))

    def of(self, model: str) -> list[Record]:
        """The finished cells of a model."""
        return [r for r in self.records if r.model == model]

    def comparison(self, a: str, b: str, metric: str = "map50_95") -> Comparison | None:
        """a minus b, from whichever side it was written."""
        for c in self.comparisons:
            if c.metric == metric and (c.a, c.b) == (a, b):
                return c
            if c.metric == metric and (c.b, c.a) == (a, b):
                return c.reversed()
        return None


def read_results(folder: str | Path) -> Results:
    """Read a sweep.

    Raises:
        FileNotFoundError: no sweep.json or no summary.csv.
        ValueError: sweep.json is damaged or of another format, or summary.csv lacks a column.
    """
    folder = Path(folder)
    try:
        sweep = read_sweep(folder)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{folder / 'sweep.json'} lacks or has other keys than expected ({error!r}).") from error
    problems: list[str] = []
    if not (folder / "summary.csv").is_file():
        raise FileNotFoundError(f"{folder / 'summary.csv'} is not there; expected a finished sweep's folder.")
    records = _records(folder, sweep, problems)
    estimates: dict[tuple[str, str, str], Estimate] = {}
    columns = ("model", "metric", "class", "n", "mean", "sd", "ci_low", "ci_high")
    for where, row in _rows(folder / "summary.csv", columns, sweep, problems):
        key = (row["model"], row["metric"], row["class"] or ALL)
        if key in estimates:
            problems.append(f"{where}: {' '.join(key)} stands there twice; the second was left out.")
        elif (estimate := _estimate(where, row, "mean", problems)) is not None:
            estimates[key] = estimate
    comparisons = []
    for where, row in _rows(
        folder / "comparisons.csv", ("a", "b", "metric", "diff", "ci_low", "ci_high"), sweep, problems
    ):
        values = [_number(row[k]) for k in ("diff", "ci_low", "ci_high")]
        undefined = not row["ci_low"].strip() and not row["ci_high"].strip()
        if values[0] is None or (None in values and not undefined):
            problems.append(f"{where}: no number in diff, ci_low or ci_high; the row was left out.")
        else:
            comparisons.append(Comparison(row["a"], row["b"], row["metric"], *values))
    ranks = {}
    for where, row in _rows(
        folder / "ranks.csv", ("model", "metric", "n", "mean_rank", "ci_low", "ci_high"), sweep, problems
    ):
        if (estimate := _estimate(where, row, "mean_rank", problems)) is not None:
            ranks[row["model"], row["metric"]] = estimate
    for model, seeds in complete_seeds(sweep, records).items():
        counted = estimates.get((model, "map50_95", ALL))
        if counted is not None and counted.n != len(seeds):
            problems.append(
                f"summary.csv counts {counted.n} seeds of {model}, but the records of {len(seeds)} can be read."
            )
    return Results(
        folder, sweep, records, estimates, tuple(comparisons), ranks,
        _by_model(folder / "latency.json", problems), _specs(folder / "specs.json", sweep, problems), tuple(problems),
    )  # fmt: skip


def _records(folder: Path, sweep: Sweep, problems: list[str]) -> tuple[Record, ...]:
    """Finished cells that can be read and belong to the sweep."""
    found = []
    for cell in sorted(p for p in (folder / "cells").glob("*") if p.is_dir()):
        file = cell / "record.json"
        where = f"cells/{cell.name}/record.json"
        if not file.is_file():
            problems.append(f"{where} is not there: the cell was not finished.")
            continue
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content.get("format") != FORMAT:
                raise ValueError(f"format {content.get('format')}, expected {FORMAT}")
            record = Record(**content)
            if record.status == DONE:
                _check(record, sweep)
        except (ValueError, TypeError, AttributeError, KeyError, OSError) as error:
            problems.append(f"{where} cannot be used ({error}); the cell was left out.")
            continue
        if record.status == DONE:
            found.append(record)
        else:
            problems.append(f"{where}: the cell {record.status}: {record.error.rstrip('.') or 'no reason given'}.")
    return tuple(found)


def _check(record: Record, sweep: Sweep) -> None:
    """Refuse a record that is not of this sweep or whose parts have another form.

    Raises:
        ValueError, TypeError: what is wrong.
    """
    if record.dataset != sweep.dataset or record.model not in sweep.models:
        raise ValueError(f"{record.model} on {record.dataset} is not part of this sweep")
    side = len(sweep.names) + 1
    matrix = record.confusion
    if matrix and (len(matrix) != side or any(len(r) != side or any(v < 0 for v in r) for r in matrix)):
        raise ValueError(f"confusion is not a {side} x {side} matrix of counts")
    for part in (record.metrics, record.classes, record.seconds, record.memory, record.environment):
        if not isinstance(part, dict):
            raise TypeError(f"an object was expected, found {type(part).__name__}")


def _rows(
    file: Path, columns: tuple[str, ...], sweep: Sweep, problems: list[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a CSV that name this dataset and known models, each with its place; nothing where there is no file.

    Raises:
        ValueError: a column is missing.
    """
    if not file.is_file():
        return
    with file.open(encoding="utf-8", newline="") as f:
        reader = csv.DictReader(f)
        missing = [c for c in ("dataset", *columns) if c not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{file} has no column {', '.join(missing)}; expected dataset, {', '.join(columns)}.")
        for row in reader:
            where = f"{file.name}, line {reader.line_num}"
            unknown = [row[k] for k in ("model", "a", "b") if k in columns and row[k] not in sweep.models]
            if None in row.values() or None in row:
                problems.append(f"{where}: too few or too many columns; the row was left out.")
            elif row["dataset"] != sweep.dataset:
                problems.append(f"{where}: dataset {row['dataset']}, not {sweep.dataset}; the row was left out.")
            elif unknown:
                problems.append(f"{where}: sweep.json has no model {', '.join(unknown)}; the row was left out.")
            else:
                yield where, row


def _estimate(where: str, row: dict[str, str], key: str, problems: list[str]) -> Estimate | None:
    """The estimate of a row; None, and a problem, where its mean or its n is no number."""
    mean, n = _number(row[key]), _number(row["n"])
    if row[key].strip() == "" and n is not None:
        return None  # not defined on this data, which is no damage
    if mean is None or n is None or n < 0:
        problems.append(f"{where}: no number in {key} or n; the row was left out.")
        return None
    return Estimate(mean, *(_number(row.get(k, "")) for k in ("sd", "ci_low", "ci_high")), n=int(n))


def _number(text: str) -> float | None:
    """A finite number, else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _by_model(file: Path, problems: list[str]) -> dict[str, dict[str, Any]]:
    """What a JSON file holds under "models"; {} where there is no file, or, with a problem, where it is another one."""
    if not file.is_file():
        return {}
    try:
        return {k: v for k, v in json.loads(file.read_text(encoding="utf-8"))["models"].items() if isinstance(v, dict)}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        problems.append(f"{file.name} cannot be used ({error!r}); it was left out.")
        return {}


def _specs(file: Path, sweep: Sweep, problems: list[str]) -> dict[str, dict[str, Any]]:
    """Costs by model; {} where there is no file, or, with a problem, where they are of another input or damaged."""
    found = _by_model(file, problems)
    if found:
        content = json.loads(file.read_text(encoding="utf-8"))
        here = content.get("imgsz"), content.get("nc"), content.get("channels", 3)
        expected = sweep.budget["imgsz"], len(sweep.names), sweep.channels
        if here != expected:
            what = [f"{px} px, {nc} classes and {ch} channels" for px, nc, ch in (here, expected)]
            problems.append(f"{file.name} is of {what[0]}, the sweep of {what[1]}; it was left out.")
            return {}
    return found
