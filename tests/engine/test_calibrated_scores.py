"""Temperatures in a checkpoint: they survive loading and saving, and `predict` and `val` apply them when asked."""

import json
import runpy
import sys

import cv2
import numpy as np
import pytest
import torch
from conftest import REPO, command, run
from ultralytics import YOLO

from yolospine_ultra.engine.calibration import select_calibrated, store_temperatures, wanted_temperatures
from yolospine_ultra.engine.model import PluginDetectionModel
from yolospine_ultra.engine.validator import SpineValidator
from yolospine_ultra.evaluate.calibration.error import scale_scores
from yolospine_ultra.postprocess.detections import select_detections

NAMES, T = ["class0", "class1", "class2"], [0.5, 1.5, 4.0]
OPTIONS = {"imgsz": 64, "verbose": False, "conf": 0.002, "max_det": 1000}


def checkpoint(file, names=NAMES):
    """An untrained model with a checkpoint's surroundings; some of its scores are far from 0."""
    torch.manual_seed(0)
    model = PluginDetectionModel("yolospine-n.yaml", nc=3, verbose=False)
    model.names, model.args, model.task = dict(enumerate(names)), {}, "detect"
    torch.save({"epoch": -1, "model": model.half(), "ema": None, "train_args": {"imgsz": 64}}, file)
    return file


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = checkpoint(tmp_path_factory.mktemp("calibrated") / "best.pt")
    store_temperatures(file, NAMES, T)
    return file


@pytest.fixture(scope="module")
def image():
    return cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8), (0, 0), 2)


def raw(scores, classes=3):
    """A head's output of boxes far apart, column i with one score in class i % classes: (1, 4 + classes, N)."""
    out = torch.zeros(1, 4 + classes, len(scores))
    for i, s in enumerate(scores):
        out[0, :4, i] = torch.tensor([100.0 * i, 0, 10, 10])
        out[0, 4 + i % classes, i] = s
    return out


SELECT = {"iou": 0.5, "suppression": "gaussian", "sigma": 0.5}


def test_scores_are_scaled_as_the_evaluation_scales_them():
    scores = np.random.default_rng(0).uniform(0.01, 0.99, 30)
    (found,) = select_calibrated(raw(scores), T, conf=0.0, max_det=300, **SELECT)
    expected = scale_scores(scores, np.arange(30) % 3, T)
    by_place = found[found[:, 0].argsort()]
    np.testing.assert_allclose(by_place[:, 4], expected, rtol=1e-5)
    assert (found[:, 4].diff() <= 0).all() and len(found) == 30


def test_a_temperature_of_one_and_none_change_nothing():
    scores = np.random.default_rng(1).uniform(0.01, 0.99, 30)
    plain = select_detections(raw(scores), conf=0.25, max_det=9, **SELECT)[0][0]
    torch.testing.assert_close(select_calibrated(raw(scores), None, conf=0.25, max_det=9, **SELECT)[0], plain)
    torch.testing.assert_close(select_calibrated(raw(scores), [1.0] * 3, conf=0.25, max_det=9, **SELECT)[0], plain)


@pytest.mark.parametrize("conf", [0.0, 0.25, 0.6, 1.0])
def test_conf_and_max_det_are_of_calibrated_scores(conf):
    scores = np.random.default_rng(2).uniform(0.01, 0.99, 60)
    expected = np.sort(scale_scores(scores, np.arange(60) % 3, T))[::-1]
    expected = expected[expected > conf]
    (found,) = select_calibrated(raw(scores), T, conf=conf, max_det=1000, **SELECT)
    np.testing.assert_allclose(found[:, 4], expected, rtol=1e-5)
    (few,) = select_calibrated(raw(scores), T, conf=conf, max_det=5, **SELECT)
    torch.testing.assert_close(few, found[:5])


@pytest.mark.parametrize("suppression", ["gaussian", "hard"])
def test_suppression_is_that_of_the_scores_as_they_are(suppression):
    """Overlapping boxes of one class: the same boxes in the same order."""
    out = torch.zeros(1, 7, 12)
    out[0, :4] = torch.tensor([[50.0], [50], [20], [20]]) + torch.arange(12) * 2.0
    out[0, 5] = torch.linspace(0.9, 0.2, 12)
    options = {**SELECT, "suppression": suppression, "conf": 0.0, "max_det": 100}
    plain = select_detections(out, **options)[0][0]
    (found,) = select_calibrated(out, T, **options)
    torch.testing.assert_close(found[:, :4], plain[:, :4])
    np.testing.assert_allclose(found[:, 4], scale_scores(plain[:, 4].numpy(), plain[:, 5].long().numpy(), T), rtol=1e-4)
    assert len(plain) > 1


def test_predict_applies_them_when_asked(weights, image):
    model = YOLO(weights)
    plain = model.predict(image, **OPTIONS | {"conf": 1e-12})[0].boxes.data
    scaled = model.predict(image, calibrate=True, **OPTIONS)[0].boxes.data
    torch.testing.assert_close(model.predict(image, **OPTIONS | {"conf": 1e-12})[0].boxes.data, plain)  # not sticky
    wanted = scale_scores(plain[:, 4].numpy(), plain[:, 5].long().numpy(), T)
    assert len(scaled) > 3 and not torch.equal(scaled, plain[: len(scaled)])
    np.testing.assert_allclose(scaled[:, 4], np.sort(wanted[wanted > OPTIONS["conf"]])[::-1], rtol=1e-3)


