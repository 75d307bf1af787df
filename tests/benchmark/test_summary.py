"""Tables of a sweep whose records are made here, against values worked out apart."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import REPO
from detections import make_findings
from test_records import make_sweep

from yolospine_ultra.benchmark import summary
from yolospine_ultra.benchmark.measure import measure_again
from yolospine_ultra.benchmark.merge import merged_protocol
from yolospine_ultra.benchmark.metrics import agreement, evaluate
from yolospine_ultra.benchmark.records import (
    DONE,
    FAILED,
    Record,
    Truth,
    cell_name,
    read_record,
    read_records,
    read_sweep,
    read_truth,
    write_json,
    write_predictions,
    write_record,
    write_sweep,
    write_truth,
)
from yolospine_ultra.benchmark.summary import write_tables
from yolospine_ultra.evaluate.findings import ImageFindings

RESULTS = REPO / "results"
NAMES = ["a", "b", "c", "d"]


def spoil(found, seed):
    """Detections of which half lie elsewhere."""
    rng = np.random.default_rng(seed)
    return [ImageFindings(x.name, x.boxes + 300 * (rng.random((len(x), 1)) < 0.5), x.classes, x.scores) for x in found]


def make_folder(folder, folds=None, seeds=(0, 1, 2), failed=()):
    """A sweep of two models; "bad" finds half of what "good" does. Returns its evaluations by cell."""
    truth, _ = make_findings(16, 4, 0, absent=(3,))
    where = [None if folds is None else (i // 2) % folds for i in range(16)]
    write_sweep(folder, make_sweep(names=dict(enumerate(NAMES)), folds=folds))
    write_truth(folder, Truth(truth, [x.name.split("_")[0] for x in truth], where), NAMES)
    own = read_truth(folder)
    made = {}
    for seed in seeds:
        _, found = make_findings(16, 4, 0, absent=(3,))
        found = [ImageFindings(x.name, x.boxes + seed, x.classes, x.scores) for x in found]
        for model, images in (("good", found), ("bad", spoil(found, seed))):
            for fold in [None] if folds is None else range(folds):
                cell, index = cell_name(model, seed, fold), own.of(fold)
                known = {"dataset": "set", "model": model, "family": "toy", "scale": "n", "seed": seed, "fold": fold}
                if cell in failed:
                    write_record(folder, Record(cell, status=FAILED, error="e", **known))
                    continue
                some = [images[i] for i in index]
                write_predictions(folder, cell, some, (index + 1).tolist())
                e = made[cell] = evaluate([own.images[i] for i in index], some, NAMES, 0.25)
                held = {"train_rss": 100.0, "train_cuda": None}
                record = Record(
                    cell, status=DONE, metrics=e.metrics, classes=e.classes, confusion=e.confusion.tolist(),
                    seconds={"epoch": 2.0 + seed, "total": 9.0}, memory=held, parameters=7, **known,
                )  # fmt: skip
                write_record(folder, record)
    return made


def table(file):
    with file.open(newline="") as f:
        return list(csv.DictReader(f))


def find(rows, **wanted):
    (row,) = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
    return row


def test_summary_over_seeds(tmp_path):
    made = make_folder(tmp_path)
    write_json(tmp_path / "latency.json", {"models": {"good": {"rounds_ms": [4.0, 6.0]}}})
    write_tables(tmp_path, 200)
    rows = table(tmp_path / "summary.csv")
    assert list(rows[0]) == ["dataset", "model", "scale", "metric", "class", "n", "mean", "sd", "ci_low", "ci_high"]
    values = [made[f"good_seed{s}"].metrics["map50_95"] for s in range(3)]
    row = find(rows, model="good", metric="map50_95", **{"class": "all"})
    assert float(row["mean"]) == pytest.approx(np.mean(values), rel=1e-5) and row["n"] == "3" and row["scale"] == "n"
    half = 4.302653 * np.std(values, ddof=1) / math.sqrt(3)  # t of two degrees of freedom
    assert float(row["ci_high"]) == pytest.approx(np.mean(values) + half, rel=1e-4)
    row = find(rows, model="good", metric="map50", **{"class": "b"})
    assert float(row["mean"]) == pytest.approx(
        np.mean([made[f"good_seed{s}"].classes["b"]["map50"] for s in range(3)]), rel=1e-5
    )
    # a class without ground truth has nothing to average
    row = find(rows, model="good", metric="map50_95", **{"class": "d"})
    assert (row["n"], row["mean"], row["sd"]) == ("0", "", "")
    assert find(rows, model="bad", metric="seconds_epoch", **{"class": "all"})["mean"] == "3"
    assert find(rows, model="bad", metric="memory_train_cuda", **{"class": "all"})["mean"] == ""
    assert find(rows, model="good", metric="latency_ms", **{"class": "all"})["mean"] == "5"


def test_comparisons_are_paired_and_ranks_follow(tmp_path):
    made = make_folder(tmp_path)
    write_tables(tmp_path, 200)
    rows = table(tmp_path / "comparisons.csv")
    assert list(rows[0]) == ["dataset", "a", "b", "metric", "diff", "ci_low", "ci_high"]
    row = find(rows, metric="map50_95")
    assert (row["a"], row["b"]) == ("good", "bad")
    diff = np.mean(
        [made[f"good_seed{s}"].metrics["map50_95"] - made[f"bad_seed{s}"].metrics["map50_95"] for s in range(3)]
    )
    assert float(row["diff"]) == pytest.approx(diff, abs=1e-4)
    assert 0 < float(row["ci_low"]) < float(row["diff"]) < float(row["ci_high"])
    row = find(rows, metric="recall_fp1")
    values = [[made[f"{m}_seed{s}"].metrics["recall_fp1"] for s in range(3)] for m in ("good", "bad")]
    assert float(row["diff"]) == pytest.approx(np.mean(values[0]) - np.mean(values[1]), abs=1e-4)
    assert float(row["ci_low"]) < float(row["diff"]) < float(row["ci_high"])
    ranked = table(tmp_path / "ranks.csv")
    good, bad = (float(find(ranked, model=m, metric="map50_95")["mean_rank"]) for m in ("good", "bad"))
    assert good + bad == pytest.approx(3) and good < 1.1
    before = (tmp_path / "comparisons.csv").read_bytes()
    write_tables(tmp_path, 200)
    assert (tmp_path / "comparisons.csv").read_bytes() == before


def test_a_seed_counts_when_all_its_folds_are_done(tmp_path):
    made = make_folder(tmp_path, folds=2, seeds=(0, 1), failed=("bad_seed1_fold1",))
    write_tables(tmp_path, 200)
    rows = table(tmp_path / "summary.csv")
    assert find(rows, model="good", metric="mcc", **{"class": "all"})["n"] == "2"
    assert find(rows, model="bad", metric="mcc", **{"class": "all"})["n"] == "1"
    # agreement is that of both folds together; the AP of a class is the mean of its folds
    both = made["bad_seed0_fold0"].confusion + made["bad_seed0_fold1"].confusion
    row = find(rows, model="bad", metric="macro_f1", **{"class": "all"})
    assert float(row["mean"]) == pytest.approx(agreement(both)["macro_f1"], rel=1e-5)
    row = find(rows, model="bad", metric="map50", **{"class": "a"})
    expected = np.mean([made[f"bad_seed0_fold{f}"].classes["a"]["map50"] for f in range(2)])
    assert float(row["mean"]) == pytest.approx(expected, rel=1e-5)
    assert find(table(tmp_path / "ranks.csv"), model="good", metric="map50")["n"] == "1"


def test_a_value_that_one_seed_lacks_is_made_of_the_others(tmp_path):
    """Of a record of an older version, whichever it is."""
    make_folder(tmp_path)
    for cell, held in (("good_seed0", {}), ("bad_seed2", {"train_rss": 50.0})):
        record = read_record(tmp_path, cell)
        metrics = {k: v for k, v in record.metrics.items() if k != "recall_fp1"}
        write_record(tmp_path, replace(record, memory=held, metrics=metrics))
    write_tables(tmp_path, 20)
    rows = table(tmp_path / "summary.csv")
    for model in ("good", "bad"):
        assert find(rows, model=model, metric="recall_fp1", **{"class": "all"})["n"] == "2"
    assert find(rows, model="good", metric="memory_train_rss", **{"class": "all"})["mean"] == "100"


def summary_of(sweep, records, latency, file):
    """`summary.csv` of records, as text."""
    summary._write(file, summary.SUMMARY, summary.summary_rows(sweep, summary.complete_seeds(sweep, records), latency))
    return file.read_text()


@pytest.mark.parametrize(
    "folder",
    sorted(f.parent for f in RESULTS.glob("**/sweep.json")),
    ids=lambda f: f.relative_to(RESULTS).as_posix(),
)
def test_committed_summaries_are_what_their_records_make(folder, tmp_path):
    made = summary_of(read_sweep(folder), read_records(folder), summary.read_latency(folder), tmp_path / "made.csv")
    assert made == (folder / "summary.csv").read_text()


@pytest.mark.parametrize(
    ("folder", "parts"),
    [
        ("spider-lumbar-cv", ["spider-lumbar-cv/seed0", "spider-lumbar-cv/seed1"]),
        ("spider-lumbar-n256-all", ["spider-lumbar-n256", "spider-lumbar-n256-gpu"]),
    ],
)
def test_committed_summaries_of_several_sweeps_are_what_their_records_make(folder, parts, tmp_path):
    whole, _ = merged_protocol([RESULTS / part for part in parts])
    records = [replace(r, seconds={}, memory={}) for part in parts for r in read_records(RESULTS / part)]
    assert summary_of(whole, records, {}, tmp_path / "made.csv") == (RESULTS / folder / "summary.csv").read_text()


def test_a_sweep_is_measured_again_from_its_predictions(tmp_path):
    make_folder(tmp_path, folds=2, seeds=(0,), failed=("bad_seed0_fold1",))
    write_tables(tmp_path)
    files = [*tmp_path.glob("cells/*/record.json"), *tmp_path.glob("*.csv")]
    before = {f: f.read_bytes() for f in files}
    record = read_record(tmp_path, "good_seed0_fold1")
    write_record(tmp_path, replace(record, metrics={"old": 1.0}, classes={}, confusion=[]))
    assert measure_again(tmp_path) == 3
    assert {f: f.read_bytes() for f in files} == before
    missing = tmp_path / "cells" / "good_seed0_fold0" / "predictions.json"
    missing.unlink()
    with pytest.raises(FileNotFoundError, match=r"predictions\.tar\.xz"):
        measure_again(tmp_path)
    assert {f: f.read_bytes() for f in files} == before


def test_one_model_and_none(tmp_path):
    make_folder(tmp_path, seeds=(0,), failed=("bad_seed0",))
    write_tables(tmp_path, 200)
    assert table(tmp_path / "comparisons.csv") == []
    assert {r["model"] for r in table(tmp_path / "summary.csv")} == {"good"}
    row = find(table(tmp_path / "summary.csv"), metric="map50_95", **{"class": "all"})
    assert row["n"] == "1" and row["sd"] == row["ci_low"] == ""


def test_one_patient_gives_differences_without_intervals_and_no_ranks(tmp_path):
    """However many images the patient has: these are no independent cases."""
    make_folder(tmp_path)
    own = read_truth(tmp_path)
    write_truth(tmp_path, replace(own, patients=["one"] * len(own.images)), NAMES)
    write_tables(tmp_path, 200)
    rows = table(tmp_path / "comparisons.csv")
    assert float(find(rows, metric="map50_95")["diff"]) > 0 and {r["ci_low"] + r["ci_high"] for r in rows} == {""}
    assert table(tmp_path / "ranks.csv") == []


def curve(value, spread=()):
    """A seed's values: without resampling, then of each resample; alike for all measures."""
    return np.repeat(np.array([value, *(value + s for s in spread)])[:, None], len(summary.COMPARED), 1)


