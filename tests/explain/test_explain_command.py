"""The study and its command on a tiny data set: what is chosen, written, summed up and refused."""

import csv
import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import REPO, run, write_dataset
from explained_models import TinyMasks, build

pytest.importorskip("pytorch_grad_cam")

from yolospine_ultra.benchmark.families.segmentation import FAMILY
from yolospine_ultra.benchmark.families.weights import save_weights
from yolospine_ultra.benchmark.family import Budget, CellData, ModelEntry
from yolospine_ultra.evaluate.images import read_folder, read_labelled
from yolospine_ultra.explain import load
from yolospine_ultra.explain.load import load_explained, wrap
from yolospine_ultra.explain.model import Finding
from yolospine_ultra.explain.report import explain_report, format_report
from yolospine_ultra.explain.rtdetr import RTDETRModel
from yolospine_ultra.explain.spine import SpineModel
from yolospine_ultra.explain.study import Settings, choose, explain_images
from yolospine_ultra.explain.yolo import YoloModel

SCRIPT = REPO / "scripts" / "explain.py"
CLASSES = ["class0", "class1", "class2"]


def checkpoint(name, file):
    """A checkpoint of the host with an untrained network of three classes."""
    model = build(name)
    model.names, model.args, model.task = dict(enumerate(CLASSES)), {"imgsz": 64}, "detect"
    torch.save({"epoch": -1, "model": model, "ema": None, "train_args": {"imgsz": 64}}, file)
    return file


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return checkpoint("yolospine-n", tmp_path_factory.mktemp("weights") / "best.pt")


@pytest.fixture(scope="module")
def masks():
    return wrap(build("masks"), CLASSES, 64)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return read_labelled(write_dataset(tmp_path_factory.mktemp("set"), images=4, size=64), "val")


def test_what_is_explained_is_chosen_by_hand():
    found = [Finding(np.zeros(4), c, s) for c, s in ((1, 0.9), (0, 0.8), (1, 0.7), (0, 0.6))]
    correct = [False, True, True, False]

    def chosen(**given):
        return choose(found, correct, Settings(**given), ["a", "b"])

    assert chosen() == [0, 1] and chosen(select="all") == [0, 1, 2, 3] and chosen(select="matched") == [1, 2]
    assert chosen(select="all", classes=("a",)) == [1, 3] and chosen(classes=("b",)) == [0]


def test_rows_and_report(masks, images):
    shown = []
    settings = Settings(methods=("layercam", "gradcam"), conf=0.0)
    rows = explain_images(images, masks, settings, shown.append)
    assert len(rows) == 3 * len(shown) and len(images) == 2
    for k, explained in enumerate(shown):
        mine = rows[3 * k : 3 * k + 3]
        assert [r["method"] for r in mine] == ["layercam", "gradcam", "random"]
        assert {r["image"] for r in mine} == {explained.image} and mine[0]["class"] == explained.category
        assert [r["refused"] == "" for r in mine] == [r.values is not None for r in explained.records]
        for r in (x for x in mine if not x["refused"]):
            assert 0 <= r["energy"] <= 1 and r["deletion"] >= 0 and len(r["deleted"]) == 4
            assert list(r["sanity"]) == ([] if r["method"] == "random" else ["segmentation_head", "decoder", "encoder"])
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    report = explain_report(images, masks, settings, rows)
    assert report["findings"] == len(shown) and sum(report["classes"].values()) == len(shown)
    layercam, _, random = report["summary"]
    kept = [r for r in rows if r["method"] == "layercam" and not r["refused"]]
    assert layercam["maps"] == len(kept) and layercam["energy"]["value"] == pytest.approx(
        np.mean([r["energy"] for r in kept])
    )
    gains = [o["deletion"] - r["deletion"] for r, o in zip(rows[::3], rows[2::3], strict=True) if not r["refused"]]
    assert layercam["deletion_gain"]["value"] == pytest.approx(np.mean(gains))
    assert layercam["sane"] in ("passes", "fails", "open") and "sane" not in random
    assert json.loads(json.dumps(report, allow_nan=False)) and "layercam" in format_report(report)
    assert [r["energy"] for r in explain_images(images, masks, settings)] == [r["energy"] for r in rows]


def test_curves_are_measured_of_a_share(masks, images):
    rows = explain_images(images, masks, Settings(("layercam",), conf=0.0, curves=0.0))
    assert all(r["deletion"] is None and r["energy"] is not None for r in rows if not r["refused"])
    report = explain_report(images, masks, Settings(("layercam",), conf=0.0, curves=0.0), rows)
    assert report["summary"][0]["deletion"]["value"] is None and "share of 0 " in " ".join(report["notes"])


