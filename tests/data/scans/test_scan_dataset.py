"""The dataset of images and scans: listing, labels, caches, and what is left out."""

import cv2
import numpy as np
import pytest
from scan_files import write_dicom, write_nifti, write_series
from ultralytics.data.dataset import YOLODataset

from yolospine_ultra.data.scan_dataset import ScanDataset, label_paths
from yolospine_ultra.data.scans import read_view
from yolospine_ultra.evaluate.dataset_files import find_files

pytest.importorskip("pydicom")
pytest.importorskip("nibabel")

RNG = np.random.default_rng(0)
DATA = {"names": {0: "disc", 1: "canal"}, "channels": 3}


@pytest.fixture
def root(tmp_path):
    """Images of every kind in a training layout, each labelled, with one that is damaged and one background."""
    images, labels = tmp_path / "images" / "train", tmp_path / "labels" / "train"
    images.mkdir(parents=True), labels.mkdir(parents=True)
    pixels = RNG.integers(0, 4000, (60, 40)).astype(np.uint16)
    write_dicom(images / "dicom.dcm", pixels)
    write_nifti(images / "volume.nii.gz", RNG.integers(0, 900, (3, 20, 30)).astype(np.int16), np.diag([4, 1, 1, 1]))
    write_series(images / "1.2.840", RNG.integers(0, 900, (5, 24, 16)).astype(np.uint16))
    cv2.imwrite(str(images / "deep.png"), pixels)
    cv2.imwrite(str(images / "plain.png"), (pixels >> 4).astype(np.uint8))
    write_dicom(images / "background.dcm", pixels)
    (images / "damaged.dcm").write_bytes((images / "dicom.dcm").read_bytes()[:600])
    (images / "notes.txt").write_text("x")
    for name in ("dicom", "volume", "1.2.840", "deep", "plain", "damaged"):
        (labels / f"{name}.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    return tmp_path


def dataset(root, kind=ScanDataset, **options):
    options = {"imgsz": 32, "data": DATA, "batch_size": 2, "augment": False} | options
    return kind(img_path=str(root / "images" / "train"), **options)


def base(files):
    return [f.rpartition("/")[2] for f in files]


KEPT = ["1.2.840", "background.dcm", "deep.png", "dicom.dcm", "plain.png", "volume.nii.gz"]


def test_images_scans_and_series_are_listed_with_their_labels(root):
    found = dataset(root)
    assert base(found.im_files) == KEPT
    assert [len(x["cls"]) for x in found.labels] == [1, 0, 1, 1, 1, 1]
    assert [x["shape"] for x in found.labels] == [(24, 16), (60, 40), (60, 40), (60, 40), (60, 40), (30, 20)]
    assert base(label_paths(found.im_files))[::5] == ["1.2.840.txt", "volume.txt"]


def test_what_cannot_be_read_is_named(root, caplog):
    import logging

    from ultralytics.utils import LOGGER

    LOGGER.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO):
            dataset(root)
    finally:
        LOGGER.removeHandler(caplog.handler)
    assert "damaged.dcm: holds no image; expected one with rows" in caplog.text
    for f in (root / "images" / "train").iterdir():
        if f.name not in {"damaged.dcm", "notes.txt"}:
            f.rename(root / f.name)
    with pytest.raises(RuntimeError, match=r"damaged\.dcm"):
        dataset(root)


def test_coarse_cuts_are_named(root):
    from yolospine_ultra.data.scan_dataset import verify_scan_label

    def message(spacing):
        file = root / "images" / "train" / "volume.nii.gz"
        write_nifti(file, RNG.integers(0, 900, (16, 20, 30)).astype(np.int16), np.diag([1, 1, spacing, 1]))
        label = root / "labels" / "train" / "volume.txt"
        return verify_scan_label((str(file), str(label), "train: ", False, 2, 0, 0, False))[-1]

    assert message(4.0).endswith("volume.nii.gz: cut across slices 4 mm apart") and message(1.0) == ""


