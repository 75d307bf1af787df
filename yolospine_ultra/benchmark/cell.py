"""One training of a sweep and its evaluation, in a process of its own: `python -m yolospine_ultra.benchmark.cell`.

The process has its own seeds, threads and settings of the host, and dies with the process that started it. A record is
written when its row is done, so that nothing that is finished can be lost. Written for this project.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import packages_distributions
from pathlib import Path

import torch

from yolospine_ultra.benchmark import timing
from yolospine_ultra.benchmark.dataset import BenchmarkData, make_view
from yolospine_ultra.benchmark.environment import commit, environment, versions
from yolospine_ultra.benchmark.family import MAX_FINDINGS, Budget, CellData, Detector, Family, ModelEntry
from yolospine_ultra.benchmark.measure import measure_cell
from yolospine_ultra.benchmark.plan import Job, share_trainings
from yolospine_ultra.benchmark.records import (
    DONE,
    FAILED,
    Record,
    Sweep,
    cell_name,
    is_done,
    read_records,
    read_sweep,
    read_truth,
    write_json,
    write_predictions,
    write_record,
)
from yolospine_ultra.benchmark.zoo import family_of
from yolospine_ultra.evaluate.findings import ImageFindings

OTHER_ENVIRONMENT = 3  # exit status: the cell does not belong into this sweep
_LOGGERS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "sync")


def die_with_parent() -> None:
    """End this process, and those it has started, as soon as standard input is closed: the parent is gone."""

    def watch() -> None:
        while os.read(0, 1024):  # not through sys.stdin, whose lock Python needs to end
            pass
        if os.getpgid(0) == os.getpid():
            os.killpg(0, signal.SIGTERM)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def prepare_process(threads: int, seed: int) -> None:
    """Threads and seeds of this process, and the host's loggers off."""
    from ultralytics.utils import SETTINGS
    from ultralytics.utils.torch_utils import init_seeds

    SETTINGS.update({k: False for k in _LOGGERS if k in SETTINGS})
    torch.set_num_threads(threads)
    init_seeds(seed, deterministic=True)


def check_belongs(sweep: Sweep, data: BenchmarkData) -> dict:
    """The environment, which has to be that of the sweep, as the data has to be.

    Raises:
        ValueError: names what differs.
    """
    here = environment(sweep.budget["device"], sweep.budget["threads"])
    other = [k for k in here | sweep.environment if here.get(k) != sweep.environment.get(k)]
    if other:
        shown = ", ".join(f"{k} is {here.get(k)}, not {sweep.environment.get(k)}" for k in other)
        raise ValueError(f"The sweep was begun in another environment: {shown}; begin another one with another --out.")
    if data.fingerprint() != sweep.fingerprint:
        raise ValueError("The data has changed since the sweep was begun; begin another one with another --out.")
    return here


def budget_of(sweep: Sweep, seed: int) -> Budget:
    """The budget of a cell."""
    return Budget(**sweep.budget, seed=seed, recipe=sweep.recipe)


def initial_weights(folder: Path, sweep: Sweep, job: Job) -> Path:
    """Weights that a training begins with: of the same training and seed in the sweep that `Sweep.initial` names.

    Raises:
        FileNotFoundError: that training has not ended, or its weights are gone.
    """
    there = Path(os.path.normpath(folder / sweep.initial["sweep"]))
    own = sweep.models[job.models[0]]
    training = finished_training(there, own, job.seed, None)
    if training is None:
        raise FileNotFoundError(
            f"{there} has no weights of {own.name} with seed {job.seed} to begin with; train it in that sweep first."
        )
    return training.weights


def finished_training(folder: Path, own: ModelEntry, seed: int, fold: int | None) -> Training | None:
    """What a training of a sweep has left: rows share one, whose folder has the name of any of them."""
    same = [m for m, e in read_sweep(folder).models.items() if len(share_trainings([own, e])) == 1]
    found = (read_training(folder / "work" / cell_name(m, seed, fold)) for m in same)
    return next((t for t in found if t is not None), None)


