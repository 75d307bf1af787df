"""Tables of several sweeps, against those of one sweep that has all their cells."""

import shutil
import sys
from dataclasses import replace

import pytest
from conftest import REPO, run, script_here
from test_summary import find, make_folder, table

from yolospine_ultra.benchmark.merge import merge_tables
from yolospine_ultra.benchmark.records import (
    read_record,
    read_sweep,
    read_truth,
    write_record,
    write_sweep,
    write_truth,
)
from yolospine_ultra.benchmark.summary import write_tables

TABLES = ("summary.csv", "comparisons.csv", "ranks.csv")


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
    for file in (tmp_path / "whole" / "cells").iterdir():  # what is the machine's is left out
        record = read_record(tmp_path / "whole", file.name)
        write_record(tmp_path / "whole", replace(record, seconds={}, memory={}))
    write_tables(tmp_path / "whole", 200)
    before = {f: f.read_bytes() for p in parts for f in p.rglob("*") if f.is_file()}
    out = tmp_path / "new" / "out"
    made = merge_tables(parts, out, 200)
    assert (made.cells, made.common) == (6, [0, 1, 2])
    assert {d.split(": ")[1] for d in made.differences} == {
        "budget.device", "budget.threads", "budget.workers", "budget.jobs", "environment.torch", "environment.cpus",
        "environment.gpus", "commit",
    }  # fmt: skip
    expected = [(tmp_path / "whole" / name).read_bytes() for name in TABLES]
    assert [(out / name).read_bytes() for name in TABLES] == expected
    merge_tables(parts, out, 200)  # again, over its own tables
    assert [(out / name).read_bytes() for name in TABLES] == expected
    assert {f: f.read_bytes() for p in parts for f in p.rglob("*") if f.is_file()} == before


def test_the_folds_of_a_seed_may_lie_in_two_sweeps(tmp_path):
    names = [f"{m}_seed0_fold{f}" for m in ("good", "bad") for f in range(2)]
    for part, failed in (("a", names[1::2]), ("b", names[::2])):
        make_folder(tmp_path / part, folds=2, seeds=(0,), failed=failed)
    make_folder(tmp_path / "c", folds=2, seeds=(1,), failed=("bad_seed1_fold0",))
    made = merge_tables([tmp_path / p for p in "abc"], tmp_path / "out", 20)
    assert (made.cells, made.common) == (6, [0])
    make_folder(tmp_path / "whole", folds=2, seeds=(0, 1), failed=("bad_seed1_fold0",))
    write_tables(tmp_path / "whole", 20)
    for name in TABLES[1:]:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_model_without_a_seed_takes_no_ranks_away(parts, tmp_path):
    for cell in ("bad_seed0", "bad_seed1"):
        shutil.rmtree(parts[0] / "cells" / cell)
    shutil.rmtree(parts[1] / "cells" / "bad_seed2")
    assert merge_tables(parts, tmp_path / "out", 20).common == [0, 1, 2]
    assert {r["model"] for r in table(tmp_path / "out" / "ranks.csv")} == {"good"}


def test_folds_of_which_no_seed_is_whole_make_empty_tables(tmp_path):
    make_folder(tmp_path / "a", folds=2, seeds=(0,), failed=("good_seed0_fold0", "bad_seed0_fold0"))
    make_folder(tmp_path / "b", folds=2, seeds=(1,), failed=("good_seed1_fold1", "bad_seed1_fold1"))
    made = merge_tables([tmp_path / "a", tmp_path / "b"], tmp_path / "out", 20)
    assert (made.cells, made.common) == (0, []) and table(tmp_path / "out" / "summary.csv") == []


def test_models_that_share_no_seed_have_no_ranks(parts, tmp_path):
    for folder, cells in zip(parts, (("bad_seed0", "bad_seed1"), ("good_seed2",)), strict=True):
        for cell in cells:
            shutil.rmtree(folder / "cells" / cell)
    assert merge_tables(parts, tmp_path / "out", 20).common == []
    assert table(tmp_path / "out" / "ranks.csv") == table(tmp_path / "out" / "comparisons.csv") == []


def test_a_failed_cell_of_one_sweep_may_be_done_in_another(parts, tmp_path):
    first, _ = parts
    shutil.rmtree(first)
    make_folder(first, seeds=(0, 1), failed=("bad_seed1",))
    third = tmp_path / "third"
    make_folder(third, seeds=(1,), failed=("good_seed1",))
    assert merge_tables([*parts, third], tmp_path / "out", 20).cells == 6
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


def change(**changes):
    """Spoils a sweep's protocol."""
    return lambda folder: write_sweep(folder, replace(read_sweep(folder), **changes))


