import contextlib
import io
import json

import cv2
import numpy as np
import pytest
from conftest import write_dataset
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
