"""Families of Ultralytics models: what reaches the host's trainer, and what comes back from its predictor."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy
import yaml

from yolospine_ultra.benchmark.dataset import make_view, read_data
from yolospine_ultra.benchmark.families import polygon_seg, rtdetr, ultralytics_family
from yolospine_ultra.benchmark.family import Budget
from yolospine_ultra.benchmark.zoo import common_recipe, rows


@pytest.fixture
def cell(tmp_path):
    """A cell of a small dataset."""
    return make_view(read_data(toy.write_patients(tmp_path / "set")), None, tmp_path / "view")


def budget(**changes):
    made = {"epochs": 3, "imgsz": 64, "batch": 2, "device": "cpu", "seed": 7, "recipe": common_recipe(2, "cpu")}
    return Budget(**{**made, **changes})


class FakeFacade:
    """Takes the place of the host's object; remembers how it was trained."""

    halved = False

    def train(self, **arguments):
        self.arguments = arguments
        batch = 1 if self.halved else arguments["batch"]
        self.trainer = SimpleNamespace(args=SimpleNamespace(batch=batch), last="last.pt")


@pytest.fixture
def fake(monkeypatch):
    facade = FakeFacade()
    monkeypatch.setattr(ultralytics_family.UltralyticsFamily, "facade", lambda self, source: facade)
    return facade


def test_the_host_trains_by_the_recipe_and_never_sees_the_evaluated_images(cell, tmp_path, fake):
    entry = rows()["yolospine-n"]
    ultralytics_family.FAMILY.train(entry, cell, budget(device="0,1"), tmp_path)
    given = fake.arguments
    assert {k: given[k] for k in ("seed", "epochs", "batch", "nbs", "device", "val", "pretrained", "patience")} == {
        **{"seed": 7, "epochs": 3, "batch": 2, "nbs": 2, "device": "0,1"},  # several GPUs are the host's to share
        **{"val": False, "pretrained": False, "patience": 0},
    }
    assert given["cls_pw"] == 0.25 and given["lr0"] == common_recipe(2, "cpu")["lr0"]  # the row's own, and the common
    data = yaml.safe_load(Path(given["data"]).read_text())
    listed = {s: (tmp_path / data[s]).read_text().splitlines() for s in ("train", "val")}
    assert listed["train"] == [str(f) for f in cell.train] and listed["val"] == listed["train"][:1]


def test_the_host_is_told_what_the_dataset_declares_of_its_classes(tmp_path, fake):
    file = Path(toy.write_patients(tmp_path / "set"))
    names = [str(n) for n in yaml.safe_load(file.read_text())["names"].values()][:2]
    file.write_text(file.read_text() + yaml.safe_dump({"same_finding": [names]}))
    cell = make_view(read_data(str(file)), None, tmp_path / "view")
    ultralytics_family.FAMILY.train(rows()["yolospine-n"], cell, budget(), tmp_path)
    assert yaml.safe_load(Path(fake.arguments["data"]).read_text())["same_finding"] == [names]
    ultralytics_family.FAMILY.train(rows()["yolospine-n-undeclared"], cell, budget(), tmp_path)
    untold = yaml.safe_load(Path(fake.arguments["data"]).read_text())
    assert "same_finding" not in untold and list(untold["names"].values())[:2] == names


def test_a_training_begins_with_weights_and_a_last_layer_of_its_own(cell, tmp_path):
    from ultralytics import YOLO

    first = tmp_path / "first.pt"
    YOLO("yolov8n.yaml").save(first)  # of 80 classes
    still = budget(epochs=1, init=first, recipe={**common_recipe(2, "cpu"), "lr0": 1e-9, "warmup_bias_lr": 0.0})
    last = ultralytics_family.FAMILY.train(rows()["yolov8n"], cell, still, tmp_path)
    before, after = (YOLO(f).model.float().state_dict() for f in (first, last))
    torch.testing.assert_close(after["model.0.conv.weight"], before["model.0.conv.weight"], atol=1e-3, rtol=1e-2)
    assert after["model.22.cv3.0.2.weight"].shape[0] == 3


def test_a_batch_that_the_host_has_halved_is_no_fair_comparison(cell, tmp_path, fake):
    fake.halved = True
    with pytest.raises(RuntimeError, match="batch=1 in place of 2"):
        ultralytics_family.FAMILY.train(rows()["yolov8n"], cell, budget(), tmp_path)


def test_boxes_become_polygons_of_four_corners(cell, tmp_path, fake):
    polygon_seg.FAMILY.train(rows()["yolov8n-seg"], cell, budget(), tmp_path)
    data = yaml.safe_load(Path(fake.arguments["data"]).read_text())
    image = (tmp_path / "polygons" / data["train"]).read_text().splitlines()[0]
    lines = np.loadtxt(image.replace("images", "labels").replace(".png", ".txt"), ndmin=2)
    boxes = np.loadtxt(str(cell.train[0]).replace("images", "labels").replace(".png", ".txt"), ndmin=2)
    x, y = lines[:, 1::2], lines[:, 2::2]
    assert lines.shape[1] == 9 and (lines[:, 0] == boxes[:, 0]).all()
    np.testing.assert_allclose(np.ptp(x, 1), boxes[:, 3], atol=1e-5)
    np.testing.assert_allclose(np.ptp(y, 1), boxes[:, 4], atol=1e-5)
    np.testing.assert_allclose((x.min(1) + x.max(1)) / 2, boxes[:, 1], atol=1e-5)


@pytest.mark.parametrize(
    "name", ["yolov8n", "yolov8n-multilabel", "yolo26n-nmsfree", "yolospine-n-hardnms", "yolospine-n-undeclared"]
)
def test_an_untrained_detector_has_the_classes_of_the_data_and_keeps_to_the_contract(cell, name):
    detector = ultralytics_family.FAMILY.load(rows()[name], None, cell, budget())
    assert detector.module.names == cell.names and detector.module.model[-1].nc == 3
    images = [cell.val[2], cell.val[0]]
    found = detector.detect(images)
    assert [x.name for x in found] == [f.name for f in images]
    assert all(len(x) <= 300 and (np.diff(x.scores) <= 0).all() for x in found)
    assert all(x.classes.max(initial=0) < 3 and x.boxes.max(initial=0) <= 96 for x in found)


def test_several_classes_of_an_anchor_point_come_out_only_of_the_rows_that_say_so(cell):
    import torch

    counts = {}
    for name in ("yolov8n", "yolov8n-multilabel"):
        torch.manual_seed(0)
        detector = ultralytics_family.FAMILY.load(rows()[name], None, cell, budget())
        (found,) = detector.detect(cell.val[:1])
        _, times = np.unique(found.boxes.round(2), axis=0, return_counts=True)
        counts[name] = times.max(initial=0)
    assert counts["yolov8n-multilabel"] > counts["yolov8n"]


@pytest.mark.slow
def test_the_transformer_and_a_segmentation_model_detect_boxes(cell):
    for family, name in ((rtdetr.FAMILY, "rtdetr-l"), (polygon_seg.FAMILY, "yolo11n-seg")):
        (found,) = family.load(rows()[name], None, cell, budget()).detect(cell.val[:1])
        assert found.name == cell.val[0].name and found.scores is not None