def test_wrong_labels_of_scans_are_refused_as_the_host_does(root):
    (root / "labels" / "train" / "dicom.txt").write_text("1 0.5 0.5 nan 0.5\n")
    (root / "labels" / "train" / "volume.txt").write_text("7 0.5 0.5 0.5 0.5\n")
    assert base(dataset(root).im_files) == [k for k in KEPT if not k.startswith(("dicom", "volume"))]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("cache", [None, "ram", "disk"])
def test_pixels_are_those_of_prediction(root, cache, channels):
    before = {f: f.read_bytes() for f in root.rglob("*") if f.is_file()}
    for _ in range(2):  # the second time from the caches
        found = dataset(root, cache=cache, imgsz=60, data=DATA | {"channels": channels})
        for i, f in enumerate(found.im_files):
            image, original, new = found.load_image(i)
            assert image.shape == (*new, channels) and max(new) == 60
            if f.endswith("plain.png"):
                expected = cv2.imread(f, cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR)
                expected = expected.reshape(60, 40, channels)
            else:
                expected = read_view(f).channels(channels)
            assert original == expected.shape[:2]
            if original == new:
                np.testing.assert_array_equal(image, expected)
    assert all(f.read_bytes() == content for f, content in before.items())
    added = {f.relative_to(root).as_posix() for f in root.rglob("*") if f.is_file()} - {
        f.relative_to(root).as_posix() for f in before
    }
    caches = {f"images/train/{f}.npy" for f in KEPT if f != "plain.png"} | {"images/train/plain.npy"}
    assert added == {"labels/train.cache"} | (caches if cache == "disk" else set())


def test_a_damaged_disk_cache_is_not_used(root):
    found = dataset(root, cache="disk")
    i = base(found.im_files).index("dicom.dcm")
    good = found.load_image(i)[0].copy()
    for content in (b"junk", b""):
        (root / "images/train/dicom.dcm.npy").write_bytes(content)
        np.testing.assert_array_equal(found.load_image(i)[0], good)


def test_a_scan_that_was_replaced_is_cached_anew(root):
    import os

    found = dataset(root, cache="disk", imgsz=60)
    i = base(found.im_files).index("dicom.dcm")
    cache, before = root / "images/train/dicom.dcm.npy", found.load_image(i)[0].copy()
    found.cache_images_to_disk(i)
    written = cache.stat().st_mtime_ns
    file = write_dicom(root / "images/train/dicom.dcm", RNG.integers(0, 4000, (60, 40)).astype(np.uint16))
    os.utime(file, ns=(written + 10**9, written + 10**9))
    found.cache_images_to_disk(i)
    now = found.load_image(i)[0]
    np.testing.assert_array_equal(now, read_view(file).channels(3))
    assert not np.array_equal(now, before)
    content = cache.read_bytes()
    cache.write_bytes(content[:-1] + b"\0")
    os.utime(cache, ns=(written + 2 * 10**9, written + 2 * 10**9))  # a cache that is newer stays
    found.cache_images_to_disk(i)
    assert cache.read_bytes() == content[:-1] + b"\0"


