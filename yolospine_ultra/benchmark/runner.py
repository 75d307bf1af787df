"""A whole sweep: check, plan, run, time, tabulate; interrupted at any moment and resumed.

Written for this project. Each finished row is in its record before the next begins, so that a kill loses at most what
was running. Cells of another environment, protocol or dataset are refused with a sentence, never mixed in.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ultralytics.cfg import get_cfg
from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT

from yolospine_ultra.benchmark.dataset import PATIENT, BenchmarkData, read_data, read_truth
from yolospine_ultra.benchmark.environment import commit, environment
from yolospine_ultra.benchmark.family import ModelEntry
from yolospine_ultra.benchmark.plan import Job, make_plan
from yolospine_ultra.benchmark.processes import EnvironmentDiffersError, run_job, run_latency
from yolospine_ultra.benchmark.progress import Progress
from yolospine_ultra.benchmark.ray_cluster import RayCluster
from yolospine_ultra.benchmark.records import (
    DONE,
    Record,
    Sweep,
    Truth,
    predictions_file,
    read_records,
    read_sweep,
    write_json,
    write_sweep,
    write_truth,
)
from yolospine_ultra.benchmark.summary import read_latency, write_tables
from yolospine_ultra.benchmark.zoo import common_recipe, family_of, missing, select

# what every training of a sweep is given, by its options or so that nothing but the last weights counts
SET_BY_THE_SWEEP = {
    "data", "model", "mode", "task", "epochs", "imgsz", "batch", "device", "seed", "workers", "project", "name",
    "exist_ok", "pretrained", "val", "plots", "patience", "resume", "cfg", "save_dir", "split",
}  # fmt: skip
BENCH = ("faster_coco_eval", "rich", "filelock")  # modules that every sweep needs


@dataclass(frozen=True)
class Options:
    """What a sweep is asked to do; the arguments of scripts/benchmark_all.py.

    Attributes:
        data, root, patient: as in `dataset.read_data`.
        models: as in `zoo.select`.
        seeds: of the trainings.
        folds, seal_val: as in `dataset.read_data`.
        epochs, imgsz, batch, device, threads, workers, jobs: as in `family.Budget`.
        recipe: common training arguments in place of those of `zoo.common_recipe`.
        conf: as in `records.Sweep`.
        out: folder of the sweep.
        resume: go on with the sweep in `out`.
        dry_run: print the plan, write nothing.
        rounds: of the latency, 0 for none.
        ray: address of a cluster, None for this process.
        init: folder of a sweep on other data, with its weights: every training begins with those of the same model and
            seed there. None for trainings from scratch.
    """

    data: str
    models: Sequence[str]
    out: Path
    root: str | None = None
    patient: str = PATIENT
    seeds: Sequence[int] = (0, 1, 2)
    folds: int | None = None
    seal_val: bool = False
    epochs: int = 60
    imgsz: int = 320
    batch: int = 16
    device: str = "cpu"
    threads: int = 1
    workers: int = 0
    jobs: int = 1
    recipe: Mapping[str, Any] = field(default_factory=dict)
    conf: float = 0.25
    resume: bool = False
    dry_run: bool = False
    rounds: int = 5
    ray: str | None = None
    init: Path | None = None


def run_sweep(options: Options) -> int:
    """Run a sweep, or what is left of it.

    Returns:
        0, or 1 where a cell has failed or its latency could not be measured.

    Raises:
        FileExistsError: `out` has something in it and `resume` is not set.
        FileNotFoundError: data that is not there, nothing to resume, or a finished cell without its predictions.
        ImportError: the extra `bench` or `ray` is missing.
        ValueError: arguments that mean nothing, a sweep of another protocol, environment or dataset, or one that is
            running.
    """
    lacking = [p for p in BENCH if find_spec(p) is None]
    if lacking:
        raise ImportError(f"The benchmark needs {' and '.join(lacking)}: pip install 'yolospine_ultra[bench]'")
    _check(options)
    folder = options.out.absolute()
    entries = _runnable(select(options.models))
    data = read_data(options.data, options.root, options.folds, options.patient, options.seal_val)
    sweep = _protocol(options, entries, data)
    # nothing but `work` is what a run leaves that was ended before it wrote its protocol
    if folder.is_dir() and any(p.name != "work" for p in folder.iterdir()):
        sweep = _continue(folder, sweep, options)
    elif options.resume:
        raise FileNotFoundError(f"--resume: {options.out} holds no sweep; begin it without --resume.")
    jobs = make_plan(entries, sorted(set(options.seeds)), options.folds)
    done = {r.cell: r for r in read_records(folder) if r.status == DONE}
    for cell in done:
        predictions_file(folder, cell)  # the tables need them: better missed before the trainings than after
    left = [j for j in jobs if any(c not in done for c in j.cells)]
    _describe(options, data, jobs, left)
    if options.dry_run:
        return 0
    (folder / "work").mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "work" / "lock", timeout=0):
            return _run(options, folder, sweep, data, jobs, left, list(done.values()))
    except Timeout:
        raise ValueError(
            f"{options.out} is being written by another run; wait for it, or choose another --out."
        ) from None
    except EnvironmentDiffersError as error:
        raise ValueError(str(error)) from error


def _check(options: Options) -> None:
    """Refuse numbers out of range and recipes with unknown names."""
    least_of = {"epochs": 1, "imgsz": 32, "batch": 1, "threads": 1, "workers": 0, "jobs": 1, "rounds": 0}
    for name, least in least_of.items():
        if getattr(options, name) < least:
            raise ValueError(f"{name}={getattr(options, name)}; expected at least {least}.")
    if not options.seeds or min(options.seeds) < 0:
        raise ValueError(f"seeds {list(options.seeds)}; expected at least one whole number from 0.")
    if not 0 <= options.conf <= 1:
        raise ValueError(f"conf={options.conf}; expected a number from 0 to 1.")
    if options.ray is not None and options.jobs > 1:
        raise ValueError("--jobs is of this machine alone; --ray runs as many trainings as the cluster has room for.")
    unknown = sorted(options.recipe.keys() - DEFAULT_CFG_DICT.keys())
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no training argument of Ultralytics; see its `default.yaml`.")
    taken = sorted(options.recipe.keys() & SET_BY_THE_SWEEP)
    if taken:
        raise ValueError(f"{taken[0]!r} is not for --set: it is the sweep's own, or an option of it.")
    try:
        get_cfg(DEFAULT_CFG, dict(options.recipe))
    except (TypeError, ValueError) as error:
        raise ValueError(f"--set: {error}") from error


def _runnable(entries: Sequence[ModelEntry]) -> list[ModelEntry]:
    """The rows that can run here; says which cannot and why.

    Raises:
        ValueError: none can.
    """
    reasons = {e.name: missing(e) for e in entries}
    for reason in filter(None, reasons.values()):
        print(f"skipped: {reason}", file=sys.stderr)
    able = [e for e in entries if not reasons[e.name]]
    if not able:
        raise ValueError("no model is left to run.")
    return able


def _protocol(options: Options, entries: Sequence[ModelEntry], data: BenchmarkData) -> Sweep:
    """The protocol of the sweep that the options mean, in this environment."""
    budget = {k: getattr(options, k) for k in ("epochs", "imgsz", "batch", "device", "threads", "workers", "jobs")}
    return Sweep(
        dataset=data.name,
        fingerprint=data.fingerprint(),
        names=data.names,
        channels=data.channels,
        folds=data.folds,
        budget=budget,
        recipe={**common_recipe(options.batch, options.device), **options.recipe},
        conf=options.conf,
        environment=environment(options.device, options.threads),
        commit=commit(),
        command=shlex.join(sys.argv),
        models={e.name: e for e in entries},
        initial=_initial(options, entries),
    )


def _initial(options: Options, entries: Sequence[ModelEntry]) -> dict[str, Any]:
    """Where trainings begin, as `records.Sweep` keeps it.

    Raises:
        FileNotFoundError: no sweep there.
        ValueError: a row's family trains from scratch only.
    """
    if options.init is None:
        return {}
    unable = [e.name for e in entries if not getattr(family_of(e), "begins_with_weights", False)]
    if unable:
        raise ValueError(f"{', '.join(unable)}: of a family that trains from scratch only; leave it out, or --init.")
    there = read_sweep(options.init)
    if there.folds is not None:
        raise ValueError(f"{options.init} has folds; expected a sweep with one training of a model and seed.")
    known = {"dataset": there.dataset, "fingerprint": there.fingerprint}
    folder = os.path.relpath(options.init, options.out)
    return {"sweep": folder, **known, **{k: there.budget[k] for k in ("epochs", "imgsz")}}


def _continue(folder: Path, sweep: Sweep, options: Options) -> Sweep:
    """The sweep in a folder, with the rows of this one added.

    Raises:
        FileExistsError: `resume` is not set.
        ValueError: they may not be mixed.
    """
    if not options.resume:
        raise FileExistsError(f"{options.out} exists and is not empty; go on with --resume, or choose another --out.")
    there = read_sweep(folder)
    differences = sweep.differences(there)
    if differences:
        shown = "; ".join(differences[:4])
        raise ValueError(
            f"{options.out} holds a sweep that this one may not be mixed with ({shown}); choose another --out."
        )
    return dataclasses.replace(there, models={**there.models, **sweep.models}, initial=sweep.initial)


def _describe(options: Options, data: BenchmarkData, jobs: Sequence[Job], left: Sequence[Job]) -> None:
    """Print what is going to be done."""
    train, val = data.split(None if data.folds is None else 0)
    where = "train, val" if data.folds is None else f"{data.folds} folds by patient, the first"
    print(
        f"{data.name}: {where}: {len(train)} images of {len({x.patient for x in train})} patients to train on, ", end=""
    )
    print(f"{len(val)} of {len({x.patient for x in val})} to evaluate on")
    cells = sum(len(j.cells) for j in jobs)
    print(f"{len(jobs)} trainings, {cells} cells; {len(left)} trainings left", flush=True)
    if options.dry_run:
        for job in left:
            print(f"  {' '.join(job.cells)}")


def _run(
    options: Options,
    folder: Path,
    sweep: Sweep,
    data: BenchmarkData,
    jobs: Sequence[Job],
    left: Sequence[Job],
    done: Sequence[Record],
) -> int:
    """Run what is left, measure the latency, write the tables."""
    images = data.evaluated()
    write_sweep(folder, sweep)
    write_json(folder / "work" / "data.json", data.to_json(), indent=None)
    truth = Truth(read_truth(data, folder / "work" / "truth"), [x.patient for x in images], [x.fold for x in images])
    write_truth(folder, truth, [data.names[i] for i in sorted(data.names)])
    records = {r.cell: r for r in done}  # a job brings the record of each row that was done before, too
    if left and options.ray is not None:
        with RayCluster(options.ray) as cluster, Progress(jobs, done, cluster.parallel(sweep)) as progress:
            for job, made in cluster.run(folder, sweep, left):
                progress.finished(job, made)
                records |= {r.cell: r for r in made}
    elif left:
        with (
            Progress(jobs, done, options.jobs) as progress,
            closing(_run_here(folder, sweep, left, progress, options.jobs)) as ended,
        ):
            for job, made in ended:
                progress.finished(job, made)
                records |= {r.cell: r for r in made}
    failed = [r for r in records.values() if r.status != DONE]
    problem = _time(options.rounds, folder, sweep, [r for r in records.values() if r.status == DONE])
    write_tables(folder)
    for r in failed:
        print(f"failed: {r.cell}: {r.error}", file=sys.stderr)
    if problem:
        print(f"failed: latency: {problem}", file=sys.stderr)
    print(f"{options.out}: {len(records) - len(failed)} cells done, {len(failed)} failed")
    return 1 if failed or problem else 0


def _run_here(
    folder: Path, sweep: Sweep, jobs: Sequence[Job], progress: Progress, parallel: int
) -> Iterator[tuple[Job, list[Record]]]:
    """Run jobs on this machine, `parallel` at a time; what still runs when the caller ends is stopped."""
    stop = threading.Event()

    def run(job: Job) -> list[Record]:
        progress.started(job)
        return run_job(folder, sweep, job, stop)

    with ThreadPoolExecutor(parallel) as pool:
        waiting = {pool.submit(run, job): job for job in jobs}
        try:
            for ended in as_completed(waiting):
                yield waiting[ended], ended.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _time(rounds: int, folder: Path, sweep: Sweep, done: Sequence[Record]) -> str:
    """Measure the latency of all models that have a cell, if one of them has none yet; what went wrong, or ""."""
    cells = {r.cell for r in done}
    first: dict[str, Job] = {}
    for job in make_plan(list(sweep.models.values()), sorted({r.seed for r in done}), sweep.folds):
        for model, cell in zip(job.models, job.cells, strict=True):
            if cell in cells:
                first.setdefault(model, job)
    if not rounds or first.keys() <= read_latency(folder).keys():
        return ""
    # rows that share a training may have their first cells of different seeds, as where one of them failed
    jobs = [
        dataclasses.replace(job, models=tuple(m for m in job.models if first.get(m) == job))
        for job in dict.fromkeys(first.values())
    ]
    return run_latency(folder, sweep, jobs, rounds)
