"""What a sweep keeps: whole files, round trips, and what is refused."""

import dataclasses
import json
import math

import numpy as np
import pytest
import toy
from detections import make_findings

from yolospine_ultra.benchmark.records import (
    DONE,
    Record,
    Sweep,
    Truth,
    read_records,
    read_sweep,
    read_truth,
    write_predictions,
    write_record,
    write_sweep,
    write_truth,
)
from yolospine_ultra.evaluate.findings import ImageFindings, read_predictions


def make_sweep(**changes):
    """A protocol with two rows."""
    made = Sweep(
        dataset="set",
        fingerprint="f",
        names={0: "x", 1: "y"},
        channels=3,
        folds=None,
        budget={"epochs": 1, "imgsz": 64, "batch": 2, "device": "cpu", "threads": 1, "workers": 0},
        recipe={"lr0": 0.1},
        conf=0.25,
        environment={"torch": "2", "cpus": 2},
        commit="abc",
        command="c",
        models={m.name: m for m in (toy.GOOD, toy.BAD)},
    )
    return dataclasses.replace(made, **changes)


def test_a_sweep_comes_back_as_it_was(tmp_path):
    write_sweep(tmp_path, make_sweep())
    assert read_sweep(tmp_path) == make_sweep()
    assert (tmp_path / "work" / ".gitignore").read_text() == "*\n"


def test_what_may_not_be_mixed_is_named():
    here = make_sweep()
    assert here.differences(make_sweep(commit="other", command="other", models={})) == []
    other = make_sweep(fingerprint="g", environment={"torch": "3", "cpus": 2}, budget={**here.budget, "epochs": 2})
    assert here.differences(other) == [
        "fingerprint: f, not g",
        "budget.epochs: 1, not 2",
        "environment.torch: 2, not 3",
    ]
    changed = dataclasses.replace(toy.GOOD, recipe={"lr0": 1})
    assert here.differences(make_sweep(models={"good": changed})) == ["model good is built or trained otherwise"]
    assert here.differences(make_sweep(models={"good": dataclasses.replace(toy.GOOD, note="new")})) == []


def test_a_record_comes_back_with_none_for_what_is_not_defined(tmp_path):
    record = Record(
        cell="good_seed0", dataset="set", model="good", family="toy", scale="n", seed=0, fold=None, status=DONE,
        metrics={"map50": 0.5, "kappa": math.nan}, classes={"x": {"map50": math.nan, "ground_truth": 0}},
        confusion=[[1, 0], [0, 0]], seconds={"train": 1.0}, memory={"train_cuda": None},
    )  # fmt: skip
    write_record(tmp_path, record)
    (back,) = read_records(tmp_path)
    assert back.metrics == {"map50": 0.5, "kappa": None} and back.classes["x"] == {"map50": None, "ground_truth": 0}
    assert dataclasses.replace(back, metrics={}, classes={}) == dataclasses.replace(record, metrics={}, classes={})


def test_truth_and_predictions_come_back(tmp_path):
    truth, found = make_findings(6)
    write_truth(tmp_path, Truth(truth, list("aabbcc"), [0, 0, 1, 1, 0, 1]), ["a", "b", "c", "d"])
    back = read_truth(tmp_path)
    assert back.patients == list("aabbcc") and back.of(1).tolist() == [2, 3, 5] and back.of(None).tolist() == []
    for x, y in zip(back.images, truth, strict=True):
        assert x.name == y.name and (x.classes == y.classes).all()
        np.testing.assert_allclose(x.boxes, y.boxes, atol=1e-9)
    file = write_predictions(tmp_path, "good_seed0", [found[i] for i in back.of(1)], (back.of(1) + 1).tolist())
    read = read_predictions(file, [back.images[i] for i in back.of(1)], 4)
    for x, i in zip(read, back.of(1), strict=True):
        np.testing.assert_allclose(x.boxes, found[i].boxes, atol=2e-3)
        assert (x.scores == found[i].scores).all() and (x.classes == found[i].classes).all()
    entry = json.loads(file.read_text())[0]
    assert entry["category_id"] >= 1 and entry["image_id"] == 3 and entry["file_name"] == truth[2].name


def test_findings_that_rounding_makes_equal_are_written_once(tmp_path):
    box = np.array([[1, 2, 3, 4], [1, 2, 3, 4.0001], [1, 2, 3, 4.1]])
    found = ImageFindings("a.png", box, np.zeros(3, int), np.array([0.5, 0.500001, 0.5]))
    problems = []
    file = write_predictions(tmp_path, "c", [found], [1])
    (back,) = read_predictions(file, [found], 1, problems.append)
    assert problems == [] and back.boxes[:, 3].tolist() == [4, 4.1]


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ('{"format": 0}', "format 0, expected 1"), ("[]", "format list")]
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_sweep(tmp_path)


def test_no_sweep(tmp_path):
    with pytest.raises(FileNotFoundError, match="benchmark_all"):
        read_sweep(tmp_path)
    assert read_records(tmp_path) == []
