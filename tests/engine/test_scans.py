"""Scans through the model: predict, its results in millimetres and what it saves, training, export, the command."""

import json

import cv2
import numpy as np
import pytest
import torch
from conftest import command, run
from scan_files import IDENTITY, NAME, write_dicom, write_mha, write_nifti, write_series
from ultralytics import YOLO

from yolospine_ultra.data.scans import ScanError, read_view
from yolospine_ultra.engine.model import PluginDetectionModel

pytest.importorskip("pydicom")
pytest.importorskip("nibabel")

RNG = np.random.default_rng(0)
OPTIONS = {"imgsz": 64, "conf": 1e-4, "max_det": 3, "verbose": False, "device": "cpu"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An untrained model: it finds something everywhere."""
    file = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.manual_seed(0)
    YOLO("yolospine-n.yaml").save(file)
    return file


@pytest.fixture(scope="module")
def model(weights):
    return YOLO(weights)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A folder with a DICOM image, a series in a folder below, volumes, a deep image and a plain one."""
    root = tmp_path_factory.mktemp("scans")
    body = np.add.outer(np.arange(48) * 30, np.arange(40) * 20)
    stack = (body + RNG.integers(0, 200, (5, 48, 40))).astype(np.uint16)
    write_dicom(root / "one.dcm", stack[0], spacing=(0.5, 0.5), WindowCenter=1000, WindowWidth=1500)
    write_series(root / "series", stack, order=[4, 2, 0, 1, 3])
    write_nifti(root / "volume.nii.gz", stack.T.astype(np.int16), np.diag([0.6, 0.6, 3, 1]) @ np.eye(4)[[2, 0, 1, 3]])
    write_mha(root / "volume.mha", stack.astype(np.int16), [[0, 0.7, 0], [0, 0, -0.7], [3, 0, 0]])
    cv2.imwrite(str(root / "deep.png"), stack[1])
    cv2.imwrite(str(root / "plain.png"), (stack[1] >> 4).astype(np.uint8))
    return root


def test_a_scan_gives_what_its_view_gives(model, scans):
    for name in ("one.dcm", "series", "volume.nii.gz", "volume.mha", "deep.png"):
        view = read_view(scans / name)
        (result,) = model.predict(scans / name, **OPTIONS)
        (expected,) = model.predict(view.channels(3), **OPTIONS)
        torch.testing.assert_close(result.boxes.data, expected.boxes.data)
        assert len(result) and (result.orig_img[..., 0] == view.image).all()
        assert result.spacing_mm == view.place.spacing_mm and result.place.index == view.place.index
    assert result.boxes_mm is None and expected.spacing_mm is None


def test_sizes_in_millimetres(model, scans):
    (result,) = model.predict(scans / "one.dcm", **OPTIONS)
    assert result.spacing_mm == (0.5, 0.5) and result.path == str(scans / "one.dcm")
    torch.testing.assert_close(result.boxes_mm, result.boxes.xyxy * 0.5)
    torch.testing.assert_close(torch.from_numpy(result.numpy().boxes_mm), result.boxes_mm)
    x1, y1, x2, y2 = result.boxes.xyxy[0].tolist()
    for row in (result.summary()[0], json.loads(result.to_json())[0], result.summary(normalize=True)[0]):
        assert row["size_mm"]["width"] == pytest.approx((x2 - x1) / 2, abs=1e-4)
        assert row["size_mm"]["height"] == pytest.approx((y2 - y1) / 2, abs=1e-4)
    assert "size_mm" in result.to_csv() and "size_mm" in result.to_df().columns
    # the lower right corner of the first box, in the patient: x1 y1 are pixels from the corner of the first one
    np.testing.assert_allclose(result.place.patient_mm([x2, y2]), (0, x2 / 2 - 0.25, 0.25 - y2 / 2), atol=1e-5)
    for copy in (result[:1], result.cpu(), result.new()):
        assert copy.place is result.place and copy.spacing_mm == (0.5, 0.5)
    assert "size_mm" not in model.predict(scans / "plain.png", **OPTIONS)[0].summary()[0]


def test_a_mixed_folder_and_what_is_saved(model, scans, tmp_path):
    saving = {"save": True, "save_txt": True, "save_crop": True, "project": str(tmp_path), "name": "out"}
    found = model.predict(scans, batch=2, **saving, **OPTIONS)
    paths = [r.path.rpartition("/")[2] for r in found]
    assert paths == ["deep.png", "one.dcm", "plain.png", "volume.mha", "volume.nii.gz"]
    assert [r.spacing_mm is not None for r in found] == [False, True, False, True, True]
    saved = sorted(f.name for f in (tmp_path / "out").glob("*.jpg"))
    assert saved == ["deep.jpg", "one.jpg", "plain.jpg", "volume-2.jpg", "volume.jpg"]
    labels = {f.stem for f in (tmp_path / "out" / "labels").iterdir()}
    assert labels == {f.removesuffix(".jpg") for f in saved}
    for f in tmp_path.rglob("*"):  # nobody is named in what is saved
        assert not f.is_file() or not any(x.encode() in f.read_bytes() for x in (NAME, IDENTITY))


def test_series_are_saved_under_the_names_of_their_folders(model, tmp_path):
    volume = RNG.integers(0, 900, (3, 48, 40)).astype(np.uint16)
    for patient in ("anna", "b.2.1"):
        write_series(tmp_path / "in" / patient, volume, series=f"1.{patient == 'anna':d}")
    for n in (1, 2):  # of several series in a folder each by its slice, too
        for k in range(3):
            file = tmp_path / "in" / "carl" / f"{'ab'[n - 1]}{k}{('.dcm', '.7')[n - 1]}"
            file.parent.mkdir(exist_ok=True)
            write_dicom(file, volume[k], position=(4 * k, 0, 0), series=f"2.{n}")
    write_dicom(tmp_path / "in" / "carl" / "single.dcm", volume[0], series="2.3")
    saving = {"save": True, "save_txt": True, "save_crop": True, "project": str(tmp_path), "name": "out"}
    found = model.predict(f"{tmp_path}/in/*", batch=2, **saving, **OPTIONS)
    expected = ["anna", "b.2.1", "carl-a1", "carl-b1.7", "single"]
    assert sorted(f.name for f in (tmp_path / "out").glob("*.jpg")) == [f"{n}.jpg" for n in expected]
    assert sorted(f.name for f in (tmp_path / "out" / "labels").iterdir()) == [f"{n}.txt" for n in expected]
    crops = {f.name.partition(".jpg")[0] for f in (tmp_path / "out" / "crops").rglob("*.jpg")}
    assert all(any(c.startswith(n) for c in crops) for n in expected)
    assert [r.path.rpartition("/")[2] for r in found] == ["im001.dcm", "im001.dcm", "a1.dcm", "b1.7", "single.dcm"]


def test_the_same_from_a_stream_a_list_and_a_glob(model, scans):
    reference = model.predict(scans / "one.dcm", **OPTIONS)[0].boxes.data
    plain = model.predict(scans / "plain.png", **OPTIONS)[0].boxes.data
    listed = model.predict([scans / "plain.png", str(scans / "one.dcm"), scans / "series"], batch=2, **OPTIONS)
    torch.testing.assert_close(listed[1].boxes.data, reference, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(listed[0].boxes.data, plain, atol=1e-3, rtol=1e-3)
    assert listed[2].place.index == 2 and listed[2].path.endswith("im000.dcm")
    (streamed,) = model.predict(f"{scans}/*.dcm", stream=True, **OPTIONS)
    torch.testing.assert_close(streamed.boxes.data, reference)


def test_places_follow_their_images_when_the_next_batch_is_read_ahead(model, scans, monkeypatch):
    """The host reads ahead on a GPU, in a thread of its own."""
    expected = {r.path: r.spacing_mm for r in model.predict(scans, **OPTIONS)}
    monkeypatch.setattr(model.predictor.model, "prefetch", True, raising=False)
    assert {r.path: r.spacing_mm for r in model.predict(scans, **OPTIONS)} == expected
    assert len(set(expected.values())) >= 3


def test_files_of_dotted_numbers(model, tmp_path):
    """As archives name them: the whole name stays, up to what a picture adds."""
    write_dicom(tmp_path / "1.2.840.5", RNG.integers(0, 900, (48, 40)).astype(np.uint16))
    saving = {"save": True, "save_txt": True, "project": str(tmp_path), "name": "out"}
    model.predict(tmp_path / "1.2.840.5", **saving, **OPTIONS)
    assert (tmp_path / "out" / "1.2.840.5.jpg").is_file() and (tmp_path / "out" / "labels" / "1.2.840.5.txt").is_file()


def test_bad_scans_are_left_out_and_all_bad_is_an_error(model, scans, tmp_path):
    (tmp_path / "a.dcm").write_bytes((scans / "one.dcm").read_bytes()[:-900])
    write_dicom(tmp_path / "ct.dcm", np.ones((20, 20), np.uint16), Modality="CT", series="9")
    with pytest.raises(ScanError, match=r"None of 2 scans could be read"):
        model.predict(tmp_path, **OPTIONS)
    with pytest.raises(ScanError, match=r"ct\.dcm: is of modality 'CT'; expected MR"):
        model.predict(tmp_path / "ct.dcm", **OPTIONS)
    (tmp_path / "c.dcm").write_bytes((scans / "one.dcm").read_bytes())
    (result,) = model.predict([tmp_path / "a.dcm", tmp_path / "c.dcm", tmp_path / "ct.dcm"], **OPTIONS)
    assert result.path.endswith("c.dcm")


def test_a_model_of_one_channel(scans):
    model = YOLO("yolospine-n.yaml")
    model.model = PluginDetectionModel("yolospine-n.yaml", ch=1, verbose=False)
    (result,) = model.predict(scans / "one.dcm", **OPTIONS)
    assert result.orig_img.shape == (48, 40, 1) and len(result)


@pytest.mark.slow
def test_heavy_packages_are_imported_when_they_are_needed(scans, tmp_path):
    code = f"""
import sys
from yolospine_ultra.engine.trainer import SpineTrainer
from yolospine_ultra.engine.predictor import SpinePredictor
from yolospine_ultra.data.scan_dataset import ScanDataset
from yolospine_ultra.data.scans.sources import find_sources
assert find_sources({str(scans / "plain.png")!r}) is None
heavy = {{"pydicom", "nibabel", "SimpleITK", "scipy.stats", "sklearn", "matplotlib"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert find_sources({str(scans)!r})
assert "pydicom" in sys.modules and "SimpleITK" not in sys.modules
"""
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_the_command(weights, scans, tmp_path):
    words = [f"model={weights}", "imgsz=64", "conf=1e-4", f"project={tmp_path}", "name=out", "save_txt=True"]
    done = run([command("yolo"), "predict", *words, f"source={scans / 'series'}"], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "(plane 3 of 5)" in done.stdout + done.stderr
    assert NAME not in done.stdout + done.stderr
    assert (tmp_path / "out" / "series.jpg").is_file() and (tmp_path / "out" / "labels" / "series.txt").is_file()
    write_dicom(tmp_path / "ct.dcm", np.ones((20, 20), np.uint16), Modality="CT")
    done = run([command("yolo"), "predict", *words, f"source={tmp_path / 'ct.dcm'}"], tmp_path)
    assert done.returncode and "ct.dcm: is of modality 'CT'; expected MR." in done.stderr


@pytest.mark.slow
def test_an_exported_model_takes_scans(weights, scans, tmp_path):
    pytest.importorskip("onnxruntime")
    file = YOLO(weights).export(format="onnx", imgsz=64, device="cpu")
    (ours,) = YOLO(weights).predict(scans / "series", **OPTIONS)
    (result,) = YOLO(file).predict(scans / "series", **OPTIONS)
    assert result.spacing_mm == ours.spacing_mm == (0.5, 0.5) and result.place.index == 2
    torch.testing.assert_close(result.boxes.data, ours.boxes.data, atol=0.05, rtol=1e-3)


@pytest.fixture
def labelled(scans, tmp_path):
    """The YAML of a set with the scans in both splits, and a file that is none in the first."""
    root = tmp_path / "set"
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True), (root / "labels" / split).mkdir(parents=True)
        for f in scans.iterdir():
            target = root / "images" / split / f.name
            if f.is_dir():
                target.mkdir()
                for x in f.iterdir():
                    (target / x.name).write_bytes(x.read_bytes())
            elif f.name != "volume.mha":  # of the same name as another one
                target.write_bytes(f.read_bytes())
            label = root / "labels" / split / f"{f.name.partition('.')[0]}.txt"
            label.write_text("0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n")
    (root / "images" / "train" / "bad.dcm").write_bytes(b"junk")
    (root / "labels" / "train" / "bad.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames:\n  0: a\n  1: b\n")
    return root / "data.yaml"


def contents(folder):
    return {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}


NAMES = ["deep.png", "one.dcm", "plain.png", "series", "volume.nii.gz"]


@pytest.mark.slow
def test_training_on_scans(labelled, tmp_path):
    before = contents(labelled.parent / "images")
    model = YOLO("yolospine-n.yaml")
    model.train(
        data=str(labelled), epochs=1, imgsz=64, batch=3, device="cpu", amp=False, plots=True,
        project=str(tmp_path), workers=0,
    )  # fmt: skip
    for loader in (
        model.trainer.train_loader,
        model.trainer.test_loader,
    ):  # extra samples in the first
        assert sorted({f.rpartition("/")[2] for f in loader.dataset.im_files}) == NAMES
    assert contents(labelled.parent / "images") == before


@pytest.mark.slow
def test_validation_on_scans(weights, labelled, tmp_path):
    before = contents(labelled.parent / "images")
    model = YOLO("yolospine-n.yaml")
    model.model = PluginDetectionModel("yolospine-n.yaml", nc=2, verbose=False)
    saving = {"project": str(tmp_path), "name": "val", "save_txt": True}
    model.val(data=str(labelled), imgsz=64, batch=2, device="cpu", plots=False, conf=1e-4, workers=0, **saving)
    assert {f.stem for f in (tmp_path / "val" / "labels").iterdir()} >= {"deep", "one", "plain", "series"}
    assert contents(labelled.parent / "images") == before