@pytest.mark.parametrize("imgsz", [32, 60, 100, (40, 50)])
@pytest.mark.parametrize("options", [{}, {"rect_mode": False}, {"resize_short": True}])
def test_sizes_are_the_hosts(root, imgsz, options):
    """The same pixels as an 8-bit image come out of the host at the same size, to the bit."""
    found = dataset(root, imgsz=imgsz)
    i = base(found.im_files).index("dicom.dcm")
    view = read_view(found.im_files[i]).channels(3)
    twin = root / "twin"
    (twin / "images" / "train").mkdir(parents=True), (twin / "labels" / "train").mkdir(parents=True)
    cv2.imwrite(str(twin / "images" / "train" / "a.png"), view)
    (twin / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    host = dataset(twin, YOLODataset, imgsz=imgsz)
    ours, theirs = found.load_image(i, **options), host.load_image(0, **options)
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert ours[1:] == theirs[1:]


def test_a_dataset_without_scans_is_the_hosts(root):
    for f in (root / "images" / "train").iterdir():
        if f.name not in {"plain.png", "notes.txt"}:
            f.rename(root / f.name)
    ours, host = dataset(root), dataset(root, YOLODataset)
    assert ours.im_files == host.im_files and ours.labels[0]["bboxes"].tolist() == host.labels[0]["bboxes"].tolist()
    np.testing.assert_array_equal(ours.load_image(0)[0], host.load_image(0)[0])


def test_fraction_and_list_files(root):
    assert len(dataset(root, fraction=0.5).im_files) == 3  # of the first half of seven, one is damaged
    listing = root / "train.txt"
    listing.write_text("./images/train/dicom.dcm\n./images/train/plain.png\n")
    found = ScanDataset(img_path=str(listing), data=DATA, imgsz=32, augment=False)
    assert base(found.im_files) == ["dicom.dcm", "plain.png"]


@pytest.fixture
def mixed(tmp_path):
    """Unlabelled folders of every kind below images/train, which holds labelled slices of two patients."""
    images, labels = tmp_path / "images" / "train", tmp_path / "labels" / "train"
    images.mkdir(parents=True), labels.mkdir(parents=True)
    volume = RNG.integers(0, 900, (4, 24, 16)).astype(np.uint16)
    for k in range(2):
        write_dicom(images / f"p{k}.dcm", volume[k], series=f"1.{k}")
        (labels / f"p{k}.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    write_series(images / "background", volume)
    (images / "background" / "preview.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((20, 20), np.uint8))[1])
    (images / "background" / "im003.dcm").write_bytes(b"\0" * 128 + b"DICM")  # damaged
    write_series(images / "nameless", volume[:2], series="")
    write_series(images / "single", volume[:1])
    write_series(images / "two", volume[:2])
    write_dicom(images / "two" / "other.dcm", volume[2], series="9.9")
    write_series(images / "named", volume[:2])
    (labels / "named").mkdir()
    (labels / "named" / "im001.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    return tmp_path


APART = {
    "named": ["im000.dcm", "im001.dcm"],
    "nameless": ["im000.dcm", "im001.dcm"],
    "single": ["im000.dcm"],
    "two": ["im000.dcm", "im001.dcm", "other.dcm"],
}


def test_an_unlabelled_folder_of_one_series_is_one_background(mixed):
    images = mixed / "images" / "train"
    expected = {"background", "p0.dcm", "p1.dcm", *(f"{d}/{f}" for d, names in APART.items() for f in names)}
    found = dataset(mixed)
    assert {f.removeprefix(f"{images}/") for f in found.im_files} == expected
    labelled = {
        f.removeprefix(f"{images}/") for f, x in zip(found.im_files, found.labels, strict=True) if len(x["cls"])
    }
    assert labelled == {"p0.dcm", "p1.dcm", "named/im001.dcm"}
    (mixed / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [disc, canal]\n")
    files = find_files(mixed / "data.yaml", "train")
    assert {f.relative_to(images).as_posix() for f in files.images} == expected


def test_a_set_of_one_series_without_labels_is_one_image(tmp_path):
    write_series(tmp_path / "images" / "train", RNG.integers(0, 900, (3, 24, 16)).astype(np.uint16))
    assert base(dataset(tmp_path).im_files) == ["train"]
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [disc, canal]\n")
    assert find_files(tmp_path / "data.yaml", "train").images == [tmp_path / "images" / "train"]


def test_only_folders_without_labels_have_their_headers_read(root, monkeypatch):
    from yolospine_ultra.data import scan_dataset

    read = []
    monkeypatch.setattr(scan_dataset, "read_headers", lambda f: read.append(f) or {})
    folder = str(root / "images" / "train" / "1.2.840")
    assert scan_dataset.series_folders([folder, str(root / "images" / "train")]) == {folder} and not read


def test_mosaic_of_scans(root):
    """With augmentation the host draws partners from a buffer that scans enter too."""
    from ultralytics.cfg import get_cfg

    found = dataset(root, augment=True, hyp=get_cfg(overrides={"mosaic": 1.0}))
    for _ in range(2):
        for i in range(len(found)):
            assert found[i]["img"].shape == (3, 32, 32)
    assert found.buffer