def check_packages(folder: Path, family: str, packages: dict[str, str]) -> None:
    """Refuse a family's packages of other versions than those that its cells were made with.

    Raises:
        ValueError: names the first that differs.
    """
    for record in read_records(folder):
        before = record.environment.get("family_packages", {})
        if record.status == DONE and record.family == family and before != packages:
            raise ValueError(
                f"{record.cell} was made with {before}, here are {packages}; begin another sweep with another --out."
            )


def run_job(folder: Path, job: Job) -> bool:
    """Train, then evaluate every row that has no record yet; write their records.

    Args:
        folder: of the sweep.
        job: which training. Where an earlier attempt has left its weights, they serve.

    Returns:
        Whether all rows are done.

    Raises:
        ValueError: the cell does not belong into the sweep.
    """
    start, started = time.perf_counter(), datetime.now(timezone.utc).isoformat(timespec="seconds")
    sweep = read_sweep(folder)
    data = BenchmarkData.from_json(json.loads((folder / "work" / "data.json").read_text(encoding="utf-8")))
    here = check_belongs(sweep, data)
    entries = [sweep.models[m] for m in job.models]
    family = family_of(entries[0])
    modules = packages_distributions()
    packages = tuple(d for p in family.packages for d in modules.get(p, (p,)))
    installed = versions(packages)
    check_packages(folder, entries[0].family, installed)
    known = {
        "dataset": sweep.dataset,
        "seed": job.seed,
        "fold": job.fold,
        "started": started,
        "environment": {**here, "family_packages": installed},
        "commit": commit(),
        # as anybody can give it: no interpreter's or folder's place on this machine
        "command": shlex.join(["python", "-m", "yolospine_ultra.benchmark.cell", os.path.relpath(folder), job.name]),
    }
    left = [e for e, cell in zip(entries, job.cells, strict=True) if not is_done(folder, cell)]
    work, budget = folder / "work" / job.name, budget_of(sweep, job.seed)
    try:
        if sweep.initial:
            budget = dataclasses.replace(budget, init=initial_weights(folder, sweep, job))
        cell = make_view(data, job.fold, work / "view")
        training = finished_training(folder, entries[0], job.seed, job.fold) or _train(
            entries[0], family, cell, budget, work
        )
    except Exception as error:  # whatever a library raises belongs into the record, and the sweep goes on
        for entry in left:
            _fail(folder, entry, known, error)
        return False
    train, val = data.split(job.fold)
    known["images"] = {"train": len(train), "val": len(val)}
    known["patients"] = {"train": len({x.patient for x in train}), "val": len({x.patient for x in val})}
    done = True
    for entry in left:
        try:
            _evaluate_row(folder, sweep, entry, family, cell, budget, training, known, start)
        except Exception as error:
            _fail(folder, entry, known, error)
            done = False
    return done


@dataclass(frozen=True)
class Training:
    """What a training has left: its weights, its seconds, and its memory as in `records.Record`."""

    weights: Path
    seconds: float
    memory: dict[str, float | None]


def read_training(work: Path) -> Training | None:
    """What a training has left in a job's folder, None where it has not ended or its weights are gone."""
    file = work / "training.json"
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    weights = work / content["weights"]
    return Training(weights, content["seconds"], content["memory"]) if weights.exists() else None


def _train(entry: ModelEntry, family: Family, cell: CellData, budget: Budget, work: Path) -> Training:
    """Train in a folder of its own, timed."""
    model = work / "model"
    shutil.rmtree(model, ignore_errors=True)  # of an attempt that failed
    (work / "training.json").unlink(missing_ok=True)
    model.mkdir()
    timing.reset_cuda_peak(budget.device)
    before = time.perf_counter()
    weights = family.train(entry, cell, budget, model)
    seconds = time.perf_counter() - before
    cuda = None if "," in budget.device else timing.cuda_peak(budget.device)  # processes of their own train on several
    memory = {"train_rss": timing.peak_rss(), "train_cuda": cuda}
    content = {"weights": str(weights.relative_to(work)), "seconds": seconds, "memory": memory}
    write_json(work / "training.json", content)
    return Training(weights, seconds, memory)


