"""Tables of several sweeps, against those of one sweep that has all their cells."""

import shutil
import sys
from dataclasses import replace

import pytest
from conftest import REPO, run
from test_summary import find, make_folder, table

from yolospine_ultra.benchmark.merge import TABLES, merge_tables
from yolospine_ultra.benchmark.records import read_sweep, read_truth, write_sweep, write_truth
from yolospine_ultra.benchmark.summary import write_tables


@pytest.fixture
def parts(tmp_path):
    """Two sweeps of one protocol, of seeds 0 and 1 and of seed 2; the latter on another machine, with other seconds."""
    folders = tmp_path / "first", tmp_path / "second"
    for folder, seeds in zip(folders, ((0, 1), (2,)), strict=True):
        make_folder(folder, seeds=seeds)
    sweep = read_sweep(folders[1])
    budget = {**sweep.budget, "device": "0", "threads": 8, "workers": 4, "jobs": 24}
    write_sweep(folders[1], replace(sweep, budget=budget, environment={"torch": "3", "gpus": ["a GPU"]}, commit="d"))
    return folders


def test_merged_tables_are_those_of_one_sweep_with_all_seeds(parts, tmp_path):
    make_folder(tmp_path / "whole", seeds=(0, 1, 2))
    write_tables(tmp_path / "whole", 200)
    before = {f: f.read_bytes() for p in parts for f in p.rglob("*") if f.is_file()}
    assert merge_tables(parts, tmp_path / "new" / "out", 200) == 6
    for name in TABLES:
        assert (tmp_path / "new" / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {f: f.read_bytes() for p in parts for f in p.rglob("*") if f.is_file()} == before


def test_a_failed_cell_of_one_sweep_may_be_done_in_another(parts, tmp_path):
    first, _ = parts
    shutil.rmtree(first)
    make_folder(first, seeds=(0, 1), failed=("bad_seed1",))
    third = tmp_path / "third"
    make_folder(third, seeds=(1,), failed=("good_seed1",))
    assert merge_tables([*parts, third], tmp_path / "out", 20) == 6
    assert find(table(tmp_path / "out" / "summary.csv"), model="bad", metric="map50", **{"class": "all"})["n"] == "3"


def test_a_model_that_one_sweep_lacks_is_there_with_fewer_seeds(parts, tmp_path):
    sweep = read_sweep(parts[1])
    write_sweep(parts[1], replace(sweep, models={"good": sweep.models["good"]}))
    shutil.rmtree(parts[1] / "cells" / "bad_seed2")
    for order in (parts, parts[::-1]):
        merge_tables(order, tmp_path / "out", 20)
        rows = table(tmp_path / "out" / "summary.csv")
        counts = {m: find(rows, model=m, metric="map50", **{"class": "all"})["n"] for m in ("good", "bad")}
        assert counts == {"good": "3", "bad": "2"}


def other_fold(folder):
    truth = read_truth(folder)
    write_truth(folder, replace(truth, patients=["x", *truth.patients[1:]]), list(read_sweep(folder).names.values()))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda f: write_sweep(f, replace(read_sweep(f), fingerprint="g")), r"second.*first.*fingerprint: f, not g"),
        (lambda f: write_sweep(f, replace(read_sweep(f), recipe={"lr0": 0.2})), r"recipe\.lr0: 0\.1, not 0\.2"),
        (other_fold, r"ground_truth\.json"),
        (lambda f: make_folder(f, seeds=(1,)), r"first and .*second both have bad_seed1"),
        (lambda f: (f / "cells" / "good_seed2" / "predictions.json").unlink(), r"good_seed2.*predictions\.tar\.xz"),
    ],
    ids=["data", "recipe", "patients", "twice", "predictions"],
)
def test_what_makes_no_common_table_is_named_and_nothing_is_written(parts, tmp_path, spoil, expected):
    spoil(parts[1])
    with pytest.raises((ValueError, FileNotFoundError), match=expected):
        merge_tables(parts, tmp_path / "out", 20)
    assert not (tmp_path / "out").exists()


def test_tables_of_a_sweep_itself_are_never_replaced(parts):
    write_tables(parts[0], 20)
    before = (parts[0] / "summary.csv").read_bytes()
    with pytest.raises(ValueError, match="tables of its own"):
        merge_tables(parts, parts[0], 20)
    assert (parts[0] / "summary.csv").read_bytes() == before


def test_the_script_says_what_it_made_and_what_it_cannot_use(parts, tmp_path):
    script = [sys.executable, str(REPO / "scripts" / "merge_sweeps.py")]
    done = run([*script, *map(str, parts), "--out", "out"], tmp_path)
    assert done.returncode == 0 and "6 cells of 2 sweeps" in done.stdout
    assert {f.name for f in (tmp_path / "out").iterdir()} == set(TABLES)
    done = run([*script, str(parts[0]), "--out", "none"], tmp_path)
    assert done.returncode == 2 and "expected two or more" in done.stderr
