"""Tests of the phantom as a dataset folder: determinism, splits, labels, masks, COCO instances, the dataset YAML."""

import csv
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from ultralytics.utils import YAML

from yolospine_ultra.data.coco import coco_to_yolo, read_coco
from yolospine_ultra.data.phantom import dataset as phantom_dataset
from yolospine_ultra.data.phantom.anatomy import build_anatomy
from yolospine_ultra.data.phantom.canvas import Frame
from yolospine_ultra.data.phantom.dataset import plan_patients, split_patients, write_dataset
from yolospine_ultra.data.phantom.slices import CLASS_NAMES, LEVELS, read_findings

CFG = Path(__file__).parents[3] / "cfg" / "datasets" / "spine-phantom.yaml"


def folder_bytes(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "a"
    return out, write_dataset(out, images=12, seed=3, size=192, workers=1, progress=False)


def test_same_seed_gives_the_same_bytes_for_any_number_of_workers(dataset, tmp_path):
    write_dataset(tmp_path / "b", images=12, seed=3, size=192, workers=3, progress=False)
    assert folder_bytes(dataset[0]) == folder_bytes(tmp_path / "b")


def test_other_seed_gives_other_images(dataset, tmp_path):
    write_dataset(tmp_path / "c", images=3, seed=4, size=192, workers=2, progress=False)
    first = set(folder_bytes(dataset[0]).values())
    assert not [n for n, b in folder_bytes(tmp_path / "c").items() if n.endswith(".png") and b in first]


def test_labels_parse_as_yolo_and_lie_inside_the_image(dataset):
    out, made = dataset
    images = sorted(out.glob("images/*/*.png"))
    assert len(images) == 12 == sum(made["images"].values())
    counted = Counter()
    for image in images:
        assert cv2.imread(str(image), cv2.IMREAD_UNCHANGED).shape == (192, 192)
        label = out / "labels" / image.parent.name / f"{image.stem}.txt"
        for line in label.read_text().splitlines():
            c, x, y, w, h = line.split()
            counted[CLASS_NAMES[int(c)]] += 1
            x, y, w, h = map(float, (x, y, w, h))
            assert w > 0 and h > 0
            assert x - w / 2 >= -1e-6 and y - h / 2 >= -1e-6 and x + w / 2 <= 1 + 1e-6 and y + h / 2 <= 1 + 1e-6
    assert counted == Counter(made["labels"])


def test_annotations_name_every_box_and_no_patient_is_in_both_splits(dataset):
    out, made = dataset
    rows = list(csv.DictReader((out / "annotations.csv").open()))
    assert Counter(r["class"] for r in rows) == Counter(made["labels"])
    assert all((out / "images" / r["split"] / r["image"]).is_file() for r in rows)
    by_split = {s: {r["patient"] for r in rows if r["split"] == s} for s in ("train", "val")}
    assert by_split["train"] and by_split["val"] and not by_split["train"] & by_split["val"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_coco_instances_have_the_boxes_of_the_labels_and_outlines_inside_them(dataset, split):
    out, _ = dataset
    coco = read_coco(out / f"instances_{split}.json")
    assert [i["file_name"] for i in coco["images"]] == sorted(p.name for p in (out / "images" / split).iterdir())
    labels, names, problems = coco_to_yolo(coco)
    assert names == list(CLASS_NAMES) and not problems
    for name, rows in labels.items():
        written = np.loadtxt(out / "labels" / split / f"{Path(name).stem}.txt", ndmin=2)
        assert rows[np.lexsort(rows.T)] == pytest.approx(written[np.lexsort(written.T)], abs=1e-4)
    for instance in coco["annotations"]:
        x, y, w, h = instance["bbox"]
        points = np.concatenate([np.reshape(p, (-1, 2)) for p in instance["segmentation"]])
        assert (points >= np.array([x, y]) - 0.1).all() and (points <= np.array([x + w, y + h]) + 0.1).all()
        assert 0 < instance["area"] <= w * h


def test_mask_shows_the_disc_that_is_boxed(dataset):
    out, _ = dataset
    for instance_file in out.glob("instances_*.json"):
        coco = json.loads(instance_file.read_text())
        files = {i["id"]: i["file_name"] for i in coco["images"]}
        for instance in coco["annotations"]:
            if instance["category_id"] == 1 + CLASS_NAMES.index("IVDn"):
                split = instance_file.stem.split("_")[1]
                mask = cv2.imread(str(out / "masks" / split / files[instance["image_id"]]), cv2.IMREAD_UNCHANGED)
                x, y, w, h = (round(v) for v in instance["bbox"])
                number = 201 + LEVELS.index(instance["level"])
                inside = mask[y : y + h, x : x + w] == number
                assert inside.sum() == (mask == number).sum() > 0


@pytest.mark.parametrize("images", [2, 3, 50, 301])
def test_split_moves_whole_patients_and_fills_both_splits(images):
    plans = plan_patients(images, 1)
    split = split_patients(plans, 0.2, 1)
    assert sum(len(p.shots) for p in plans) == images
    assert set(split.values()) == {"train", "val"}
    if images >= 50:
        share = sum(len(p.shots) for p in plans if split[p.number] == "val") / images
        assert 0.15 < share < 0.25


def test_series_and_slices_vary_from_patient_to_patient():
    plans = plan_patients(300, 0)
    assert {len(p.shots) for p in plans} == {1, 2, 3, 4}
    counted = Counter(s.sequence for p in plans for s in p.shots)
    assert min(counted[s] for s in ("t1", "t2", "t2_space")) > 30 and counted["t2"] > counted["t1"]
    assert all(len({s.name for s in p.shots}) == len(p.shots) for p in plans)


def test_all_six_classes_occur_in_both_parts_of_the_default_dataset():
    plans = plan_patients(300, 0)
    split = split_patients(plans, 0.2, 0)
    for part in ("train", "val"):
        seen = set()
        for plan in plans:
            if split[plan.number] == part:
                anatomy = build_anatomy(plan.patient)
                seen |= {f.class_id for f in read_findings(anatomy, Frame.of(anatomy, 384))}
        assert seen == set(range(6))


def test_dataset_refuses_a_folder_with_something_in_it(tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        write_dataset(tmp_path, images=2, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["keep.txt"]


@pytest.mark.parametrize("kwargs", [{"images": 1}, {"size": 8}, {"workers": 0}, {"val_fraction": 1.0}])
def test_dataset_refuses_bad_arguments(tmp_path, kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        write_dataset(tmp_path / "x", progress=False, **kwargs)
    assert not list(tmp_path.iterdir())


def test_a_failed_run_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(phantom_dataset, "generate_slice", fail)
    with pytest.raises(OSError, match="disk full"):
        write_dataset(tmp_path / "x", images=4, progress=False)
    assert not list(tmp_path.iterdir())


def test_yaml_makes_the_dataset_when_the_host_executes_it(tmp_path, monkeypatch):
    cfg = YAML.load(CFG)
    assert list(cfg["names"].values()) == list(CLASS_NAMES)
    calls = []
    monkeypatch.setattr(phantom_dataset, "write_dataset", lambda *a, **k: calls.append((a, k)))
    cfg["path"] = tmp_path / "spine-phantom"
    exec(cfg["download"], {"yaml": cfg})
    assert calls == [((tmp_path / "spine-phantom",), {"images": 300, "seed": 0})]