def test_missing_classes_labels_and_patients_are_said(masks, images, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((64, 64), 40, np.uint8))
    cv2.imwrite(str(tmp_path / "b.png"), cv2.imread(str(images.files[0])))
    folder = read_folder(tmp_path)
    settings = Settings(("layercam",), conf=0.0)
    rows = explain_images(folder, masks, settings)
    assert all(r["correct"] is None and r["patient"] is None for r in rows)
    report = explain_report(folder, masks, settings, rows)
    assert report["correct"] is None and "images without labels" in " ".join(report["notes"])
    one = [r | {"class": "class0"} for r in rows]
    notes = " ".join(explain_report(folder, masks, settings, one)["notes"])
    assert "class1, class2: no prediction above 0, so nothing to explain." in notes
    for wrong, message in (
        (Settings(select="matched"), "needs labels"),
        (Settings(classes=("SS",)), "class 'SS' is unknown; expected one of class0"),
        (Settings(methods=("cam",)), "method 'cam' is unknown"),
        (Settings(select="some"), "selection 'some' is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            explain_images(folder, masks, wrong)
    with pytest.raises(ValueError, match=r"no prediction of the classes asked for has a score above 0\.9"):
        explain_report(folder, masks, Settings(conf=0.9), [])


def test_weights_of_a_segmentation_network_are_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("yolospine_ultra.benchmark.families.segmentation.make_network", lambda *_: TinyMasks())
    entry = ModelEntry("tiny", "segmentation", {"network": "TinyMasks"})
    data, budget = CellData(Path(), (), (), dict(enumerate(CLASSES))), Budget(0, 64, 1, "cpu", 0)
    network = FAMILY.build(entry, data, budget)
    file = save_weights(tmp_path / "last.pt", network.state_dict(), entry, data, budget)
    model = load_explained(file, classes=CLASSES)
    assert (model.names, model.imgsz, model.channels) == (CLASSES, 64, 3)
    assert torch.equal(model.module.net.decoder[0].weight, network.net.decoder[0].weight)
    for given, message in (({"imgsz": 96}, "trained at 64 px"), ({"classes": ["a"]}, "but the data has a")):
        with pytest.raises(ValueError, match=message):
            load_explained(file, **given)
    with pytest.raises(FileNotFoundError, match=r"none\.pt is not there"):
        load_explained(tmp_path / "none.pt")
    assert load._segmentation(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "kind"), [("rtdetr", RTDETRModel), ("yolov8n", YoloModel), ("yolospine-n", SpineModel)]
)
def test_weights_of_the_host_are_loaded(name, kind, tmp_path):
    model = load_explained(checkpoint(name, tmp_path / "best.pt"), classes=CLASSES)
    assert type(model) is kind and (model.names, model.imgsz, model.channels) == (CLASSES, 64, 3)
    assert load_explained(tmp_path / "best.pt", imgsz=90).imgsz == 96  # the next multiple of the stride
    with pytest.raises(ValueError, match="class0, class1, class2, but the data has a"):
        load_explained(tmp_path / "best.pt", classes=["a"])


def test_command_from_end_to_end(weights, tiny, tmp_path):
    """In a process of its own, as a user starts it."""
    before = {p: p.stat().st_mtime_ns for p in tiny.parent.rglob("*")}
    out = tmp_path / "out"
    options = ["--weights", weights, "--conf", "0", "--curves", "0.3", "--classes", "class0", "class1"]
    options += ["--methods", "gradcam", "layercam", "--credit", "made here", "--out", out, "--json"]
    done = run([sys.executable, *map(str, [SCRIPT, tiny, *options])], tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((out / "report.json").read_text())
    assert report["images"] == 3 and report["patients"] == 3 and report["class_independent"] == 0
    assert {e["stage"] for e in report["summary"]} == {"stage 1", "stage 2"}
    assert {f.name for f in out.iterdir()} == {"report.json", "explanations.json", "explanations.csv", "panels"}
    rows = json.loads((out / "explanations.json").read_text())
    with open(out / "explanations.csv") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows) == report["findings"] * 2 * 3
    assert [float(r["x1"]) for r in table] == pytest.approx([r["box"][0] for r in rows])
    assert "sanity_backbone" in table[0]
    panels = list((out / "panels").iterdir())
    assert len(panels) == report["findings"] and cv2.imread(str(panels[0])).std() > 10
    assert {p: p.stat().st_mtime_ns for p in tiny.parent.rglob("*")} == before


def call(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, args)])
    with pytest.raises(SystemExit) as stop:  # anything else would be a traceback for the user
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return stop.value.code


def test_a_map_of_no_class_is_an_error_and_no_picture(weights, tiny, tmp_path, monkeypatch, capfd):
    """The branch of boxes at stage 1: the same for all classes."""
    options = ["--weights", weights, "--conf", "0", "--curves", "0", "--classes", "class1", "--methods", "layercam"]
    options += ["--layer", "model.18.cv2.0.1", "--out", tmp_path]
    assert call(monkeypatch, tiny, *options) == 1
    printed = capfd.readouterr()
    assert "maps do not depend on the class and are not shown" in printed.out
    rows = json.loads((tmp_path / "explanations.json").read_text())
    for r in rows:
        if (r["stage"], r["method"]) == ("stage 1", "layercam"):
            assert r["class_independent"] and r["energy"] is None and r["refused"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--weights", "none.pt"], "none.pt is not there"),
        (["--weights", "W", "--split", "test"], "no split 'test'"),
        (["--weights", "W", "--classes", "SS"], "class 'SS' is unknown"),
        (["--weights", "W", "--conf", "1"], "give a lower --conf"),
        (["--weights", "W", "--layer", "model.99"], "no module 'model.99'"),
        (["--weights", "W", "--nms-free"], "for YOLOv10 and YOLO26"),
        (["--weights", "W", "--data-root", "none"], "not a folder"),
        (["--weights", "W", "--methods", "cam"], "invalid choice: 'cam'"),
    ],
)
def test_command_refuses_bad_input_in_a_sentence(weights, tiny, args, message, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, tiny, *(str(weights) if a == "W" else a for a in args)) == 2
    printed = capsys.readouterr()
    assert message in printed.err and not printed.out
