"""The object model of findings and its readers: hand-made folders and JSON, the host's own writer, bad input."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from ultralytics.models.yolo.detect import DetectionValidator

from yolospine_ultra.evaluate.findings import ImageFindings, log_problem, read_dataset, read_predictions


def make_set(root, labels, size=(200, 100), split="val", names="[A, B, C]", suffix=".png"):
    """A dataset with an image (width, height) for every entry of `labels`, a label file where it is not None."""
    for kind in ("images", "labels"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    for stem, text in labels.items():
        cv2.imwrite(str(root / "images" / split / f"{stem}{suffix}"), np.zeros(size[::-1], np.uint8))
        if text is not None:
            (root / "labels" / split / f"{stem}.txt").write_text(text)
    file = root / "data.yaml"
    file.write_text(f"path: {root}\ntrain: images/{split}\nval: images/{split}\nnames: {names}\n")
    return file


def snapshot(root):
    """Every file with its content."""
    return {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}


def findings(*names):
    return [ImageFindings(n, np.zeros((0, 4)), np.zeros(0)) for n in names]


def entry(**changes):
    whole = {"image_id": "a", "file_name": "a.png", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5} | changes
    return {k: v for k, v in whole.items() if v is not None}


def write_json(path, entries):
    file = path / "predictions.json"
    file.write_text(json.dumps(entries))
    return file


def test_labels_become_pixels(tmp_path):
    file = make_set(tmp_path, {"b": "2 0.5 0.5 0.2 0.4\n", "a": "0 0.25 0.5 0.5 1\n1 0.1 0.1 0.1 0.1\n"})
    before, problems = snapshot(tmp_path), []
    images, names = read_dataset(file, "val", report=problems.append)
    assert names == ["A", "B", "C"] and [x.name for x in images] == ["a.png", "b.png"] and not problems
    np.testing.assert_allclose(images[0].boxes, [[0, 0, 100, 100], [10, 5, 30, 15]])
    np.testing.assert_allclose(images[1].boxes, [[80, 30, 120, 70]])
    assert images[0].classes.tolist() == [0, 1] and images[1].classes.tolist() == [2] and images[0].scores is None
    assert snapshot(tmp_path) == before


def test_size_is_that_of_the_image_as_it_is_shown(tmp_path):
    file = make_set(tmp_path, {"a": "0 0.5 0.5 1 1\n"})
    (tmp_path / "images/val/a.png").unlink()
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees
    Image.new("L", (200, 100)).save(tmp_path / "images/val/a.jpg", exif=exif)
    (image,), _ = read_dataset(file)
    assert image.boxes.tolist() == [[0, 0, 100, 200]]


def test_all_splits_lists_and_another_root(tmp_path):
    make_set(tmp_path / "set", {"a": "0 0.5 0.5 1 1\n"}, split="train")
    make_set(tmp_path / "set", {"a": "1 0.5 0.5 1 1\n", "b": ""}, split="val")
    (tmp_path / "set/list.txt").write_text("./images/val/a.png\n\n./images/val/b.png\n")
    file = tmp_path / "data.yaml"
    file.write_text("path: nowhere\ntrain: [images/train]\nval: list.txt\nnames: {1: B, 0: A}\n")
    images, names = read_dataset(file, "all", root=tmp_path / "set")
    assert names == ["A", "B"]
    assert [(x.name, x.classes.tolist()) for x in images] == [
        ("train/a.png", [0]),
        ("val/a.png", [1]),
        ("val/b.png", []),
    ]


def write_dicom(file, rows, columns, spacing, instance=1):
    """A minimal sagittal MR slice."""
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{instance}"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    scan = pydicom.dataset.Dataset()
    scan.file_meta, scan.SOPClassUID, scan.SOPInstanceUID = meta, meta.MediaStorageSOPClassUID, f"1.2.3.{instance}"
    scan.Modality, scan.SeriesInstanceUID, scan.InstanceNumber = "MR", "1.2.3", instance
    scan.Rows, scan.Columns, scan.PixelSpacing, scan.SliceThickness = rows, columns, list(spacing), 4
    scan.ImageOrientationPatient, scan.ImagePositionPatient = [0, 1, 0, 0, 0, -1], [4.0 * instance, 0, 0]
    scan.SamplesPerPixel, scan.PhotometricInterpretation, scan.PixelRepresentation = 1, "MONOCHROME2", 0
    scan.BitsAllocated, scan.BitsStored, scan.HighBit = 16, 12, 11
    scan.PixelData = np.random.default_rng(instance).integers(0, 4000, (rows, columns), dtype=np.uint16).tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    scan.save_as(file, enforce_file_format=True)


def test_scans_and_series_folders_are_images(tmp_path):
    """Boxes are in the plane that a detector sees: with square pixels, of a series one for all its files."""
    file = make_set(tmp_path, {"a": "0 0.5 0.5 1 1\n"})
    write_dicom(tmp_path / "images/val/scan.dcm", 64, 32, (1.0, 2.0))
    for k in range(3):
        write_dicom(tmp_path / f"images/val/series/{k}.dcm", 50, 40, (1.0, 1.0), k + 1)
    (tmp_path / "images/val/torn.dcm").write_bytes(b"\0" * 128 + b"DICM")
    for stem in ("scan", "series", "torn"):
        (tmp_path / f"labels/val/{stem}.txt").write_text("1 0.5 0.5 1 1\n")
    before, problems = snapshot(tmp_path), []
    images, _ = read_dataset(file, report=problems.append)
    boxes = {x.name: x.boxes.tolist() for x in images}
    assert boxes == {"a.png": [[0, 0, 200, 100]], "scan.dcm": [[0, 0, 64, 64]], "series": [[0, 0, 40, 50]]}
    assert [(p.file, p.kind) for p in problems] == [("images/val/torn.dcm", "unreadable")]
    assert snapshot(tmp_path) == before
    host = [entry(file_name="series", image_id="series"), entry(file_name="scan.dcm", image_id="scan")]
    assert [len(x) for x in read_predictions(write_json(tmp_path, host), images, 3)] == [0, 1, 1]


def test_bad_labels_are_named_and_the_rest_is_read(tmp_path, monkeypatch):
    rows = [
        "0 0.5 0.5 0.2 0.2",
        "0 0.5 0.5 0.2 0.2",
        "3 0.5 0.5 0.2 0.2",
        "1 nan 0.5 0.2 0.2",
        "1 1.5 0.5 0.2 0.2",
        "1 x",
    ]
    labels = {"a": "\n".join(rows), "missing": None, "torn": "0 0.5 0.5 1 1\n", "blob": "0 0.5 0.5 1 1\n"}
    file = make_set(tmp_path, labels)
    (tmp_path / "images/val/torn.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "labels/val/blob.txt").write_bytes(b"\xff\xfe\x00\x81" * 9)
    (tmp_path / "labels/val/extra.txt").write_text("0 0.5 0.5 1 1\n")
    (tmp_path / "labels/val/classes.txt").write_text("A\nB\nC\n")
    (tmp_path / "images/val/notes.md").write_text("not an image")
    before, problems = snapshot(tmp_path), []
    installed = []  # the host would install a package that might read a file Pillow cannot identify
    monkeypatch.setattr("ultralytics.utils.checks.check_requirements", installed.append)
    images, _ = read_dataset(file, "val", report=problems.append)
    assert not installed and {x.name: len(x) for x in images} == {"a.png": 1, "missing.png": 0}
    found = {(p.file, p.kind, p.line) for p in problems}
    assert found == {
        ("labels/val/a.txt", "duplicate", 2),
        ("labels/val/a.txt", "class", 3),
        ("labels/val/a.txt", "nan", 4),
        ("labels/val/a.txt", "outside", 5),
        ("labels/val/a.txt", "format", 6),
        ("labels/val/blob.txt", "unreadable", None),
        ("labels/val/extra.txt", "extra", None),
        ("images/val/missing.png", "missing", None),
        ("images/val/torn.png", "unreadable", None),
    }
    assert len(problems) == len(found) and snapshot(tmp_path) == before


def test_nothing_usable_is_an_error(tmp_path):
    file, problems = make_set(tmp_path, {"a": "0 0.5 0.5 1 1\n"}), []
    (tmp_path / "images/val/a.png").write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 1 images"):
        read_dataset(file, report=problems.append)
    assert [p.kind for p in problems] == ["unreadable"]


def test_images_that_share_a_label_file_are_named(tmp_path):
    make_set(tmp_path, {"a": "0 0.5 0.5 1 1\n"}, suffix=".jpg")
    file, problems = make_set(tmp_path, {"a": "0 0.5 0.5 1 1\n"}), []
    images, _ = read_dataset(file, report=problems.append)
    assert len(images) == 2 and [p.kind for p in problems] == ["same-stem"]


def test_problems_reach_the_log_by_default(tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr("yolospine_ultra.evaluate.findings.LOGGER", SimpleNamespace(warning=logged.append))
    read_dataset(make_set(tmp_path, {"a": "9 0.5 0.5 1 1\n"}), report=log_problem)
    assert len(logged) == 1 and "a.txt:1" in logged[0]


@pytest.mark.parametrize(
    ("content", "error", "match"),
    [
        ("names: [A]\ntrain: images/none\nval: images/none\n", FileNotFoundError, "not there"),
        ("names: [A]\ntrain: images/empty\nval: images/empty\n", FileNotFoundError, "no images"),
        ("names: [A]\ntrain: images/val\n", ValueError, "no split 'val'"),
        ("train: images/val\nval: images/val\n", ValueError, "no `names`"),
        ("names: {0: A, 7: B}\nval: images/val\n", ValueError, "names"),
        ("- just\n- a list\n", ValueError, "mapping"),
    ],
)
def test_unusable_yaml(tmp_path, content, error, match):
    make_set(tmp_path, {"a": ""})
    (tmp_path / "images/empty").mkdir()
    (tmp_path / "data.yaml").write_text(content)
    with pytest.raises(error, match=match):
        read_dataset(tmp_path / "data.yaml", "val")


def test_missing_yaml_and_root(tmp_path):
    with pytest.raises(FileNotFoundError, match="dataset YAML"):
        read_dataset(tmp_path / "none.yaml")
    with pytest.raises(FileNotFoundError, match="not a folder"):
        read_dataset(make_set(tmp_path, {"a": ""}), root=tmp_path / "none")


@pytest.mark.parametrize(
    ("boxes", "classes", "scores"),
    [
        ([[0, 0, 1, 1]], [0, 1], None),
        ([[0, 0, 1]], [0], None),
        ([[0, 0, np.nan, 1]], [0], None),
        ([[2, 0, 1, 1]], [0], None),
        ([[0, 0, 1, 1]], [-1], None),
        ([[0, 0, 1, 1]], [0.5], None),
        ([[0, 0, 1, 1]], [0], [1.5]),
        ([[0, 0, 1, 1]], [0], [np.nan]),
        ([[0, 0, 1, 1]], [0], []),
    ],
)
def test_object_refuses_what_is_no_finding(boxes, classes, scores):
    with pytest.raises(ValueError, match=r"^a\.png: "):
        ImageFindings("a.png", boxes, classes, scores)


def test_above_keeps_scores_from_conf():
    image = ImageFindings("a", [[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]], [0, 1, 2], [0.2, 0.5, 0.9])
    assert image.above(0.5).classes.tolist() == [1, 2] and image.above(0.5).scores.tolist() == [0.5, 0.9]
    truth = ImageFindings("a", image.boxes, image.classes)
    assert truth.above(1.0) is truth


def test_predictions_as_the_host_writes_them(tmp_path):
    """Through the host's own writer: its category ids count from 1, a stem of digits becomes a number."""
    host = SimpleNamespace(jdict=[], class_map=[1, 2, 3])
    for name, cls in (("007.png", [0, 2]), ("b.x.png", [1])):
        boxes = torch.tensor([[10.0, 20, 30, 60], [5, 5, 15, 15]])[: len(cls)]
        predicted = {"bboxes": boxes, "conf": torch.tensor([0.75, 0.5])[: len(cls)], "cls": torch.tensor(cls).float()}
        DetectionValidator.pred_to_json(host, predicted, {"im_file": f"/somewhere/else/{name}"})
    file, problems = write_json(tmp_path, host.jdict), []
    images = findings("007.png", "b.x.png", "nothing.png")
    for entries in (host.jdict, [{k: v for k, v in e.items() if k != "file_name"} for e in host.jdict]):
        found = read_predictions(write_json(tmp_path, entries), images, 3, problems.append)
        assert [x.name for x in found] == ["007.png", "b.x.png", "nothing.png"]
        assert "1 of 3 images have no prediction, such as nothing.png" in str(problems.pop()) and not problems
        assert [x.classes.tolist() for x in found] == [[0, 2], [1], []]
        np.testing.assert_allclose(found[0].boxes, [[10, 20, 30, 60], [5, 5, 15, 15]])
        assert found[0].scores.tolist() == [0.75, 0.5] and found[2].scores.tolist() == []
    assert file.is_file()