def _evaluate_row(
    folder: Path,
    sweep: Sweep,
    entry: ModelEntry,
    family: Family,
    cell: CellData,
    budget: Budget,
    training: Training,
    known: dict,
    start: float,
) -> None:
    """Predict with a row's detector, measure, and write its predictions and its record."""
    name = cell_name(entry.name, known["seed"], known["fold"])
    everything = read_truth(folder)
    own = everything.of(known["fold"])
    truth, ids = [everything.images[i] for i in own], (own + 1).tolist()
    if [f.relative_to(cell.yaml.parent / "images").as_posix() for f in cell.val] != [x.name for x in truth]:
        raise ValueError("ground_truth.json has other images than the data.")
    timing.reset_cuda_peak(budget.device)
    detector = family.load(entry, training.weights, cell, budget)
    before = time.perf_counter()
    found = detect(detector, cell.val)
    predict = time.perf_counter() - before
    memory = {"predict_rss": timing.peak_rss(), "predict_cuda": timing.cuda_peak(budget.device)}
    named = [ImageFindings(t.name, f.boxes, f.classes, f.scores) for t, f in zip(truth, found, strict=True)]
    write_predictions(folder, name, named, ids)
    measured = measure_cell(folder, sweep, name, truth)
    spent = {"train": training.seconds, "epoch": training.seconds / budget.epochs, "predict": predict}
    record = Record(
        cell=name,
        model=entry.name,
        family=entry.family,
        scale=entry.scale,
        status=DONE,
        metrics=measured.metrics,
        classes=measured.classes,
        confusion=measured.confusion.tolist(),
        parameters=sum(p.numel() for p in detector.module.parameters()),
        seconds={**spent, "total": time.perf_counter() - start},
        memory={**training.memory, **memory},
        **known,
    )
    write_record(folder, record)


def detect(detector: Detector, images: Sequence[Path]) -> list[ImageFindings]:
    """Findings of images, checked against the contract of `family.Detector`.

    Raises:
        ValueError: the detector breaks the contract.
    """
    found = detector.detect(images)
    if [x.name for x in found] != [f.name for f in images]:
        raise ValueError("the family's detector gives findings of other images than it was given, or in another order.")
    for x in found:
        if x.scores is None or len(x) > MAX_FINDINGS:
            raise ValueError(
                f"{x.name}: {len(x)} findings of the family's detector; expected at most {MAX_FINDINGS} with scores."
            )
    return found


def _fail(folder: Path, entry: ModelEntry, known: dict, error: Exception) -> None:
    """Record a failed row; the traceback goes to the log."""
    traceback.print_exception(error)
    row = {"model": entry.name, "family": entry.family, "scale": entry.scale, "status": FAILED}
    text = " ".join(f"{type(error).__name__}: {error}".split())
    write_record(folder, Record(cell_name(entry.name, known["seed"], known["fold"]), **row, error=text, **known))


def main() -> int:
    """Run a job of a sweep."""
    parser = argparse.ArgumentParser(description="Run one training of a sweep; scripts/benchmark_all.py calls this.")
    parser.add_argument("sweep", type=Path, help="folder of the sweep")
    parser.add_argument("job", help="name of a folder under its work/, with job.json")
    parser.add_argument("--watch", action="store_true", help="end when standard input is closed")
    arguments = parser.parse_args()
    if arguments.watch:
        die_with_parent()
    folder = arguments.sweep.absolute()
    content = json.loads((folder / "work" / arguments.job / "job.json").read_text(encoding="utf-8"))
    job = Job(tuple(content["models"]), content["seed"], content["fold"])
    prepare_process(read_sweep(folder).budget["threads"], job.seed)
    try:
        return 0 if run_job(folder, job) else 1
    except ValueError as error:
        print(error, file=sys.stderr)
        return OTHER_ENVIRONMENT


if __name__ == "__main__":
    sys.exit(main())
