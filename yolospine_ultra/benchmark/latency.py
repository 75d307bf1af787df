"""Latency of every model of a sweep, in a process of its own: `python -m yolospine_ultra.benchmark.latency`.

Written for this project; how it is measured is in `benchmark.timing`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path

from yolospine_ultra.benchmark.cell import (
    OTHER_ENVIRONMENT,
    budget_of,
    check_belongs,
    die_with_parent,
    finished_training,
    prepare_process,
)
from yolospine_ultra.benchmark.dataset import BenchmarkData, make_view
from yolospine_ultra.benchmark.plan import Job
from yolospine_ultra.benchmark.records import FORMAT, read_sweep, write_json
from yolospine_ultra.benchmark.timing import interleaved_latency, timer_for
from yolospine_ultra.benchmark.zoo import family_of

IMAGES = 5  # of the evaluated ones, spread evenly
FOLDER = "latency"  # under work/


def measure(folder: Path, jobs: list[Job], rounds: int) -> None:
    """Time the models of some jobs against each other and write `latency.json`.

    Args:
        folder: of the sweep.
        jobs: a training of each model. Where its weights are not there any more, random ones are timed, and it says so.
        rounds: how often every model takes every image.

    Raises:
        ValueError: this process does not belong into the sweep.
    """
    sweep = read_sweep(folder)
    data = BenchmarkData.from_json(json.loads((folder / "work" / "data.json").read_text(encoding="utf-8")))
    here = check_belongs(sweep, data)
    view = folder / "work" / FOLDER / "view"
    models, trained = {}, {}
    cell = make_view(data, None if sweep.folds is None else 0, view)
    for job in jobs:
        training = finished_training(folder, sweep.models[job.models[0]], job.seed, job.fold)
        weights = training.weights if training else None
        for name in job.models:
            entry = sweep.models[name]
            detector = family_of(entry).load(entry, weights, cell, budget_of(sweep, job.seed))
            models[name] = lambda image, detector=detector: detector.detect([image])
            trained[name] = weights is not None
    step = max(len(cell.val) // IMAGES, 1)
    images = cell.val[::step][:IMAGES]
    taken = interleaved_latency(models, images, rounds, timer_for(sweep.budget["device"]))
    found = {n: {**dataclasses.asdict(t), "trained": trained[n]} for n, t in taken.items()}
    about = {"rounds": rounds, "images": len(images), "imgsz": sweep.budget["imgsz"], "environment": here}
    write_json(folder / "latency.json", {"format": FORMAT, **about, "models": found})
    shutil.rmtree(view)


def main() -> int:
    """Measure the latency of a sweep's models."""
    parser = argparse.ArgumentParser(description="Time the models of a sweep; scripts/benchmark_all.py calls this.")
    parser.add_argument("sweep", type=Path, help="folder of the sweep")
    parser.add_argument("--watch", action="store_true", help="end when standard input is closed")
    arguments = parser.parse_args()
    if arguments.watch:
        die_with_parent()
    folder = arguments.sweep.absolute()
    content = json.loads((folder / "work" / FOLDER / "job.json").read_text(encoding="utf-8"))
    prepare_process(read_sweep(folder).budget["threads"], 0)
    try:
        measure(folder, [Job(tuple(j["models"]), j["seed"], j["fold"]) for j in content["jobs"]], content["rounds"])
    except ValueError as error:
        print(error, file=sys.stderr)
        return OTHER_ENVIRONMENT
    return 0


if __name__ == "__main__":
    sys.exit(main())
