"""A sweep from its arguments to its records, with a toy family: what runs, what is refused, resume, latency."""

import json
import os
import runpy
import sys
from functools import partial
from pathlib import Path

import pytest
import toy
from conftest import REPO, run

from yolospine_ultra.benchmark import runner
from yolospine_ultra.benchmark.plan import Job
from yolospine_ultra.benchmark.progress import Progress
from yolospine_ultra.benchmark.records import DONE, FAILED, Record, read_records, read_sweep
from yolospine_ultra.benchmark.runner import run_sweep

SCRIPT = [sys.executable, str(REPO / "scripts" / "benchmark_all.py")]
HERE = str(Path(__file__).parent)


@pytest.fixture
def data(tmp_path):
    """A dataset of 8 and 4 images, every image its own patient."""
    return toy.write_patients(tmp_path / "set")


@pytest.fixture
def toy_is_importable(monkeypatch):
    """Cells find the toy family."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, str(REPO)]))


@pytest.fixture
def in_process(monkeypatch):
    """Jobs are run by a stand-in in this process; returns the list of those that ran."""
    ran = []

    def stand_in(folder, sweep, job, stop):
        ran.append(job.name)
        made = []
        for model, cell in zip(job.models, job.cells, strict=True):
            known = {"dataset": sweep.dataset, "family": "toy", "scale": "n", "seed": job.seed, "fold": job.fold}
            classes = {n: dict.fromkeys(("map50_95", "map75", "map50"), 0.5) for n in sweep.names.values()}
            bad = os.environ.get("TOY_FAIL") == model
            record = Record(
                cell, model=model, status=FAILED if bad else DONE, error="broken" if bad else "", classes=classes,
                confusion=[[1, 0, 0, 0]] * 4, seconds={"epoch": 1.0, "total": 2.0}, **known,
            )  # fmt: skip
            runner_records.write_record(folder, record)
            runner_records.write_predictions(folder, cell, [], [])
            made.append(record)
        return made

    from yolospine_ultra.benchmark import records as runner_records

    monkeypatch.setattr(runner, "run_job", stand_in)
    monkeypatch.setattr(runner, "write_tables", partial(runner.write_tables, resamples=20))
    return ran


def test_a_sweep_is_run_once_and_then_only_what_is_new(data, tmp_path, in_process, capsys):
    out = tmp_path / "sweep"
    assert run_sweep(toy.options(data, out)) == 0
    assert in_process == ["good_seed0", "bad_seed0", "good_seed1", "bad_seed1"]
    assert run_sweep(toy.options(data, out, resume=True)) == 0 and len(in_process) == 4
    assert run_sweep(toy.options(data, out, resume=True, seeds=[0, 1, 2], models=["toy:GOOD", "toy:STRICT"])) == 0
    # the new row shares its training with a row that is done
    assert in_process[4:] == ["good_seed0", "good_seed1", "good_seed2"]
    assert list(read_sweep(out).models) == ["good", "bad", "good-strict"]
    assert capsys.readouterr().out.splitlines()[-1] == f"{out}: 8 cells done, 0 failed"  # each counted once


def test_latency_is_of_all_models_and_again_when_one_is_new(data, tmp_path, in_process, monkeypatch):
    out, timed = tmp_path / "sweep", []

    def stand_in(folder, sweep, jobs, rounds):
        timed.append([(j.models, j.seed) for j in jobs])
        models = {m: {"rounds_ms": [1.0]} for j in jobs for m in j.models}
        (folder / "latency.json").write_text(json.dumps({"models": models}))
        return ""

    monkeypatch.setattr(runner, "run_latency", stand_in)
    assert run_sweep(toy.options(data, out, models=["toy:GOOD"], seeds=[1], rounds=2)) == 0
    assert run_sweep(toy.options(data, out, models=["toy:GOOD"], seeds=[2], rounds=2, resume=True)) == 0
    assert timed == [[(("good",), 1)]]
    assert run_sweep(toy.options(data, out, models=["toy:BAD"], seeds=[2], rounds=2, resume=True)) == 0
    assert timed[1:] == [[(("good",), 1), (("bad",), 2)]]


def test_latency_does_not_miss_a_row_whose_companion_failed(data, tmp_path, in_process, monkeypatch):
    timed = []
    monkeypatch.setattr(runner, "run_latency", lambda *a: timed.extend((j.models, j.seed) for j in a[2]) or "")
    out, both = tmp_path / "sweep", ["toy:GOOD", "toy:STRICT"]
    monkeypatch.setenv("TOY_FAIL", "good-strict")
    assert run_sweep(toy.options(data, out, models=both, seeds=[1], rounds=2)) == 1
    assert timed == [(("good",), 1)]
    monkeypatch.delenv("TOY_FAIL")
    assert run_sweep(toy.options(data, out, models=both, seeds=[2], rounds=2, resume=True)) == 0
    assert timed[1:] == [(("good",), 1), (("good-strict",), 2)]


def test_latency_finds_the_weights_of_rows_that_were_added_in_another_order(data, tmp_path, toy_is_importable):
    out = tmp_path / "sweep"
    assert run_sweep(toy.options(data, out, seeds=[2], models=["toy:STRICT"])) == 0
    both = ["toy:GOOD", "toy:STRICT"]
    assert run_sweep(toy.options(data, out, seeds=[1, 2], models=both, rounds=1, resume=True)) == 0
    timed = json.loads((out / "latency.json").read_text())["models"]
    assert {m: t["trained"] for m, t in timed.items()} == {"good": True, "good-strict": True}


def test_predictions_that_the_tables_need_are_missed_before_anything_is_trained(data, tmp_path, in_process):
    out = tmp_path / "sweep"
    assert run_sweep(toy.options(data, out, seeds=[0])) == 0
    (out / "cells" / "bad_seed0" / "predictions.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"bad_seed0.*predictions\.tar\.xz"):
        run_sweep(toy.options(data, out, seeds=[1], resume=True))
    assert in_process == ["good_seed0", "bad_seed0"]


def test_a_failed_cell_is_reported_and_runs_again(data, tmp_path, in_process, monkeypatch, capsys):
    out = tmp_path / "sweep"
    monkeypatch.setenv("TOY_FAIL", "bad")
    assert run_sweep(toy.options(data, out, seeds=[0])) == 1
    assert "failed: bad_seed0: broken" in capsys.readouterr().err
    monkeypatch.delenv("TOY_FAIL")
    assert run_sweep(toy.options(data, out, seeds=[0], resume=True)) == 0 and in_process[2:] == ["bad_seed0"]


def test_what_may_not_be_mixed_is_refused(data, tmp_path, in_process):
    out = tmp_path / "sweep"
    assert run_sweep(toy.options(data, out, seeds=[0])) == 0
    before = {f: f.read_bytes() for f in out.rglob("*") if f.is_file() and "work" not in f.parts}
    with pytest.raises(FileExistsError, match="go on with --resume"):
        run_sweep(toy.options(data, out, seeds=[0]))
    for change, message in (
        ({"epochs": 5}, r"budget\.epochs: 5, not 60"),
        ({"recipe": {"lr0": 1}}, "recipe.lr0: 1, not"),
    ):
        with pytest.raises(ValueError, match=message):
            run_sweep(toy.options(data, out, resume=True, **change))
    label = Path(data).parent / "labels" / "train" / "0.txt"
    label.write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(ValueError, match="fingerprint"):
        run_sweep(toy.options(data, out, resume=True))
    assert {f: f.read_bytes() for f in before} == before and len(in_process) == 2


def test_trainings_begin_with_the_weights_of_another_sweep(data, tmp_path, toy_is_importable):
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_sweep(toy.options(data, first, seeds=[2, 3], models=["toy:GOOD", "toy:STRICT"])) == 0
    assert run_sweep(toy.options(data, second, seeds=[3], models=["toy:STRICT"], init=first)) == 0
    assert json.loads((second / "work/good-strict_seed3/model/weights.json").read_text()) == 303
    assert read_sweep(second).initial["sweep"] == "../first" and read_sweep(second).initial["dataset"] == "data"
    # one that is not there fails as a cell, and what was trained from scratch is never mixed with it
    assert run_sweep(toy.options(data, second, seeds=[3, 4], models=["toy:STRICT"], init=first, resume=True)) == 1
    failed = [r.error for r in read_records(second) if r.status == FAILED]
    assert len(failed) == 1 and "no weights of good-strict with seed 4 to begin with" in failed[0]
    with pytest.raises(ValueError, match=r"initial\.dataset: None, not data"):
        run_sweep(toy.options(data, second, seeds=[3], models=["toy:STRICT"], resume=True))


def test_the_sweep_that_trainings_begin_from_may_move(data, tmp_path, toy_is_importable):
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_sweep(toy.options(data, first, seeds=[2, 3], models=["toy:GOOD"])) == 0
    assert run_sweep(toy.options(data, second, seeds=[2], models=["toy:GOOD"], init=first)) == 0
    first.rename(tmp_path / "moved")
    assert (
        run_sweep(toy.options(data, second, seeds=[3], models=["toy:GOOD"], init=tmp_path / "moved", resume=True)) == 0
    )
    assert read_sweep(second).initial["sweep"] == "../moved"


def test_a_training_serves_rows_that_are_added_in_another_order(data, tmp_path, toy_is_importable, monkeypatch):
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    out = tmp_path / "sweep"
    assert run_sweep(toy.options(data, out, seeds=[2], models=["toy:GOOD"])) == 0
    assert run_sweep(toy.options(data, out, seeds=[2], models=["toy:STRICT", "toy:GOOD"], resume=True)) == 0
    assert len((tmp_path / "log").read_text().splitlines()) == 1
    assert {r.cell for r in read_records(out)} == {"good_seed2", "good-strict_seed2"}


def test_packages_of_a_family_do_not_mix(tmp_path):
    from yolospine_ultra.benchmark.cell import check_packages
    from yolospine_ultra.benchmark.records import write_record

    known = {"dataset": "d", "scale": "", "seed": 0, "fold": None, "error": "", "classes": {}, "confusion": []}
    environment = {"family_packages": {"timm": "1.0"}}
    write_record(tmp_path, Record("a_seed0", model="a", family="toy", status=DONE, environment=environment, **known))
    check_packages(tmp_path, "toy", {"timm": "1.0"})
    check_packages(tmp_path, "other", {"timm": "2.0"})
    with pytest.raises(ValueError, match=r"a_seed0 was made with .*1\.0.* here are .*2\.0"):
        check_packages(tmp_path, "toy", {"timm": "2.0"})


def test_a_family_that_cannot_begin_with_weights_says_so(data, tmp_path, in_process):
    assert run_sweep(toy.options(data, tmp_path / "first", seeds=[0])) == 0
    with pytest.raises(ValueError, match="alone: of a family that trains from scratch only"):
        run_sweep(toy.options(data, tmp_path / "second", models=["toy:GOOD", "toy:ALONE"], init=tmp_path / "first"))
    with pytest.raises(FileNotFoundError):
        run_sweep(toy.options(data, tmp_path / "second", init=tmp_path / "nothing"))
    assert not (tmp_path / "second").exists()


def test_another_source_is_another_environment(data, tmp_path, in_process, monkeypatch):
    out = tmp_path / "sweep"
    run_sweep(toy.options(data, out, seeds=[0]))
    here = runner.environment("cpu", 1)
    monkeypatch.setattr(runner, "environment", lambda *_: {**here, "source": "another"})
    with pytest.raises(ValueError, match=r"environment\.source: another, not"):
        run_sweep(toy.options(data, out, seeds=[0], resume=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs=0; expected at least 1"),
        ({"jobs": 0}, "jobs=0; expected at least 1"),
        ({"jobs": 2, "ray": "auto"}, "--jobs is of this machine alone"),
        ({"seeds": []}, "expected at least one whole number"),
        ({"conf": 2}, "conf=2"),
        ({"recipe": {"lr": 1}}, "'lr' is no training argument"),
        ({"recipe": {"lr0": "fast"}}, "--set: .*lr0"),
        ({"recipe": {"patience": 10}}, "'patience' is not for --set"),
        ({"device": "gpu"}, "device=gpu is unknown"),
        ({"device": "98,99"}, "this machine has"),
        ({"models": ["toy:ABSENT"]}, "no model is left"),
        ({"resume": True}, "holds no sweep"),
    ],
)
def test_bad_input_writes_nothing(data, tmp_path, change, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_sweep(toy.options(data, tmp_path / "sweep", **change))
    assert not (tmp_path / "sweep").exists()


def test_a_missing_package_skips_its_rows_only(data, tmp_path, in_process, capsys):
    assert run_sweep(toy.options(data, tmp_path / "sweep", models=["toy:ABSENT", "toy:GOOD"], seeds=[0])) == 0
    assert "skipped: absent needs a_package_that_is_not_there: pip install" in capsys.readouterr().err
    assert in_process == ["good_seed0"]


def test_a_dry_run_prints_the_plan_and_writes_nothing(data, tmp_path, capsys):
    assert run_sweep(toy.options(data, tmp_path / "sweep", folds=4, dry_run=True)) == 0
    printed = capsys.readouterr().out
    assert printed.count("good_seed") == 8 and "9 images of 9 patients to train on, 3 of 3 to evaluate on" in printed
    assert not (tmp_path / "sweep").exists()


def test_a_run_that_ended_before_its_first_file_is_no_sweep(data, tmp_path, in_process):
    out = tmp_path / "sweep"
    (out / "work").mkdir(parents=True)
    (out / "work" / "lock").touch()
    with pytest.raises(FileNotFoundError, match="holds no sweep; begin it without --resume"):
        run_sweep(toy.options(data, out, seeds=[0], resume=True))
    assert run_sweep(toy.options(data, out, seeds=[0])) == 0 and len(in_process) == 2


def test_two_runs_do_not_write_one_sweep(data, tmp_path, in_process):
    from filelock import FileLock

    out = tmp_path / "sweep"
    run_sweep(toy.options(data, out, seeds=[0]))
    with FileLock(out / "work" / "lock"), pytest.raises(ValueError, match="being written by another run"):
        run_sweep(toy.options(data, out, seeds=[0], resume=True))


def test_the_time_that_is_left_is_told_from_what_is_done():
    jobs = [Job((m,), s, None) for s in (0, 1) for m in ("a", "b")]
    progress = Progress(jobs, [])
    assert progress.remaining() == "?"
    known = {"dataset": "d", "family": "f", "scale": "", "seed": 0, "fold": None, "status": DONE}
    progress.finished(jobs[0], [Record("a_seed0", model="a", seconds={"total": 100.0, "epoch": 1.0}, **known)])
    assert progress.remaining() == "0:05:00"  # b takes as long as a for all that is known
    progress.finished(jobs[1], [Record("b_seed0", model="b", seconds={"total": 20.0, "epoch": 1.0}, **known)])
    assert progress.remaining() == "0:02:00"


def test_lines_of_trainings_side_by_side_stay_lines(monkeypatch):
    written = []
    job = Job(("a",), 0, None)
    known = {"dataset": "d", "family": "f", "scale": "", "seed": 0, "fold": None, "status": DONE}
    progress = Progress([job], [])
    monkeypatch.setattr(sys.stdout, "write", written.append)
    progress.started(job)
    progress.finished(job, [Record("a_seed0", model="a", seconds={"total": 1.0, "epoch": 1.0}, **known)])
    monkeypatch.undo()
    # threads take turns between calls: a line and its end in two of them may come apart
    assert len(written) == 2 and all(line.endswith("\n") for line in written)


def test_the_live_table_has_a_row_a_model():
    from rich.console import Console

    jobs = [Job((m,), 0, None) for m in ("a", "b")]
    progress = Progress(jobs, [])
    progress.started(jobs[0])
    known = {"dataset": "d", "family": "f", "scale": "", "seed": 0, "fold": None, "status": DONE}
    seconds = {"total": 20.0, "epoch": 2.5}
    progress.finished(jobs[1], [Record("b_seed0", model="b", seconds=seconds, metrics={"map50_95": 0.25}, **known)])
    console = Console(width=100)
    with console.capture() as capture:
        console.print(progress._table())
    shown = capture.get()
    assert "1/2 cells" in shown and "seed0 0:00:0" in shown and "0.250" in shown and "2.5" in shown


def test_the_command_takes_what_the_user_types(data, tmp_path, in_process, monkeypatch, capsys):
    def type_in(text):
        monkeypatch.setattr(sys, "argv", ["benchmark_all.py", *text.split()])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(SCRIPT[1], run_name="__main__")
        return ended.value.code

    given = f"--data {data} --models toy:GOOD --seeds 5 --latency-rounds 0 --out {tmp_path / 'sweep'}"
    assert type_in(f"{given} --set lr0=0.5 --set cos_lr=false --epochs 3") == 0
    sweep = read_sweep(tmp_path / "sweep")
    assert (sweep.recipe["lr0"], sweep.recipe["cos_lr"], sweep.budget["epochs"]) == (0.5, False, 3)
    assert in_process == ["good_seed5"] and "benchmark_all.py --data" in sweep.command
    assert type_in(given) == 2 and "go on with --resume" in capsys.readouterr().err
    assert type_in(f"{given} --set lr0") == 2 and "expected KEY=VALUE" in capsys.readouterr().err
    assert type_in("--models yolov8n") == 2 and "--data, --models and --out are needed" in capsys.readouterr().err
    assert type_in("--list") == 0 and "rtdetr-l" in capsys.readouterr().out


# in real processes, of which each takes seconds to begin ------------------------------------------------------------


@pytest.mark.slow
def test_bad_input_of_the_command_is_one_sentence(tmp_path):
    done = run([*SCRIPT, "--data", "none.yaml", "--models", "yolov8n", "--out", str(tmp_path / "s")], tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("benchmark_all: ") and "Traceback" not in done.stderr


def test_the_toy_family_keeps_to_the_contract(data, tmp_path):
    from yolospine_ultra.benchmark.cell import detect
    from yolospine_ultra.benchmark.dataset import make_view, read_data

    cell = make_view(read_data(data), None, tmp_path / "view")
    detector = toy.FAMILY.load(toy.GOOD, None, cell, None)
    assert len(detect(detector, cell.val)) == 4

    class Reversed:
        def detect(self, images):
            return detector.detect(images)[::-1]

    with pytest.raises(ValueError, match="in another order"):
        detect(Reversed(), cell.val)
