"""The converter of RSNA 2024, on DICOM series and tables made in its formats."""

import csv
import json
import runpy
import sys

import cv2
import numpy as np
import pytest
from conftest import REPO

from yolospine_ultra.data.public import prepare_rsna
from yolospine_ultra.data.public.annotations import read_annotations
from yolospine_ultra.data.public.classes import DISORDERS
from yolospine_ultra.data.public.rsna import EXTERNAL_LABELS, LEVELS, STENOSIS_MM

pydicom = pytest.importorskip("pydicom", reason="makes the series")

SCRIPT = str(REPO / "scripts" / "prepare_dataset.py")
SIZE, SPACING, PLANES = 96, 0.8, 7
CONDITIONS = ("spinal_canal_stenosis", "left_neural_foraminal_narrowing", "right_neural_foraminal_narrowing",
              "left_subarticular_stenosis", "right_subarticular_stenosis")  # fmt: skip
UPRIGHT, UPSIDE_DOWN = (0, 1, 0, 0, 0, -1), (0, 1, 0, 0, 0, 1)


def blobs(seed):
    rough = np.random.default_rng(seed).random((12, 12)).astype(np.float32)
    return 200 + 800 * cv2.resize(rough, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


def write_instance(file, pixels, x_mm, axes=UPRIGHT, number=1, series="1.2.3", **tags):
    """One DICOM file of a sagittal series at x_mm from right to left; `tags` take the place of its own."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(str(file), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    ds.SeriesInstanceUID, ds.Modality, ds.InstanceNumber = series, "MR", number
    ds.PatientName, ds.PatientID = "Secret^Person", "secret-id"
    ds.Rows, ds.Columns, ds.SamplesPerPixel = *pixels.shape, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelSpacing, ds.SliceThickness = [SPACING, SPACING], 4.0
    ds.ImageOrientationPatient, ds.ImagePositionPatient = list(axes), [x_mm, -40.0, 60.0]
    ds.PixelData = pixels.clip(0, 4095).astype(np.uint16).tobytes()
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    file.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(file)


def write_series(root, study, series, axes=UPRIGHT, **tags):
    """A series whose instance numbers run against their positions; plane k shows blobs of its own."""
    for k in range(PLANES):
        pixels = blobs([study, 0]) + 3 * k * np.arange(SIZE)
        pixels = pixels if axes == UPRIGHT else pixels[::-1]
        file = root / "train_images" / str(study) / str(series) / f"{PLANES - k}.dcm"
        write_instance(file, pixels, 4.0 * (k - 3), axes, PLANES - k, f"1.2.{study}.{series}", **tags)


def write_csv(file, header, rows):
    file.write_text("\n".join([",".join(header), *(",".join(map(str, r)) for r in rows)]) + "\n")


def point(level):
    """Canal coordinate of a level, pixels (x, y)."""
    return 50.0 + 2 * LEVELS.index(level), 12.0 + 16 * LEVELS.index(level)


def write_download(root, studies=(101, 102, 103, 104, 105, 106), graded=None, instance=5):
    """Studies with one sagittal T2 series each, a T1 and an axial one in the tables; grades by (study, level)."""
    graded = (
        {(101, "L4/L5"): "Severe", (101, "L3/L4"): "Moderate", (102, "L4/L5"): "Moderate"} if graded is None else graded
    )
    series, points, grades = [], [], []
    for study in studies:
        write_series(root, study, study * 10)
        series += [(study, study * 10, "Sagittal T2/STIR"), (study, study * 10 + 1, "Sagittal T1"),
                   (study, study * 10 + 2, "Axial T2")]  # fmt: skip
        for level in LEVELS:
            x, y = point(level)
            points.append((study, study * 10, instance, "Spinal Canal Stenosis", level, x, y))
            points.append((study, study * 10 + 1, 2, "Left Neural Foraminal Narrowing", level, 1.0, 1.0))
        cells = {f"{c}_{lv.lower().replace('/', '_')}": "Normal/Mild" for c in CONDITIONS for lv in LEVELS}
        cells |= {f"{CONDITIONS[0]}_{lv.lower().replace('/', '_')}": s for (st, lv), s in graded.items() if st == study}
        grades.append((study, *cells.values()))
    write_csv(root / "train_series_descriptions.csv", ("study_id", "series_id", "series_description"), series)
    columns = ("study_id", "series_id", "instance_number", "condition", "level", "x", "y")
    write_csv(root / "train_label_coordinates.csv", columns, points)
    names = [f"{c}_{lv.lower().replace('/', '_')}" for c in CONDITIONS for lv in LEVELS]
    write_csv(root / "train.csv", ("study_id", *names), grades)
    return root


def tables(folder):
    return [list(csv.DictReader((folder / f"{name}.csv").open())) for name in ("images", "annotations")]


@pytest.mark.parametrize("axes", [UPRIGHT, UPSIDE_DOWN])
def test_plane_and_boxes_by_hand(tmp_path, axes):
    root = write_download(tmp_path / "in", studies=(101, 102))
    if axes == UPSIDE_DOWN:  # the stored rows run from feet to head, and so do the coordinates
        write_series(root, 101, 1010, axes)
        file = root / "train_label_coordinates.csv"
        rows = list(csv.DictReader(file.open()))
        for row in rows:
            if row["study_id"] == "101":
                row["y"] = str(SIZE - 1 - float(row["y"]))
        write_csv(file, rows[0].keys(), [r.values() for r in rows])
    report = prepare_rsna(root, tmp_path / "out", shares={"train": 0.5, "val": 0.5})
    assert not report.problems
    images, boxes = tables(tmp_path / "out")
    one = next(i for i in images if i["patient"] == "101")
    assert (
        one["image"] == "101_1010.png"
        and one["source"] == "train_images/101/1010/5.dcm"
        and one["mm_per_px"] == "0.80000"
    )
    image = cv2.imread(str(tmp_path / "out" / "images" / one["split"] / one["image"]), 0)
    plane = blobs([101, 0]) + 3 * (PLANES - 5) * np.arange(SIZE)
    assert image.shape == (SIZE, SIZE)
    assert np.corrcoef(image.ravel(), plane.clip(*np.percentile(plane, (0.5, 99.5))).ravel())[0, 1] > 0.999
    found = {b["level"]: b for b in boxes if b["patient"] == "101"}
    assert {lv: (b["class"], b["severity"]) for lv, b in found.items()} == {
        "L3/L4": ("SS", "moderate"), "L4/L5": ("SS", "severe"),
    }  # fmt: skip
    for level, box in found.items():
        x, y = point(level)
        w, h = (mm / SPACING for mm in STENOSIS_MM)
        wanted = [x + 0.5 - w / 2, y + 0.5 - h / 2, x + 0.5 + w / 2, y + 0.5 + h / 2]
        np.testing.assert_allclose([float(box[c]) for c in ("x1", "y1", "x2", "y2")], wanted, atol=2e-3)


def test_pixels_that_are_not_square_and_a_window_by_hand(tmp_path):
    root = write_download(tmp_path / "in", studies=(101,))
    write_series(root, 101, 1010, PixelSpacing=[0.8, 0.5], WindowCenter=600, WindowWidth=401)
    report = prepare_rsna(root, tmp_path / "out", split="external")
    assert not report.problems
    (one,), boxes = tables(tmp_path / "out")
    assert (one["width"], one["height"], one["mm_per_px"]) == ("96", "154", "0.50000")
    plane = (blobs([101, 0]) + 3 * (PLANES - 5) * np.arange(SIZE)).astype(np.uint16).astype(np.float32)
    plane = cv2.resize(plane, (96, 154), interpolation=cv2.INTER_LINEAR)
    image = cv2.imread(str(tmp_path / "out" / "images" / "test" / one["image"]), 0)
    # black up to 399.5, white from 799.5 on
    np.testing.assert_allclose(image, ((plane - 399.5) / 400 * 255).clip(0, 255), atol=0.51)
    x, y = point("L4/L5")
    (box,) = (b for b in boxes if b["level"] == "L4/L5")
    middle = x + 0.5, (y + 0.5) * 154 / 96
    wanted = [middle[0] - 14, middle[1] - 19, middle[0] + 14, middle[1] + 19]  # 14 by 19 mm at 0.5 mm a pixel
    np.testing.assert_allclose([float(box[c]) for c in ("x1", "y1", "x2", "y2")], wanted, atol=2e-3)


@pytest.mark.parametrize(("spacing", "width", "height"), [([0.5, 0.8], 96, 154), ([0.8, 0.5], 154, 96)])
def test_transposed_planes_of_two_sides_by_hand(tmp_path, spacing, width, height):
    """A row runs to the feet, a column to the back: upright, the sides of a pixel change places."""
    root = write_download(tmp_path / "in", studies=(101,))
    write_series(root, 101, 1010, (0, 0, -1, 0, 1, 0), PixelSpacing=spacing)
    prepare_rsna(root, tmp_path / "out", split="external")
    (one,), boxes = tables(tmp_path / "out")
    assert (one["width"], one["height"], one["mm_per_px"]) == (str(width), str(height), "0.50000")
    x, y = point("L4/L5")
    (box,) = (b for b in boxes if b["level"] == "L4/L5")
    middle = [(float(box["x1"]) + float(box["x2"])) / 2, (float(box["y1"]) + float(box["y2"])) / 2]
    np.testing.assert_allclose(middle, [(y + 0.5) * width / 96, (x + 0.5) * height / 96], atol=2e-3)


def test_a_window_beside_all_pixels_is_named_and_not_taken(tmp_path):
    root = write_download(tmp_path / "in", studies=(101,))
    write_series(root, 101, 1010, WindowCenter=5000, WindowWidth=200)
    report = prepare_rsna(root, tmp_path / "out", split="external")
    assert [(p.file, p.kind) for p in report.problems] == [("train_images/101/1010/5.dcm", "window")]
    (one,), boxes = tables(tmp_path / "out")
    image = cv2.imread(str(tmp_path / "out" / "images" / "test" / one["image"]), 0)
    assert len(boxes) == 2 and (image.min(), image.max()) == (0, 255)


def test_severity_from_which_a_level_is_stenosed(tmp_path):
    root = write_download(tmp_path / "in")
    for stenosis, count in (("moderate", 3), ("severe", 1), ("none", 0)):
        report = prepare_rsna(root, tmp_path / stenosis, stenosis=stenosis)
        assert sum(row["SS"] for row in report.labels.values()) == count
        assert sum(report.images.values()) == 6 and not report.leaks
        assert all(row[c] == 0 for row in report.labels.values() for c in DISORDERS if c != "SS")
    assert any("NOT labelled" in n for n in report.notes)


def test_without_coordinates_the_middle_of_the_stack_is_taken(tmp_path):
    root = write_download(tmp_path / "in")
    for name in ("train_label_coordinates.csv", "train.csv"):
        (root / name).unlink()
    with pytest.raises(FileNotFoundError, match="train_label_coordinates"):
        prepare_rsna(root, tmp_path / "out")
    prepare_rsna(root, tmp_path / "out", stenosis="none")
    assert {i["source"].rsplit("/", 1)[1] for i in tables(tmp_path / "out")[0]} == {"4.dcm"}


def test_no_name_of_a_patient_gets_out(tmp_path):
    prepare_rsna(write_download(tmp_path / "in", studies=(101, 102)), tmp_path / "out")
    for file in (tmp_path / "out").rglob("*"):
        assert file.is_dir() or b"ecret" not in file.read_bytes()


def test_external_set_of_so_many_studies(tmp_path):
    from ultralytics.data.utils import check_det_dataset

    root = write_download(tmp_path / "in")
    first = prepare_rsna(root, tmp_path / "a", images=4, split="external", seed=1)
    assert first.images == {"test": 4}
    assert "val of dataset.yaml are the images of test too." in first.notes
    prepare_rsna(root, tmp_path / "b", images=4, split="external", seed=1)
    prepare_rsna(root, tmp_path / "c", images=4, split="external", seed=2)
    names = [sorted(i["image"] for i in tables(tmp_path / f)[0]) for f in "abc"]
    assert names[0] == names[1] != names[2]
    data = check_det_dataset(str(tmp_path / "a" / "dataset.yaml"), autodownload=False)
    assert data["val"] == data["test"] == str(tmp_path / "a" / "images" / "test")


def test_own_annotations_as_a_table(tmp_path):
    root = write_download(tmp_path / "in")
    rows = [("101_1010.png", "DDD", 10, 20, 40, 30), ("101_1010.png", "LDB", 10, 20, 40, 30),
            ("103", "Normal IVD", 5, 5, 20, 15), ("104_1040", "", "", "", "", ""), ("999", "SS", 1, 1, 2, 2),
            ("103", "kidney", 1, 1, 2, 2), ("103", "SS", 5, 5, 5, 9), ("103", "SS", "a", 5, 5, 9)]  # fmt: skip
    write_csv(tmp_path / "own.csv", ("image", "class", "x1", "y1", "x2", "y2"), rows)
    report = prepare_rsna(root, tmp_path / "out", annotations=tmp_path / "own.csv", split="external")
    images, boxes = tables(tmp_path / "out")
    assert {i["image"]: i["boxes"] for i in images} == {"101_1010.png": "2", "103_1030.png": "1", "104_1040.png": "0"}
    assert [(b["class"], float(b["x1"]), float(b["y2"])) for b in boxes] == [
        ("DDD", 10, 30), ("LDB", 10, 30), ("IVDn", 5, 15),
    ]  # fmt: skip
    assert sorted(p.kind for p in report.problems) == ["class", "empty-box", "format", "missing"]
    assert {c.what for c in report.deviations} >= {"images of the external set", "external labels of IVDn"}
    assert [c.published for c in report.comparisons if c.what.startswith("external")] == list(EXTERNAL_LABELS.values())
    # what was written can be corrected and given again
    again = prepare_rsna(root, tmp_path / "again", annotations=tmp_path / "out" / "annotations.csv", split="external")
    assert again.labels == report.labels and again.images == {"test": 2} and not again.problems


def test_own_annotations_as_coco(tmp_path):
    root = write_download(tmp_path / "in")
    coco = {
        "images": [{"id": 5, "file_name": "101_1010.png", "width": 192, "height": 192},
                   {"id": 6, "file_name": "102_1020.png", "width": 96, "height": 96}],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 3, "bbox": [20, 40, 60, 20]},
                        {"id": 2, "image_id": 5, "category_id": 9, "bbox": [20, 40, 60, 20]}],
        "categories": [{"id": 3, "name": "Spondylolisthesis"}, {"id": 9, "name": "kidney"}],
    }  # fmt: skip
    (tmp_path / "own.json").write_text(json.dumps(coco))
    report = prepare_rsna(root, tmp_path / "out", annotations=tmp_path / "own.json", split="external")
    images, boxes = tables(tmp_path / "out")
    assert len(images) == 2 and [p.kind for p in report.problems] == ["class"]
    assert [[float(b[c]) for c in ("x1", "y1", "x2", "y2")] for b in boxes] == [[10, 20, 40, 30]]
    assert boxes[0]["class"] == "SP"
    coco["categories"].pop(0)
    (tmp_path / "own.json").write_text(json.dumps(coco))
    with pytest.raises(ValueError, match="none of the classes"):
        read_annotations(tmp_path / "own.json", [])


def test_everything_wrong_is_named_and_the_rest_goes_on(tmp_path):
    graded = {(108, "L1/L2"): "Severe", (101, "L4/L5"): "Severe", (105, "L5/S1"): "Severe"}
    root = write_download(tmp_path / "in", studies=range(101, 112), graded=graded)
    images = root / "train_images"
    for n in range(1, PLANES + 1):  # 101: every file cut short
        file = images / "101" / "1010" / f"{n}.dcm"
        file.write_bytes(file.read_bytes()[:900])
    file = images / "102" / "1020" / "5.dcm"  # 102: the marked plane is damaged, the next is taken
    file.write_bytes(file.read_bytes()[:-3000])
    (images / "103" / "1030" / "2.dcm").write_bytes(b"no DICOM")  # 103: one file is something else
    for name, cut in (("train.csv", "104,"), ("train_series_descriptions.csv", "106,")):
        file = root / name
        file.write_text("\n".join(r for r in file.read_text().splitlines() if not r.startswith(cut)) + "\n")
    (images / "107").rename(tmp_path / "gone")
    file = root / "train_label_coordinates.csv"
    rows = file.read_text().splitlines()
    rows = [r for r in rows if not r.startswith("108,1080,5,Spinal Canal Stenosis,L1/L2")]
    rows += ["109,1090,5,Spinal Canal Stenosis,L1/L2,nan,3", "109,1090", "109,1090,88,Spinal Canal Stenosis,L1/L2,3,3"]
    file.write_text("\n".join(rows) + "\n")
    text = (root / "train.csv").read_text().splitlines()
    k = next(i for i, r in enumerate(text) if r.startswith("110,"))
    text[k] = text[k].replace("Normal/Mild", "", 1)
    (root / "train.csv").write_text("\n".join(text) + "\n")
    for n in range(1, PLANES + 1):  # 111: an axial series under the name of a sagittal one
        write_instance(images / "111" / "1110" / f"{n}.dcm", blobs(n), 0, (1, 0, 0, 0, 1, 0), n, "1.2.111")
    before = {f: f.read_bytes() for f in root.rglob("*") if f.is_file()}
    report = prepare_rsna(root, tmp_path / "out")
    named = {(p.file, p.kind) for p in report.problems}
    assert named == {
        ("train_images/101/1010", "unreadable"), ("train_images/102/1020", "unreadable"),
        ("train_images/103/1030/2.dcm", "unreadable"), ("train_images/104/1040", "missing-row"),
        ("train_images/106", "missing-row"), ("train.csv", "missing"), ("train_images/108/1080", "missing-coordinate"),
        ("train_label_coordinates.csv", "coordinate"), ("train_label_coordinates.csv", "row"),
        ("train_images/109/1090", "coordinate"), ("train.csv", "grade"), ("train_images/111/1110", "unreadable"),
    }  # fmt: skip
    assert str(tmp_path) not in json.dumps([str(p) for p in report.problems])
    images = {i["patient"]: i["source"] for i in tables(tmp_path / "out")[0]}
    assert sorted(images) == ["102", "103", "105", "109", "110"]
    assert images["102"].rsplit("/", 1)[1] in {"4.dcm", "6.dcm"} and images["103"].endswith("/5.dcm")
    assert {f: f.read_bytes() for f in before} == before
    assert "101/1010" in report.text()


def test_command(tmp_path, monkeypatch, capsys):
    write_download(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    args = [SCRIPT, "rsna", "in", "--out", "out", "--images", "3", "--split", "external", "--json"]
    monkeypatch.setattr(sys, "argv", args)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(SCRIPT, run_name="__main__")
    assert end.value.code == 0 and json.loads(capsys.readouterr().out)["images"] == {"test": 3}
    with pytest.raises(SystemExit) as end:
        runpy.run_path(SCRIPT, run_name="__main__")
    assert end.value.code == 2 and "exists" in capsys.readouterr().err
