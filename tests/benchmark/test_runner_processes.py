"""A sweep in real processes with a toy family: kills, interrupts, failures, trainings side by side, equal seeds."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy
from conftest import REPO
from ultralytics import YOLO

from yolospine_ultra.benchmark import processes
from yolospine_ultra.benchmark.cell import read_training
from yolospine_ultra.benchmark.plan import Job
from yolospine_ultra.benchmark.records import DONE, read_records, read_sweep
from yolospine_ultra.benchmark.runner import run_sweep

SCRIPT = [sys.executable, str(REPO / "scripts" / "benchmark_all.py")]
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")


@pytest.fixture
def data(tmp_path):
    """A dataset of 8 and 4 images, every image its own patient."""
    return toy.write_patients(tmp_path / "set")


@pytest.fixture
def toy_is_importable(monkeypatch):
    """Cells find the toy family."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(REPO)]))


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def is_alive(pid):
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@needs_proc
def test_a_kill_of_the_parent_loses_the_running_cell_only(data, tmp_path, toy_is_importable, monkeypatch, capsys):
    out, log = tmp_path / "sweep", tmp_path / "log"
    log.touch()
    models = ["toy:GOOD", "toy:BAD"]
    asked = ["--data", data, "--models", ",".join(models), "--seeds", "7", "--latency-rounds", "0", "--out", str(out)]
    environment = {**os.environ, "TOY_LOG": str(log), "TOY_SECONDS": "3"}
    parent = subprocess.Popen([*SCRIPT, *asked], env=environment, stdout=subprocess.DEVNULL)
    wait_for(
        lambda: len(log.read_text().splitlines()) == 2 or parent.poll() is not None
    )  # the second training is on its way
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    child = int(log.read_text().splitlines()[1].split()[-1])
    wait_for(lambda: not is_alive(child), 10)
    assert {r.cell: r.status for r in read_records(out)} == {"good_seed7": DONE}

    # a row more, which shares the training that is done: its weights serve
    before = (out / "cells" / "good_seed7" / "record.json").read_bytes()
    monkeypatch.setenv("TOY_LOG", str(log))
    assert run_sweep(toy.options(data, out, models=[*models, "toy:STRICT"], seeds=[7], resume=True)) == 0
    assert (out / "cells" / "good_seed7" / "record.json").read_bytes() == before
    printed = capsys.readouterr().out
    assert "done    bad_seed7" in printed and "3/3 cells" in printed
    assert [x.split()[0] for x in log.read_text().splitlines()] == ["good", "bad", "bad"]
    records = {r.cell: r for r in read_records(out)}
    assert records["good_seed7"].metrics["map50_95"] > records["bad_seed7"].metrics["map50_95"]
    assert records["good_seed7"].metrics["accuracy"] > records["good-strict_seed7"].metrics["accuracy"]
    r = records["bad_seed7"]
    assert r.command == f"python -m yolospine_ultra.benchmark.cell {os.path.relpath(out)} bad_seed7"
    assert r.images == {"train": 8, "val": 4} and r.environment["source"] == read_sweep(out).environment["source"]
    assert r.memory["train_rss"] > 100 and r.seconds["total"] > r.seconds["train"] and r.parameters == 16
    with (out / "comparisons.csv").open() as f:
        row = next(csv.DictReader(f))
    assert (row["a"], row["b"], row["metric"]) == ("good", "bad", "map50_95") and float(row["diff"]) > 0


@pytest.mark.slow
@needs_proc
def test_trainings_run_side_by_side(data, tmp_path, toy_is_importable, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("TOY_LOG", str(log))
    monkeypatch.setenv("TOY_SECONDS", "30")
    asked = [
        "--data",
        data,
        "--models",
        "toy:GOOD,toy:BAD,toy:OTHER",
        "--seeds",
        "0",
        "--latency-rounds",
        "0",
        "--jobs",
        "2",
    ]
    parent = subprocess.Popen([*SCRIPT, *asked, "--out", str(tmp_path / "cut")], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (log.is_file() and len(log.read_text().splitlines()) == 2) or parent.poll() is not None)
    children = [int(x.split()[-1]) for x in log.read_text().splitlines()]
    assert all(is_alive(c) for c in children)
    parent.send_signal(signal.SIGINT)  # both end, and the third never begins
    assert "go on with --resume" in parent.communicate(timeout=20)[1] and parent.returncode == 130
    assert not any(is_alive(c) for c in children) and len(log.read_text().splitlines()) == 2

    monkeypatch.setenv("TOY_SECONDS", "0")
    models = ["toy:GOOD", "toy:BAD", "toy:OTHER"]
    assert run_sweep(toy.options(data, tmp_path / "cut", models=models, seeds=[0], jobs=2, resume=True)) == 0
    assert run_sweep(toy.options(data, tmp_path / "single", models=models, seeds=[0])) == 0
    found = [{r.cell: r.metrics for r in read_records(tmp_path / n)} for n in ("cut", "single")]
    assert found[0] == found[1] and len(found[0]) == 3


@pytest.mark.slow
def test_failures_of_a_cell_are_recorded_and_the_sweep_goes_on(data, tmp_path, toy_is_importable, monkeypatch):
    out = tmp_path / "sweep"
    monkeypatch.setenv("TOY_FAIL", "bad:kill,other:raise")
    models = ["toy:BAD", "toy:OTHER", "toy:GOOD"]
    assert run_sweep(toy.options(data, out, models=models, seeds=[3])) == 1
    records = {r.cell: r for r in read_records(out)}
    assert records["bad_seed3"].error.startswith("the process was ended by SIGKILL")
    assert records["other_seed3"].error == "RuntimeError: the toy is broken"
    assert records["good_seed3"].status == DONE
    with (out / "summary.csv").open() as f:
        assert {r["model"] for r in csv.DictReader(f)} == {"good"}
    # data that changes while a sweep runs is found out by the cell
    (Path(data).parent / "labels" / "val" / "v0.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    with pytest.raises(processes.EnvironmentDiffersError, match="The data has changed since the sweep was begun"):
        processes.run_job(out, read_sweep(out), Job(("good",), 4, None))
    assert len(read_records(out)) == 3


@pytest.mark.slow
def test_equal_seeds_of_a_real_model_give_equal_results(data, tmp_path):
    outs = [tmp_path / "first", tmp_path / "second"]
    for rounds, out in enumerate(outs):
        real = {"models": ["yolov8n"], "seeds": [4], "epochs": 2, "imgsz": 64, "batch": 2}
        recipe = {"warmup_epochs": 0, "lr0": 0.01}
        assert run_sweep(toy.options(data, out, **real, rounds=rounds, recipe=recipe)) == 0
    first, second = (read_records(out)[0] for out in outs)
    assert first.confusion == second.confusion and first.metrics == second.metrics
    files = [(out / "cells" / first.cell / "predictions.json").read_bytes() for out in outs]
    assert files[0] == files[1] and len(json.loads(files[0])) > 3
    first, second = (read_training(out / "work" / first.cell) for out in outs)
    states = [YOLO(t.weights).model.state_dict() for t in (first, second)]
    assert states[0].keys() == states[1].keys() and all((states[0][k] == states[1][k]).all() for k in states[0])
    latency = json.loads((outs[1] / "latency.json").read_text())["models"]["yolov8n"]
    assert latency["median_ms"] > 0 and latency["trained"] is True
    assert not list(Path(data).parent.rglob("*.cache"))  # nothing is left beside the user's data
