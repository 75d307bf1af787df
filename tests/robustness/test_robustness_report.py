"""The report, its pictures, its models, and the command from end to end."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import REPO, write_dataset

from yolospine_ultra.benchmark.detectors import load_detector, name_models
from yolospine_ultra.engine.model import PluginDetectionModel
from yolospine_ultra.evaluate.images import StudyImages
from yolospine_ultra.robustness.degrade import conditions
from yolospine_ultra.robustness.plots import draw_degradations, save_plots
from yolospine_ultra.robustness.report import format_report, robustness_report
from yolospine_ultra.robustness.study import CLEAN, Cells, Settings

SCRIPT = REPO / "scripts" / "robustness.py"
CHOSEN = conditions(["gaussian", "bias", "contrast"])


def made(lost, labelled=True, detections=10):
    """Cells of models a and b; `lost` is what a level costs each, by model and type."""
    cells = Cells(dict.fromkeys(lost, ""))
    for m, by_type in lost.items():
        clean = {"detections": detections}
        cells.put(
            m, CLEAN, clean | ({"map50_95": 0.5, "map50": 0.7, "classes": {"x": 0.5, "y": None}} if labelled else {})
        )
        for c in CHOSEN:
            loss = by_type[c.kind] * c.level
            cell = {"retention": 1 - loss if detections else None, "false_per_image": loss, "matched_iou": 0.9}
            cell |= {"confidence_change": -loss, "psnr_db": 30.0, "ssim": 0.8}
            if labelled:
                cell |= {"map50_95": 0.5 - loss, "map50": 0.7 - loss, "drop": loss, "drop_interval": [0.0, 2 * loss]}
            cells.put(m, str(c), cell)
    images = StudyImages(["i", "j"], [Path("i"), Path("j")], "", *(([], ["x", "y"], ["p", "q"]) if labelled else ()))
    models = {m: f"{m}.pt" for m in lost}
    return robustness_report(images, models, CHOSEN, Settings(), cells, "b" if "b" in lost else None)


LOST = {
    "a": {"gaussian": 0.05, "bias": 0.0, "contrast": 0.05},
    "b": {"gaussian": 0.1, "bias": 0.001, "contrast": 0.1},
}


def test_report_by_hand():
    report = made(LOST)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    a = report["models"]["a"]
    assert [c["value"] for c in a["conditions"]["gaussian"]] == [10, 25, 50, 75]
    assert a["means"]["gaussian"]["map50_95"] == pytest.approx(0.375) and a["means"]["bias"]["drop"] == 0
    # errors of a: 4 x .5 + .5 = 2.5 and 2; of b: 3 and 2.01
    assert a["means"]["gaussian"]["corruption_error"] == pytest.approx(2.5 / 3)
    s = a["summary"]
    assert s["mean_map50_95"] == pytest.approx(1.25 / 3) and s["relative_map50_95"] == pytest.approx(2.5 / 3)
    assert s["corruption_error"] == pytest.approx((2 * 2.5 / 3 + 2 / 2.01) / 3)
    assert s["relative_corruption_error"] == pytest.approx(0.5)  # without the bias, which costs b nothing
    assert report["models"]["b"]["summary"]["corruption_error"] == 1
    assert any("bias: in no relative corruption error" in n for n in report["notes"])
    assert any(n.startswith("y: not labelled") for n in report["notes"])
    text = format_report(report)
    assert "errors relative to b" in text and "-0.000" not in text
    row = next(line.split() for line in reversed(text.splitlines()) if line.startswith("a "))
    assert row == ["a", "0.500", "0.417", "0.833", "0.887", "0.500", "0.917"]


def test_what_is_not_defined_is_said():
    alone = made({"a": LOST["a"]})
    assert alone["models"]["a"]["summary"]["corruption_error"] is None
    assert any("no baseline" in n for n in alone["notes"])
    free = made(LOST, labelled=False)
    assert free["patients"] is None and free["models"]["a"]["summary"]["mean_map50_95"] is None
    assert any("no labels" in n for n in free["notes"]) and "mAP50-95  drop" not in format_report(free)
    blind = made(LOST, detections=0)
    assert blind["models"]["a"]["summary"]["retention"] is None
    assert sum("retention is not defined" in n for n in blind["notes"]) == 2
    with pytest.raises(ValueError, match="not measured"):
        robustness_report(StudyImages(["i"], [Path("i")], ""), {"a": ""}, CHOSEN, Settings(), Cells({"a": ""}))
    with pytest.raises(ValueError, match="none of the models"):
        robustness_report(StudyImages(["i"], [Path("i")], ""), {"a": ""}, CHOSEN, Settings(), Cells({"a": ""}), "c")


@pytest.mark.parametrize("case", [{}, {"labelled": False}, {"labelled": False, "detections": 0}])
def test_pictures_are_written(tmp_path, case):
    image = np.random.default_rng(0).integers(0, 255, (60, 50, 3), dtype=np.uint8)
    files = save_plots(made(LOST, **case), tmp_path, image, credit="whose")
    assert [f.name for f in files] == ["levels.png", "degradations.png", "radar.png"]
    for file in files:
        assert cv2.imread(str(file)).std() > 5
    assert len(list(tmp_path.iterdir())) == 3


def test_slices_are_shown_at_every_level():
    figure = draw_degradations(np.full((30, 30), 90, np.uint8), ["bias", "contrast"])
    assert [a.get_title() for a in figure.axes] == [
        "clean",
        "0.2",
        "0.4",
        "0.6",
        "0.8",
        "clean",
        "0.8",
        "0.7",
        "0.6",
        "0.5",
    ]


def test_models_are_named(tmp_path):
    files = [tmp_path / f for f in ("ours/weights/best.pt", "v8n/weights/best.pt", "third.pt")]
    for f in files:
        f.parent.mkdir(parents=True, exist_ok=True)
        f.write_bytes(b"")
    a, b, c = map(str, files)
    assert list(name_models([a])) == ["best"]
    assert list(name_models([a, b, c])) == ["ours-weights-best", "v8n-weights-best", "third"]
    assert name_models([f"x={a}", b]) == {"x": files[0], "best": files[1]}
    for given, message in (([a, a], "called"), ([f"a b={a}"], "letters"), ([f"x={a}", f"x={b}"], "called 'x'")):
        with pytest.raises(ValueError, match=message):
            name_models(given)
    with pytest.raises(FileNotFoundError, match=r"none\.pt is not there"):
        name_models(["x=none.pt"])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint of an untrained model of three classes."""
    torch.manual_seed(0)
    model = PluginDetectionModel("yolospine-n.yaml", nc=3, verbose=False)
    model.names, model.args, model.task = {i: f"class{i}" for i in range(3)}, {"imgsz": 64}, "detect"
    file = tmp_path_factory.mktemp("weights") / "best.pt"
    torch.save({"epoch": -1, "model": model.half(), "ema": None, "train_args": {"imgsz": 64}}, file)
    return file