def test_val_measures_what_predict_gives(weights, tiny, tmp_path):
    seen = []

    class Recorder(SpineValidator):
        def update_metrics(self, preds, batch):
            seen.extend((f, p["conf"]) for f, p in zip(batch["im_file"], preds, strict=True))
            super().update_metrics(preds, batch)

    options = {**OPTIONS, "calibrate": True}
    YOLO(weights).val(validator=Recorder, data=str(tiny), plots=False, workers=0, project=str(tmp_path), **options)
    model = YOLO(weights)
    for file, scores in seen:
        found = model.predict(file, **options)[0].boxes.conf
        assert len(found) == len(scores) > 3
        torch.testing.assert_close(found, scores, rtol=1e-2, atol=1e-4)


def test_they_survive_saving_and_go_with_new_weights(weights, tmp_path):
    model = YOLO(weights)
    model.save(tmp_path / "copy.pt")
    again = YOLO(tmp_path / "copy.pt")
    assert again.model.calibration == {"names": NAMES, "temperatures": T}
    again.fuse()
    assert wanted_temperatures(True, again.model) == T
    new = PluginDetectionModel(again.model.yaml, nc=3, verbose=False)  # as the host's trainer takes weights over
    new.load(model.model, verbose=False)
    assert new.calibration is None


@pytest.mark.slow  # a process of its own
def test_they_load_without_running_code(weights, tmp_path):
    code = (
        f"from ultralytics import YOLO; m = YOLO({str(weights)!r}); "
        f"from yolospine_ultra.engine.calibration import wanted_temperatures; print(wanted_temperatures(True, m.model))"
    )
    done = run(code, tmp_path, ULTRALYTICS_SAFE_LOAD="1")
    assert done.returncode == 0 and done.stdout.strip().endswith(str(T)), done.stderr


def test_stored_twice_is_replaced_and_other_classes_are_refused(tmp_path):
    file = checkpoint(tmp_path / "best.pt")
    before = file.read_bytes()
    with pytest.raises(ValueError, match="are of a, b, c, but the model has class0, class1, class2"):
        store_temperatures(file, ["a", "b", "c"], T)
    assert file.read_bytes() == before
    store_temperatures(file, NAMES, [1, 1, 1])
    store_temperatures(file, NAMES, T)
    model = YOLO(file)
    assert wanted_temperatures(True, model.model) == T
    model.model.names = {0: "class0", 1: "class2", 2: "class1"}
    with pytest.raises(ValueError, match="the model has class0, class2, class1"):
        wanted_temperatures(True, model.model)


def test_what_cannot_carry_them_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pt is not there"):
        store_temperatures(tmp_path / "none.pt", NAMES, T)
    (tmp_path / "text.pt").write_text("no model")
    with pytest.raises(ValueError, match="cannot be loaded"):
        store_temperatures(tmp_path / "text.pt", NAMES, T)
    stock = YOLO("yolov8n.yaml")
    torch.save({"model": stock.model}, tmp_path / "stock.pt")
    with pytest.raises(ValueError, match="no model of this package"):
        store_temperatures(tmp_path / "stock.pt", list(stock.names.values()), [1.0] * 80)


def test_asking_for_what_is_not_there_is_an_error(tmp_path, image):
    model = YOLO(checkpoint(tmp_path / "best.pt"))
    with pytest.raises(ValueError, match=r"no temperatures; fit them with scripts/calibrate\.py"):
        model.predict(image, calibrate=True, **OPTIONS)
    with pytest.raises(ValueError, match="calibrate=2 is not usable"):
        model.predict(image, calibrate=2, **OPTIONS)
    with pytest.raises(ValueError, match="train first"):
        model.train(data="none.yaml", calibrate=True)


def test_script_stores_what_it_fits(tmp_path, monkeypatch, capsys):
    """From predictions on a dataset to a checkpoint that predicts with the temperatures of the report."""
    from conftest import write_dataset

    from yolospine_ultra.evaluate.findings import read_dataset

    data = write_dataset(tmp_path / "set", images=8)
    rng, entries = np.random.default_rng(0), []
    for x in read_dataset(data, "val")[0]:
        for c, (x1, y1, x2, y2) in zip(x.classes.tolist(), x.boxes.tolist(), strict=True):
            for shift in (0, 50):
                entry = {"file_name": x.name, "category_id": c + 1, "score": float(rng.uniform(0.1, 0.9))}
                entries.append(entry | {"bbox": [x1 + shift, y1, x2 - x1, y2 - y1]})
    (tmp_path / "predictions.json").write_text(json.dumps(entries))
    file = checkpoint(tmp_path / "best.pt")
    args = [str(data), "--predictions", str(tmp_path / "predictions.json"), "--folds", "2", "--weights", str(file)]
    monkeypatch.setattr(sys, "argv", ["calibrate.py", *args, "--json"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(REPO / "scripts" / "calibrate.py"), run_name="__main__")
    assert stop.value.code == 0
    report = json.loads(capsys.readouterr().out)
    assert wanted_temperatures(True, YOLO(file).model) == list(report["temperatures"]["classes"].values())


@pytest.mark.slow
def test_stock_command(weights, image, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), image)
    done = run(
        [command("yolo"), "predict", f"model={weights}", "source=a.png", "imgsz=64", "calibrate=True", "conf=0.002"],
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