def longer(folder):
    sweep = read_sweep(folder)
    write_sweep(folder, replace(sweep, budget={**sweep.budget, "epochs": 2}))


def other_build(folder):
    models = read_sweep(folder).models
    change(models={**models, "good": replace(models["good"], build={"other": 1})})(folder)


def other_patients(folder):
    truth = read_truth(folder)
    write_truth(folder, replace(truth, patients=["x", *truth.patients[1:]]), list(read_sweep(folder).names.values()))


def shared_row(folder):
    """The second sweep has a row more, of the training of seed 1 that the first sweep has as another row."""
    models = read_sweep(folder).models
    change(models={**models, "again": replace(models["good"], name="again", predict={"x": 1})})(folder)
    record = read_record(folder, "good_seed2")
    shutil.copytree(folder / "cells" / "good_seed2", folder / "cells" / "again_seed1")
    write_record(folder, replace(record, cell="again_seed1", model="again", seed=1))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (change(fingerprint="g"), r"second.*first.*fingerprint: f, not g"),
        (change(recipe={"lr0": 0.2}), r"recipe\.lr0: 0\.1, not 0\.2"),
        (change(folds=2), r"folds: None, not 2"),
        (change(initial={"epochs": 3}), r"initial\.epochs: None, not 3"),
        (longer, r"budget\.epochs: 1, not 2"),
        (other_build, r"model good is built"),
        (other_patients, r"ground_truth\.json"),
        (lambda f: make_folder(f, seeds=(1,)), r"first and .*second both have the training of bad_seed1"),
        (shared_row, r"first and .*second both have the training of again_seed1.*good, again"),
        (lambda f: (f / "cells" / "good_seed2" / "predictions.json").unlink(), r"second/cells/good_seed2.*tar\.xz"),
        (lambda f: shutil.rmtree(f / "cells"), r"second has no finished cell"),
        (lambda f: (f / "ground_truth.json").unlink(), r"second/ground_truth\.json is not there"),
    ],
)
def test_what_makes_no_common_table_is_named_and_nothing_is_written(parts, tmp_path, spoil, expected):
    spoil(parts[1])
    with pytest.raises((ValueError, FileNotFoundError), match=expected):
        merge_tables(parts, tmp_path / "out", 20)
    assert not (tmp_path / "out").exists()


def test_every_sweep_is_held_to_what_those_before_it_say(parts, tmp_path):
    third = tmp_path / "third"
    make_folder(third, seeds=(3,))
    new = replace(read_sweep(third).models["good"], name="new", build={"new": 1})
    for folder, model in ((parts[1], new), (third, replace(new, build={"new": 2}))):
        change(models={**read_sweep(folder).models, "new": model})(folder)
    with pytest.raises(ValueError, match=r"third.*model new is built"):
        merge_tables([*parts, third], tmp_path / "out", 20)


@pytest.mark.parametrize("inside", ["", "cells/good_seed0"])
def test_tables_of_a_sweep_itself_are_never_replaced(parts, tmp_path, inside):
    stranger = tmp_path / "stranger"
    make_folder(stranger)
    write_tables(stranger, 20)
    before = {f: f.read_bytes() for f in stranger.rglob("*") if f.is_file()}
    with pytest.raises(ValueError, match="tables of its own"):
        merge_tables(parts, stranger / inside, 20)
    assert {f: f.read_bytes() for f in stranger.rglob("*") if f.is_file()} == before


def test_a_link_in_the_folder_is_replaced_and_not_followed(parts, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "mine.csv").write_text("mine")
    (tmp_path / "out" / "summary.csv").symlink_to(tmp_path / "mine.csv")
    merge_tables(parts, tmp_path / "out", 20)
    assert (tmp_path / "mine.csv").read_text() == "mine"
    assert (tmp_path / "out" / "summary.csv").read_text().startswith("dataset,")


def test_the_script_says_what_it_made_and_what_it_cannot_use(parts, tmp_path, monkeypatch, capsys):
    script = [sys.executable, str(REPO / "scripts" / "merge_sweeps.py")]
    done = run([*script, *map(str, parts), "--out", "out"], tmp_path)
    assert done.returncode == 0 and "6 cells of 2 sweeps, ranks over seeds 0, 1, 2" in done.stdout
    assert "second: environment.torch: 2, not 3" in done.stdout
    assert {f.name for f in (tmp_path / "out").iterdir()} == set(TABLES)
    monkeypatch.chdir(tmp_path)
    for given, out, word in ((parts[:1], "none", "expected two or more"), (parts, "out/ranks.csv", "is a file")):
        assert script_here(monkeypatch, "merge_sweeps", *given, "--out", out) == 2
        assert word in capsys.readouterr().err
