import contextlib
import io
import json
import runpy
import sys

import cv2
import numpy as np
import pytest
from conftest import REPO, run, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from yolospine_ultra.data.coco import (
    coco_to_yolo,
    label_text,
    make_coco,
    predictions_to_coco,
    read_coco,
    yolo_to_coco,
)
from yolospine_ultra.data.labels import read_labels

NAMES = ["DDD", "IVDn", "SS", "SP", "LDB", "TDB"]
SCRIPT = str(REPO / "scripts" / "convert_coco.py")


@st.composite
def datasets(draw):
    """Images of any size with boxes inside them, some of two classes, some without any."""
    entries = []
    for k in range(draw(st.integers(1, 4))):
        size = draw(st.tuples(st.integers(8, 4096), st.integers(8, 4096)))
        rows = []
        for _ in range(draw(st.integers(0, 4))):
            w, h = draw(st.floats(1e-3, 1)), draw(st.floats(1e-3, 1))
            x, y = draw(st.floats(w / 2, 1 - w / 2)), draw(st.floats(h / 2, 1 - h / 2))
            for c in draw(st.sets(st.integers(0, 5), min_size=1, max_size=3)):
                rows.append([c, x, y, w, h])
        unique = {(r[0], *np.round(r[1:], 5)): r for r in rows}
        entries.append((f"sub/p{k}.png", size, np.array(list(unique.values())).reshape(-1, 5)))
    return entries


@given(datasets())
@settings(max_examples=80, deadline=None)
def test_there_and_back_moves_no_box_by_a_millionth_of_a_pixel(tmp_path_factory, entries):
    coco = json.loads(json.dumps(make_coco(entries, NAMES), allow_nan=False))
    tables, names, problems = coco_to_yolo(coco)
    assert names == NAMES and not problems and list(tables) == [e[0] for e in entries]
    file = tmp_path_factory.mktemp("coco") / "a.txt"
    for name, size, rows in entries:
        file.write_text(label_text(tables[name]))
        again, problems = read_labels(file, 6)
        assert not problems and len(again) == len(rows)
        scale = np.array([1, *size, *size])
        np.testing.assert_allclose(tables[name] * scale, rows * scale, atol=1e-6, rtol=0)
        np.testing.assert_allclose(again * scale, rows * scale, atol=1e-6, rtol=0)


def test_hand_case():
    coco = make_coco([("b.png", (200, 100), np.array([[4, 0.5, 0.5, 0.2, 0.4], [2, 0.5, 0.5, 0.2, 0.4]])),
                      ("a.png", (50, 50), np.zeros((0, 5)))], NAMES)  # fmt: skip
    assert [(i["id"], i["file_name"]) for i in coco["images"]] == [(1, "a.png"), (2, "b.png")]
    assert [(a["id"], a["image_id"], a["category_id"], a["bbox"]) for a in coco["annotations"]] == [
        (1, 2, 5, [80, 30, 40, 40]), (2, 2, 3, [80, 30, 40, 40]),
    ]  # fmt: skip
    assert coco["categories"][2] == {"id": 3, "name": "SS", "supercategory": "finding"}


def test_numbered_files_keep_their_numbers():
    rows = np.zeros((0, 5))
    assert [i["id"] for i in make_coco([("7.png", (9, 9), rows), ("012.png", (9, 9), rows)], NAMES)["images"]] == [
        12,
        7,
    ]
    assert [i["id"] for i in make_coco([("7.png", (9, 9), rows), ("x.png", (9, 9), rows)], NAMES)["images"]] == [1, 2]


def _evaluators():
    found = []
    with contextlib.suppress(ImportError):
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        found.append((COCO, COCOeval))
    with contextlib.suppress(ImportError):
        from faster_coco_eval import COCO, COCOeval_faster

        found.append((COCO, COCOeval_faster))
    return found


@pytest.mark.parametrize("k", range(2))
def test_coco_evaluators_take_it_and_perfect_predictions_score_one(tiny, tmp_path, k):
    if k >= len(_evaluators()):
        pytest.skip("needs pycocotools and faster-coco-eval")
    reader, evaluator = _evaluators()[k]
    coco, problems = yolo_to_coco(tiny, "val")
    assert not problems and len(coco["annotations"]) > 8
    file = tmp_path / "val.json"
    file.write_text(json.dumps(coco))
    keys = ("image_id", "category_id", "bbox")
    results = [{key: a[key] for key in keys} | {"score": 0.9} for a in coco["annotations"]]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = reader(str(file))
        test = evaluator(truth, truth.loadRes(results), "bbox")
        test.evaluate()
        test.accumulate()
        test.summarize()
    assert test.stats[0] == pytest.approx(1)