def test_predictions_match_by_folder_where_the_name_is_not_enough(tmp_path):
    images = findings("train/a.png", "val/a.png", "val/b.png")
    found = read_predictions(write_json(tmp_path, [entry(file_name="val/a.png")]), images, 1)
    assert [len(x) for x in found] == [0, 1, 0]
    with pytest.raises(ValueError, match=r"may be train/a\.png and val/a\.png"):
        read_predictions(write_json(tmp_path, [entry()]), images, 1)


@pytest.mark.parametrize("name", ["train/a.png", "x/train/a.jpg"])
def test_folders_that_contradict_are_another_image(tmp_path, name):
    problems, images = [], findings("val/a.png", "val/b.png")
    file = write_json(tmp_path, [entry(file_name=name), entry(file_name="b.png")])
    found = read_predictions(file, images, 1, problems.append)
    assert [len(x) for x in found] == [0, 1]
    assert [p.kind for p in problems] == ["unknown-image", "no-prediction"]
    found = read_predictions(write_json(tmp_path, [entry(file_name="/data/val/a.png")]), images, 1, problems.append)
    assert [len(x) for x in found] == [1, 0]


def test_predictions_of_other_images_alone_are_refused(tmp_path):
    file = write_json(tmp_path, [entry(file_name="1.png"), entry(file_name="2.png")])
    with pytest.raises(ValueError, match=r"predictions of '1\.png' and others, and of none of the 1 images such as 'a"):
        read_predictions(file, findings("a.png"), 1, [].append)
    (found,) = read_predictions(write_json(tmp_path, []), findings("a.png"), 1, [].append)  # it may find nothing
    assert not len(found)


