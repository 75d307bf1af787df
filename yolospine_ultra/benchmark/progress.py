"""What a sweep shows while it runs: a live table on a terminal (rich), a line an event elsewhere.

Written for this project.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any

from yolospine_ultra.benchmark.plan import Job
from yolospine_ultra.benchmark.records import DONE, Record


class Progress:
    """State of a sweep's jobs, shown as it changes.

    Args:
        jobs: all of the plan.
        records: those of cells that were done before.
        parallel: how many jobs run at a time.
    """

    def __init__(self, jobs: Sequence[Job], records: Sequence[Record], parallel: int = 1) -> None:
        self.jobs, self.parallel = list(jobs), parallel
        self.records = {r.cell: r for r in records}
        self.running: dict[str, float] = {}
        self.ended: set[str] = set()
        self.live: Any = None

    def __enter__(self) -> Progress:
        if sys.stdout.isatty():
            from rich.live import Live

            self.live = Live(get_renderable=self._table, refresh_per_second=1)
            self.live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.live.stop()

    def started(self, job: Job) -> None:
        """A job has begun."""
        self.running[job.name] = time.monotonic()
        self._say(f"begun   {job.name}")

    def finished(self, job: Job, records: Sequence[Record]) -> None:
        """A job has ended, with these records."""
        self.running.pop(job.name, None)
        self.ended.add(job.name)
        for r in records:
            self.records[r.cell] = r
            self._say(f"{r.status:7} {r.cell}  {_outcome(r)}  {self._left()}")

    def _say(self, line: str) -> None:
        """Print a line where there is no live table, in one piece, since several threads do."""
        if not self.live:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    def _left(self) -> str:
        """How many cells are done, and how long the rest takes if models take as long as they did."""
        cells = [c for j in self.jobs for c in j.cells]
        done = sum(c in self.records for c in cells)
        return f"{done}/{len(cells)} cells, about {self.remaining()} left"

    def remaining(self) -> str:
        """Time the jobs that are not done will take, from the mean of those that are; "?" before the first."""
        spent: dict[str, list[float]] = {}
        for j in self.jobs:
            total = [self.records[c].seconds.get("total") for c in j.cells if c in self.records]
            if any(total):
                spent.setdefault(j.models[0], []).append(max(t for t in total if t))
        if not spent:
            return "?"
        means = {m: sum(t) / len(t) for m, t in spent.items()}
        usual = sum(means.values()) / len(means)
        left = 0.0
        for j in self.jobs:
            if any(c not in self.records for c in j.cells) and j.name not in self.ended:
                needed = means.get(j.models[0], usual)
                since = self.running.get(j.name)
                left += max(needed - (time.monotonic() - since if since else 0.0), 0.0)
        return str(timedelta(seconds=round(left / self.parallel)))

    def _table(self) -> Any:
        """The live table: a row a model, with what its cells have come to."""
        from rich.table import Table

        table = Table(title=self._left())
        for column in ("model", "done", "failed", "running", "mAP50-95", "s/epoch"):
            table.add_column(column, justify="left" if column == "model" else "right")
        cells: dict[str, list[str]] = {}
        running: dict[str, list[str]] = {}
        for j in self.jobs:
            for model, cell in zip(j.models, j.cells, strict=True):
                cells.setdefault(model, []).append(cell)
                if j.name in self.running:
                    elapsed = timedelta(seconds=round(time.monotonic() - self.running[j.name]))
                    running.setdefault(model, []).append(f"{cell.removeprefix(model + '_')} {elapsed}")
        for model, names in cells.items():
            known = [self.records[n] for n in names if n in self.records]
            good = [r for r in known if r.status == DONE]
            table.add_row(
                model,
                f"{len(good)}/{len(names)}",
                str(len(known) - len(good) or ""),
                ", ".join(running.get(model, [])),
                _mean([r.metrics.get("map50_95") for r in good], "{:.3f}"),
                _mean([r.seconds.get("epoch") for r in good], "{:.1f}"),
            )
        return table


def _mean(values: Sequence[float | None], form: str) -> str:
    """Mean of what is there, as text."""
    known = [v for v in values if v is not None]
    return form.format(sum(known) / len(known)) if known else ""


def _outcome(record: Record) -> str:
    """What a cell has come to, as text."""
    if record.status != DONE:
        return record.error[:160]
    found = record.metrics.get("map50_95")
    shown = "not defined" if found is None else f"{found:.4f}"
    return f"mAP50-95 {shown}, {record.seconds['epoch']:.1f} s an epoch"