def test_a_dataset_with_a_negative_a_bad_row_and_a_broken_image(tmp_path):
    data = write_dataset(tmp_path, images=3)
    labels = sorted((tmp_path / "labels" / "train").iterdir())
    labels[0].unlink()
    labels[1].write_text(labels[1].read_text() + "0 nan 0.5 0.1 0.1\n")
    (tmp_path / "images" / "train" / "broken.png").write_bytes(b"no image")
    coco, problems = yolo_to_coco(data, "train")
    assert {(p.file, p.kind) for p in problems} == {
        ("0.png", "missing"), ("1.txt", "nan"), ("broken.png", "unreadable"),
    }  # fmt: skip
    names = {i["id"]: i["file_name"] for i in coco["images"]}
    assert sorted(names.values()) == ["0.png", "1.png", "2.png"]
    assert "0.png" not in {names[a["image_id"]] for a in coco["annotations"]}
    with pytest.raises(FileNotFoundError, match="no split 'test'"):
        yolo_to_coco(data, "test")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda c: c["annotations"][0].update(bbox=[0, 0, -1, 5]), "empty-box"),
        (lambda c: c["annotations"][0].update(bbox=[0, 0, float("nan"), 5]), "format"),
        (lambda c: c["annotations"][0].update(bbox="all"), "format"),
        (lambda c: c["annotations"][0].update(bbox=[-20, 0, 40, 40]), "overhang"),
        (lambda c: c["annotations"][0].update(bbox=[500, 0, 40, 40]), "outside"),
        (lambda c: c["annotations"][0].update(category_id=[1]), "class"),
        (lambda c: c["annotations"][0].update(category_id=99), "class"),
        (lambda c: c["annotations"][0].update(image_id=99), "image"),
        (lambda c: c["annotations"][0].update(iscrowd=1), "crowd"),
        (lambda c: c["annotations"].append(dict(c["annotations"][0])), "duplicate"),
        (lambda c: c["annotations"].append("text"), "format"),
        (lambda c: c["images"].append(dict(c["images"][0])), "image"),
        (lambda c: c["images"].append({"id": 9, "file_name": "../../x.png", "width": 9, "height": 9}), "path"),
        (lambda c: c["images"].append({"id": 9, "file_name": "/etc/x.png", "width": 9, "height": 9}), "path"),
        (lambda c: c["images"].append({"id": 9, "file_name": "C:\\x.png", "width": 9, "height": 9}), "path"),
        (lambda c: c["images"].append({"id": 9, "file_name": "y.png", "width": 0, "height": 9}), "image"),
        (lambda c: c["images"].append({"id": [9], "file_name": "y.png", "width": 9, "height": 9}), "image"),
    ],
)
def test_what_is_wrong_in_coco_is_named_and_the_rest_stays(change, kind):
    rows = np.array([[0, 0.3, 0.3, 0.1, 0.1], [1, 0.6, 0.6, 0.1, 0.1]])
    coco = make_coco([("a.png", (100, 100), rows)], NAMES)
    change(coco)
    tables, _, problems = coco_to_yolo(coco)
    assert [p.kind for p in problems] == [kind]
    assert [r[0] for r in tables["a.png"].tolist()][-1] == 1 and list(tables) == ["a.png"]


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["a.png", "x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
_IMAGES = st.fixed_dictionaries({}, optional=dict.fromkeys(("id", "file_name", "width", "height"), _JSON))
_BOXES = st.lists(st.integers(-3, 9) | st.floats(), min_size=3, max_size=5) | _JSON
_ANNOTATIONS = st.fixed_dictionaries(
    {}, optional={"id": _JSON, "image_id": _JSON, "category_id": _JSON, "bbox": _BOXES, "iscrowd": _JSON}
)
_CATEGORIES = st.fixed_dictionaries({}, optional={"id": _JSON, "name": _JSON})
_SOUND = {"id": 1, "file_name": "ok.png", "width": 9, "height": 9}


@given(
    st.lists(_IMAGES | _JSON | st.just(_SOUND), max_size=4),
    st.lists(
        _ANNOTATIONS | _JSON | st.builds(lambda b: {"image_id": 1, "category_id": 1, "bbox": b}, _BOXES), max_size=5
    ),
    st.lists(_CATEGORIES | _JSON | st.just({"id": 1, "name": "DDD"}), max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_no_json_makes_it_fail_and_what_it_keeps_is_sound(images, annotations, categories):
    coco = {"images": images, "annotations": annotations, "categories": categories}
    for classes in (None, {"DDD": 0}):
        tables, names, problems = coco_to_yolo(coco, classes)
        assert len(tables) + sum(p.file.startswith("image ") for p in problems) == len(images)
        kept = sum(map(len, tables.values()))
        left_out = sum(p.file.startswith("annotation ") and p.kind != "overhang" for p in problems)
        assert kept + left_out == len(annotations)
        for rows in tables.values():
            assert np.isfinite(rows).all() and (rows[:, 3:] > 0).all() and set(rows[:, 0]) <= set(range(len(names)))


def test_classes_by_name():
    coco = make_coco(
        [("a.png", (100, 100), np.array([[0, 0.3, 0.3, 0.1, 0.1], [1, 0.6, 0.6, 0.1, 0.1]]))], ["LDB", "x"]
    )
    tables, names, problems = coco_to_yolo(coco, {n: i for i, n in enumerate(NAMES)})
    assert tables["a.png"][:, 0].tolist() == [4] and names == NAMES and [p.kind for p in problems] == ["class"]


def test_predictions_of_both_kinds(tmp_path):
    coco = make_coco([("p1.png", (200, 100), np.zeros((0, 5))), ("07.png", (100, 100), np.zeros((0, 5)))], NAMES)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "p1.txt").write_text("4 0.5 0.5 0.2 0.4 0.75\n4 2 0 0 0 0\n")
    (tmp_path / "labels" / "other.txt").write_text("")
    results, problems = predictions_to_coco(tmp_path / "labels", coco)
    assert results == [{"image_id": 2, "category_id": 5, "bbox": [80, 30, 40, 40], "score": 0.75}]
    assert {(p.file, p.kind) for p in problems} == {("p1.txt", "outside"), ("other.txt", "image")}
    entries = [
        {"image_id": "p1", "category_id": 5, "bbox": [80, 30, 40, 40], "score": 0.75, "file_name": "p1.png"},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 4, 4], "score": 0.5, "file_name": "07.png"},
        {"image_id": "p9", "category_id": 1, "bbox": [0, 0, 4, 4], "score": 0.5},
        {"image_id": 7, "category_id": 60, "bbox": [0, 0, 4, 4], "score": 0.5},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 4], "score": 0.5},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 4, 4]},
        7,
    ]
    (tmp_path / "predictions.json").write_text(json.dumps(entries))
    results, problems = predictions_to_coco(tmp_path / "predictions.json", coco)
    assert [(r["image_id"], r["category_id"], r["score"]) for r in results] == [(2, 5, 0.75), (1, 1, 0.5)]
    assert [p.kind for p in problems] == ["image", "class", "format", "format", "format"]
    for bad, error in (("{}", "holds a dict"), ("[", "not JSON")):
        (tmp_path / "bad.json").write_text(bad)
        with pytest.raises(ValueError, match=error):
            predictions_to_coco(tmp_path / "bad.json", coco)
    with pytest.raises(ValueError, match="no COCO dataset"):
        read_coco(tmp_path / "predictions.json")