def test_seeds_that_one_model_lacks_count_for_neither():
    a, b = {0: curve(0.5), 1: curve(0.6), 2: curve(5.0)}, {0: curve(0.4), 1: curve(0.4)}
    rows = summary._compare("d", {"a": a, "b": b}, {"a": 0, "b": 1})
    assert {round(r["diff"], 9) for r in rows} == {0.15}


def test_seeds_are_drawn_with_the_patients_and_alike_for_rows_of_one_training():
    patients = np.random.default_rng(0).normal(0, 0.01, 500)
    a = {s: curve(0.5 + 0.1 * s, patients) for s in range(3)}
    b = {s: curve(0.4 + 0.1 * s, patients) for s in range(3)}
    # rows of one training: neither seeds nor patients move the difference, and that says nothing of the spread
    (row, *_) = summary._compare("d", {"a": a, "b": b}, {"a": 0, "b": 0})
    assert row["diff"] == pytest.approx(0.1) and row["ci_low"] is None
    # two trainings: the seeds of each are drawn by themselves, sd sqrt(2 * 0.1^2 / 3) = 0.082
    (row, *_) = summary._compare("d", {"a": a, "b": b}, {"a": 0, "b": 1})
    assert row["ci_low"] < -0.02 and row["ci_high"] > 0.22


def test_no_difference_at_all_has_no_interval_and_no_sign():
    a = {0: curve(-0.0, (0.0, 0.0))}
    (row, *_) = summary._compare("d", {"a": a, "b": {0: curve(0.0, (0.0, 0.0))}}, {"a": 0, "b": 1})
    assert math.copysign(1, row["diff"]) == 1 and row["ci_low"] is row["ci_high"] is None


def test_missing_predictions_are_named_before_a_table_is_written(tmp_path):
    make_folder(tmp_path)
    write_tables(tmp_path, 20)
    before = {f: f.read_bytes() for f in tmp_path.glob("*.csv")}
    record = read_record(tmp_path, "good_seed0")
    write_record(tmp_path, replace(record, metrics={**record.metrics, "map50_95": 0.0}))
    (tmp_path / "cells" / "good_seed0" / "predictions.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"good_seed0.*predictions\.tar\.xz"):
        write_tables(tmp_path, 20)
    assert {f: f.read_bytes() for f in tmp_path.glob("*.csv")} == before