def test_models_that_do_not_fit_are_refused(weights, tmp_path):
    assert load_detector(weights, classes=["class0", "class1", "class2"]).arguments["conf"] == 0.001
    with pytest.raises(ValueError, match="class0, class1, class2, but the data has a, b"):
        load_detector(weights, classes=["a", "b"])
    (tmp_path / "text.pt").write_text("no model")
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_detector(tmp_path / "text.pt")


def call(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, args)])
    with pytest.raises(SystemExit) as stop:  # anything else would be a traceback for the user
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return stop.value.code


def test_command_from_end_to_end(weights, tmp_path, monkeypatch, capfd):
    data = write_dataset(tmp_path / "set")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "set").rglob("*")}
    options = [
        "--models",
        weights,
        "--types",
        "contrast",
        "--imgsz",
        "64",
        "--conf",
        "0.001",
        "--out",
        tmp_path / "out",
    ]
    assert call(monkeypatch, data, *options, "--json") == 0
    printed = capfd.readouterr()
    report = json.loads(printed.out)
    assert report == json.loads((tmp_path / "out/report.json").read_text())
    assert (report["images"], report["patients"], report["imgsz"]) == (3, 3, 64)
    assert list(report["models"]["best"]["conditions"]) == ["contrast"] and report["baseline"] is None
    assert "4/5" in printed.err or "5/5" in printed.err  # the progress line
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "set").rglob("*")} == before
    assert {f.name for f in (tmp_path / "out").iterdir()} == {
        "cells", "report.json", "levels.png", "degradations.png",
    }  # fmt: skip
    images = ["--images", tmp_path / "set/images/val", *options[:-2]]
    assert call(monkeypatch, *images) == 0
    assert "without labels" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--models", "none.pt"], "none.pt is not there"),
        (["--models", "W", "--split", "test"], "no split 'test'"),
        (["--models", "W", "--baseline", "other"], "none of the models"),
        (["--models", "W", "--data-root", "none"], "not a folder"),
        (["--models", "W", "--patient", "("], "regular expression"),
        (["--models", "W", "--conf", "2"], "expected 0 to 1"),
        (["--models", "W", "--types", "blur"], "invalid choice: 'blur'"),
    ],
)
def test_command_refuses_bad_input_in_a_sentence(tmp_path, weights, args, message, monkeypatch, capsys):
    data = write_dataset(tmp_path / "set", images=2)
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, data, *(str(weights) if a == "W" else a for a in args)) == 2
    printed = capsys.readouterr()
    assert message in printed.err and not printed.out