def test_images_of_one_name_in_several_places_all_stay(tmp_path):
    data = write_dataset(tmp_path / "set", images=2)
    for part in ("a", "b"):
        for kind in ("images", "labels"):
            (tmp_path / "set" / kind / part).mkdir()
            for f in (tmp_path / "set" / kind / "val").iterdir():
                (tmp_path / "set" / kind / part / f.name).write_bytes(f.read_bytes())
    (tmp_path / "set" / "list.txt").write_text("".join(f"./images/{p}/{k}.png\n" for p in "ab" for k in (0, 1)))
    names = [f"{p}/{k}.png" for p in "ab" for k in (0, 1)]
    for val in ("[images/a, images/b]", "list.txt"):
        data.write_text(data.read_text().split("train:")[0] + f"train: images/train\nval: {val}\nnames: [a, b, c]\n")
        coco, problems = yolo_to_coco(data, "val")
        assert [i["file_name"] for i in coco["images"]] == names and not problems
    (tmp_path / "predictions.json").write_text(
        json.dumps(
            [
                {"image_id": i, "category_id": 1, "bbox": [0, 0, 4, 4], "score": 0.5, "file_name": f"{i}.png"}
                for i in (0, 1)
            ]
        )
    )
    results, problems = predictions_to_coco(tmp_path / "predictions.json", coco)  # of which one nobody can say
    assert (
        not results
        and [p.kind for p in problems] == ["image"] * 2
        and "is the name of two images" in problems[0].detail
    )


def test_scans_are_named_and_turned_photographs_have_their_turned_size(tmp_path):
    data = write_dataset(tmp_path / "set", images=1)
    folder = tmp_path / "set" / "images" / "val"
    (folder / "scan.dcm").write_bytes(b"\0" * 128 + b"DICM")
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    Image.new("RGB", (80, 40)).save(folder / "turned.jpg", exif=exif)
    coco, problems = yolo_to_coco(data, "val")
    (turned,) = [i for i in coco["images"] if i["file_name"] == "turned.jpg"]
    assert (turned["width"], turned["height"]) == (40, 80) == cv2.imread(str(folder / "turned.jpg")).shape[1::-1]
    assert ("scan.dcm", "scan") in {(p.file, p.kind) for p in problems}


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
