"""Starting the processes of a sweep, and seeing to it that each leaves a record, whatever becomes of it.

Written for this project. A child reads its standard input, whose other end only this process holds: when this process
dies, by whatever means, the child ends too, and never writes into a sweep that somebody has resumed meanwhile.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

from yolospine_ultra.benchmark.cell import OTHER_ENVIRONMENT
from yolospine_ultra.benchmark.environment import offline_variables
from yolospine_ultra.benchmark.plan import Job
from yolospine_ultra.benchmark.records import FAILED, Record, Sweep, is_done, read_record, write_json, write_record

_POLL = 0.2  # seconds


class EnvironmentDiffersError(RuntimeError):
    """A process found itself in another environment than the sweep was begun in, or the data changed."""


def run_job(folder: Path, sweep: Sweep, job: Job, stop: threading.Event | None = None) -> list[Record]:
    """Run a job in a process of its own and wait for it.

    Args:
        folder: of the sweep.
        sweep: its protocol.
        job: which training; records of it that are done stay as they are.
        stop: ends the process when it is set, from another thread.

    Returns:
        Its records; one that the process did not leave is made here, with the reason of its end.

    Raises:
        EnvironmentDiffersError: the process refused to take part.
        CancelledError: `stop` was set.
    """
    work = folder / "work" / job.name
    write_json(work / "job.json", {"models": job.models, "seed": job.seed, "fold": job.fold})
    for cell in job.cells:
        if not is_done(folder, cell):
            (folder / "cells" / cell / "record.json").unlink(missing_ok=True)
    log = work / "log.txt"
    code = _run("cell", [str(folder), job.name], work, job.seed, sweep.budget["threads"], stop)
    if code == OTHER_ENVIRONMENT:
        raise EnvironmentDiffersError(_last_line(log))
    made = []
    for model, cell in zip(job.models, job.cells, strict=True):
        if not (folder / "cells" / cell / "record.json").is_file():
            entry = sweep.models[model]
            error = f"{_end(code)}; last words: {_last_line(log)}"
            lost = {"dataset": sweep.dataset, "seed": job.seed, "fold": job.fold, "status": FAILED, "error": error}
            write_record(folder, Record(cell, model=model, family=entry.family, scale=entry.scale, **lost))
        made.append(read_record(folder, cell))
    return made


def run_latency(folder: Path, sweep: Sweep, jobs: list[Job], rounds: int) -> str:
    """Measure the latency of the models of some jobs in a process of its own.

    Args:
        folder: of the sweep.
        sweep: its protocol.
        jobs: a training of each model.
        rounds: as in `latency.measure`.

    Returns:
        What went wrong, "" where nothing did.
    """
    work = folder / "work" / "latency"
    listed = [{"models": j.models, "seed": j.seed, "fold": j.fold} for j in jobs]
    write_json(work / "job.json", {"jobs": listed, "rounds": rounds})
    code = _run("latency", [str(folder)], work, 0, sweep.budget["threads"])
    return "" if code == 0 else f"{_end(code)}; last words: {_last_line(work / 'log.txt')}"


def _run(
    module: str, arguments: list[str], work: Path, seed: int, threads: int, stop: threading.Event | None = None
) -> int:
    """Run a module of this package with its output in `work/log.txt`; its exit status, negative for a signal."""
    config = work / "config"
    _provide_font(config / "Ultralytics")
    variables = {**os.environ, **offline_variables(config, seed, threads)}
    command = [sys.executable, "-m", f"yolospine_ultra.benchmark.{module}", *arguments, "--watch"]
    with (
        (work / "log.txt").open("wb") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=variables, start_new_session=True
        ) as child,
    ):
        try:
            while child.poll() is None:
                if stop is not None and stop.is_set():
                    raise CancelledError
                time.sleep(_POLL)
        except BaseException:  # also an interrupt from the keyboard, which goes on
            child.stdin.close()
            child.wait()
            raise
    return child.returncode


def _provide_font(folder: Path) -> None:
    """The font that the host looks for in its settings folder, and would download: matplotlib's."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    font = folder / "Arial.ttf"
    if not font.exists():
        font.write_bytes((Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf").read_bytes())


def _end(code: int) -> str:
    """How a process ended, as text."""
    return f"the process was ended by {signal.Signals(-code).name}" if code < 0 else f"the process ended with {code}"


def _last_line(log: Path) -> str:
    """The last line of a log that has something in it."""
    lines = [x.strip() for x in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((x for x in reversed(lines) if x), "none")
