"""The command that converts between YOLO datasets and COCO files."""

import json
import runpy
import sys

import cv2
import numpy as np
import pytest
from conftest import REPO, run, write_dataset

from yolospine_ultra.data.coco import make_coco, read_coco, yolo_to_coco
from yolospine_ultra.data.labels import read_labels

NAMES = ["DDD", "IVDn", "SS", "SP", "LDB", "TDB"]
SCRIPT = str(REPO / "scripts" / "convert_coco.py")


@pytest.fixture
def script(monkeypatch, capsys, tmp_path):
    """Run the script's main in this process; returns its exit code and what it printed."""

    def call(*args):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [SCRIPT, *map(str, args)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(SCRIPT, run_name="__main__")
        return end.value.code, *capsys.readouterr()

    return call


def test_command_there_and_back(tmp_path, script):
    data = write_dataset(tmp_path / "yolo", images=3)
    (tmp_path / "yolo" / "labels" / "val" / "0.txt").write_text("")
    code, out, err = script("to-coco", data, "--out", "coco")
    assert code == 0 and "val: 2 images" in out, err
    images = tmp_path / "yolo" / "images" / "val"
    args = ["to-yolo", "coco/val.json", "--out", "back", "--splits", "val", "--images", images]
    code, out, err = script(*args)
    assert code == 0 and "2 images" in out, err
    for file in (tmp_path / "yolo" / "labels" / "val").iterdir():
        before, after = (read_labels(f, 3)[0] for f in (file, tmp_path / "back" / "labels" / "val" / file.name))
        np.testing.assert_allclose(after, before, atol=1e-9)
    assert cv2.imread(str(tmp_path / "back" / "images" / "val" / "0.png")) is not None
    again, problems = yolo_to_coco(tmp_path / "back" / "dataset.yaml", "val")
    assert not problems and again == read_coco(tmp_path / "coco" / "val.json")
    code, _, err = script(*args)
    assert code == 2 and err.count("\n") == 1 and "exists" in err


def test_command_finds_the_images_of_a_yaml_by_data_root(tmp_path, script):
    write_dataset(tmp_path / "set", images=3)
    code, _, err = script("to-coco", "spider-lumbar.yaml", "--data-root", "set", "--out", "coco")
    assert code == 0, err
    assert len(read_coco(tmp_path / "coco" / "val.json")["images"]) == 2
    code, _, err = script("to-coco", "spider-lumbar.yaml", "--data-root", "nowhere", "--out", "coco2")
    assert code == 2 and "nowhere is not a folder" in err and not (tmp_path / "coco2").exists()


def coco_file(path, name, names=NAMES):
    """A COCO file of one image with one box."""
    path.write_text(json.dumps(make_coco([(name, (20, 10), np.array([[1, 0.5, 0.5, 0.5, 0.5]]))], names)))
    path.parent.joinpath("pictures").mkdir(exist_ok=True)
    cv2.imwrite(str(path.parent / "pictures" / name), np.zeros((10, 20, 3), np.uint8))


def test_command_takes_several_files_as_splits(tmp_path, script):
    coco_file(tmp_path / "train.json", "a.png")
    coco_file(tmp_path / "val.json", "b.png")
    (tmp_path / "others").mkdir()
    (tmp_path / "pictures" / "b.png").rename(tmp_path / "others" / "b.png")
    args = ["to-yolo", "train.json", "val.json", "--splits", "train", "val"]
    code, out, err = script(*args, "--images", "pictures", "others", "--out", "back")
    assert (code, err) == (0, "") and "train: 1 images, 1 labels" in out and "val: 1 images, 1 labels" in out
    found = {f.relative_to(tmp_path / "back").as_posix() for f in (tmp_path / "back").rglob("*.*")}
    assert found == {"dataset.yaml", *(f"{k}s/{s}/{n}.{e}" for s, n in (("train", "a"), ("val", "b"))
                                       for k, e in (("image", "png"), ("label", "txt")))}  # fmt: skip
    for split in ("train", "val"):
        assert not yolo_to_coco(tmp_path / "back" / "dataset.yaml", split)[1]
    (tmp_path / "others" / "b.png").rename(tmp_path / "pictures" / "b.png")
    code, _, err = script(*args, "--images", "pictures", "--out", "one")  # one folder for both
    assert (code, err) == (0, "") and (tmp_path / "one" / "images" / "val" / "b.png").is_file()


def test_command_says_what_does_not_fit_together(tmp_path, script):
    for name, classes in (("a", NAMES), ("b", NAMES[::-1])):
        coco_file(tmp_path / f"{name}.json", f"{name}.png", classes)
    for words, said in (
        (["a.json", "b.json", "--splits", "train", "val"], "a.json has the classes DDD, IVDn"),
        (["a.json", "b.json"], "files: 2, splits: 1; expected one split for each file"),
        (["a.json", "a.json", "--splits", "val", "val"], "val is named twice"),
        (
            ["a.json", "--images", "pictures", "pictures"],
            "files: 1, folders of images: 2; expected one for all or one for each",
        ),
    ):
        code, _, err = script("to-yolo", *words, "--out", "back")
        assert code == 2 and said in err and err.count("\n") == 1, err
        assert not (tmp_path / "back").exists()
    assert "b.json has TDB, LDB" in script("to-yolo", "a.json", "b.json", "--splits", "train", "val", "--out", "c")[2]


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        (["train"], "val of dataset.yaml are the images of train"),
        (["val"], "train of dataset.yaml are the images of val"),
        (["test"], "train and val of dataset.yaml are the images of test"),
        (["train", "test"], "val of dataset.yaml are the images of test"),
    ],
)
def test_command_says_which_splits_are_the_same_images(tmp_path, script, splits, said):
    for name in "ab"[: len(splits)]:
        coco_file(tmp_path / f"{name}.json", f"{name}.png")
    files = [f"{name}.json" for name in "ab"[: len(splits)]]
    words = [] if splits == ["train"] else ["--splits", *splits]
    code, _, err = script("to-yolo", *files, *words, "--out", "back", "--images", "pictures")
    assert code == 0 and err == f"note: {said} too; give a file for each split.\n"
    assert not yolo_to_coco(tmp_path / "back" / "dataset.yaml", "train")[1]
    assert not yolo_to_coco(tmp_path / "back" / "dataset.yaml", "val")[1]