def test_repeated_entries_count_once(tmp_path):
    problems, several = [], [entry(), entry(score=0.25), entry(), entry(category_id=2)]
    (found,) = read_predictions(write_json(tmp_path, several), findings("a.png"), 2, problems.append)
    assert found.scores.tolist() == [0.5, 0.25, 0.5] and found.classes.tolist() == [0, 0, 1]
    assert [p.kind for p in problems] == ["duplicate"] and "entry 2" in problems[0].file


def test_predictions_of_another_file_type_match_by_stem(tmp_path):
    found = read_predictions(write_json(tmp_path, [entry(file_name="a.jpg")]), findings("a.png"), 1)
    assert [len(x) for x in found] == [1]


def test_category_ids_from_0_are_refused_unless_said_so(tmp_path):
    file = write_json(tmp_path, [entry(category_id=1), entry(category_id=0)])
    with pytest.raises(ValueError, match="first_category=0"):
        read_predictions(file, findings("a.png"), 3)
    (found,) = read_predictions(file, findings("a.png"), 3, first_category=0)
    assert found.classes.tolist() == [1, 0]
    with pytest.raises(ValueError, match="category_id 4, expected 1 to 3; the file is of other classes, or does not"):
        read_predictions(write_json(tmp_path, [entry(category_id=4)]), findings("a.png"), 3)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (entry(file_name="other.png"), "unknown-image"),
        (entry(category_id="x"), "prediction"),
        (entry(category_id=1.5), "prediction"),
        (entry(score=1.5), "prediction"),
        (entry(score=float("nan")), "prediction"),
        (entry(bbox=[1, 2, float("inf"), 4]), "prediction"),
        (entry(bbox=[1, 2, -3, 4]), "prediction"),
        (entry(bbox=[1, 2, 3]), "prediction"),
        (entry(bbox=None), "prediction"),
        (entry(file_name=None, image_id=None), "prediction"),
        ("a string", "prediction"),
        (None, "prediction"),
    ],
)
def test_bad_entries_are_named_and_the_rest_is_read(tmp_path, bad, kind):
    problems = []
    file = write_json(tmp_path, [entry(), bad, entry(score=0.25)])
    (found,) = read_predictions(file, findings("a.png"), 3, problems.append)
    assert found.scores.tolist() == [0.5, 0.25]
    assert [p.kind for p in problems] == [kind] and "entry 1" in problems[0].file


@pytest.mark.parametrize("text", ["", "{", '{"annotations": []}', "[" * 100000])
def test_unusable_json(tmp_path, text):
    file = tmp_path / "predictions.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"predictions\.json (is not JSON|holds a dict)"):
        read_predictions(file, findings("a.png"), 3)
    with pytest.raises(FileNotFoundError, match="save_json"):
        read_predictions(tmp_path / "none.json", findings("a.png"), 3)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4), lambda x: st.lists(x, max_size=4)
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "image_id": anything | st.just("a"),
        "file_name": anything | st.just("a.png"),
        "category_id": anything | st.integers(1, 3),
        "bbox": anything | st.lists(st.floats(0, 50), min_size=4, max_size=4),
        "score": anything | st.floats(0, 1),
    },
)


@settings(max_examples=40, deadline=None)
@given(st.lists(fields | anything, max_size=4))
def test_hostile_entries_are_reported_or_refused_in_a_sentence(tmp_path_factory, entries):
    file, problems = write_json(tmp_path_factory.getbasetemp(), entries), []
    try:
        (found,) = read_predictions(file, findings("a.png"), 3, problems.append)
    except ValueError as error:
        assert "category_id" in str(error) or "of none of the 1 images" in str(error)  # what stops the reading
    else:
        assert len(found) + sum(p.kind != "no-prediction" for p in problems) == len(entries)