def test_a_folder_called_images_in_a_file_name(tmp_path, script):
    coco = make_coco([("images/a.png", (20, 10), np.array([[4, 0.5, 0.5, 0.5, 0.5]]))], NAMES)
    (tmp_path / "a.json").write_text(json.dumps(coco))
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((10, 20, 3), np.uint8))
    code, _, err = script("to-yolo", "a.json", "--out", "back", "--images", tmp_path)
    assert code == 0, err
    again, problems = yolo_to_coco(
        tmp_path / "back" / "dataset.yaml", "train"
    )  # the host looks for labels in one place
    assert len(again["annotations"]) == 1 and not problems


@pytest.mark.slow
def test_the_command_in_a_process_of_its_own(tmp_path):
    data = write_dataset(tmp_path / "yolo", images=3)
    done = run([sys.executable, SCRIPT, "to-coco", str(data), "--out", "coco"], tmp_path)
    assert done.returncode == 0 and "train: 3 images" in done.stdout, done.stderr
    assert {f.name for f in (tmp_path / "coco").iterdir()} == {"train.json", "val.json"}


def test_the_command_refuses_what_is_no_coco(tmp_path, script):
    (tmp_path / "a.json").write_text("[]")
    code, _, err = script("to-yolo", "a.json", "--out", "b")
    assert code == 2 and "no COCO dataset" in err and not (tmp_path / "b").exists()


def test_the_command_writes_results_and_names_what_it_left_out(tmp_path, script):
    coco = make_coco([("p1.png", (200, 100), np.zeros((0, 5)))], NAMES)
    (tmp_path / "val.json").write_text(json.dumps(coco))
    entry = {"image_id": "p1", "category_id": 5, "bbox": [80, 30, 40, 40], "score": 0.75}
    (tmp_path / "predictions.json").write_text(json.dumps([entry, entry | {"image_id": "p2"}]))
    code, _, err = script("results", "predictions.json", "--coco", "val.json", "--out", "results.json")
    assert code == 0 and "prediction #1: image: image 'p2' is not in the dataset" in err
    assert json.loads((tmp_path / "results.json").read_text()) == [entry | {"image_id": 1}]
    code, _, err = script("results", "predictions.json", "--coco", "val.json", "--out", "results.json")
    assert code == 2 and "exists" in err
