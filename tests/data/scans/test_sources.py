"""What a source consists of: files, series, folders, globs and lists; and which sources are the host's alone."""

import cv2
import numpy as np
import pytest
from scan_files import AXIAL, write_dicom, write_mha, write_nifti, write_series

from yolospine_ultra.data.scans import ScanError
from yolospine_ultra.data.scans.loader import ScanLoader
from yolospine_ultra.data.scans.sources import find_sources

pytest.importorskip("pydicom")

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 4000, (24, 16)).astype(np.uint16)
VOLUME = RNG.integers(0, 900, (3, 12, 10)).astype(np.int16)


@pytest.fixture
def folder(tmp_path):
    """A folder of everything: an image, a deep image, a video, two series, volumes, damaged and other files."""
    root = tmp_path / "in"
    root.mkdir()
    cv2.imwrite(str(root / "b8.png"), (PIXELS >> 4).astype(np.uint8))
    cv2.imwrite(str(root / "c16.png"), PIXELS)
    video = cv2.VideoWriter(str(root / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (32, 32))
    for _ in range(2):
        video.write(np.zeros((32, 32, 3), np.uint8))
    video.release()
    for k in range(3):
        write_dicom(root / f"a{2 - k}", PIXELS + k, position=(k, 0, 0), series="1.2")  # no suffix
    write_dicom(root / "d.dcm", PIXELS, series="1.3")
    write_mha(root / "e.mhd", VOLUME, data=root / "e.raw")
    write_nifti(root / "f.nii.gz", VOLUME, np.diag([4, 1, 1, 1]))
    write_dicom(root / "g.dcm", PIXELS, Modality="CT", series="1.4")
    (root / "h.dcm").write_bytes(b"nothing")
    (root / "notes.txt").write_text("x")
    write_dicom(root / "DICOMDIR", PIXELS, Modality=None, Rows=None)
    (root / "sub").mkdir()
    return root


def names(sources, root):
    return [str(i.name).removeprefix(f"{root}/") for i in sources.items]


def read_all(sources, batch=2):
    """Paths and places that a loader gives, batch by batch."""
    loader = ScanLoader(sources, batch=batch)
    return [pair for paths, _, _ in loader for pair in zip(paths, loader.places or [None] * len(paths), strict=True)]


def test_a_mixed_folder(folder, caplog):
    found = find_sources(folder)
    assert names(found, folder) == ["a0", "b8.png", "c16.png", "d.dcm", "e.mhd", "f.nii.gz", "h.dcm", "v.avi"]
    assert [str(e) for e in found.errors] == [f"{folder}/g.dcm: is of modality 'CT'; expected MR."]
    assert [f.removeprefix(f"{folder}/") for f in found.ignored] == ["DICOMDIR", "notes.txt"]
    given = [(p.removeprefix(f"{folder}/"), place and (place.index, place.planes)) for p, place in read_all(found)]
    # the series by its middle plane; the video's frames last; the damaged file left out
    assert given == [
        ("a1", (1, 3)), ("b8.png", None), ("c16.png", (0, 1)), ("d.dcm", (0, 1)), ("e.mhd", (5, 10)),
        ("f.nii.gz", (1, 3)), ("v.avi", None), ("v.avi", None),
    ]  # fmt: skip
    # and again from the start
    loader = ScanLoader(find_sources(str(folder)), batch=3)
    assert sum(len(p) for p, _, _ in loader) == sum(len(p) for p, _, _ in loader) == 8


def test_what_was_left_out_is_counted(folder, caplog):
    import logging

    from ultralytics.utils import LOGGER

    LOGGER.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO):
            read_all(find_sources(folder))
    finally:
        LOGGER.removeHandler(caplog.handler)
    said = caplog.text
    assert "2 other files are no images or scans: DICOMDIR, notes.txt" in said
    assert "2 of 9 images and scans left out:" in said
    assert "g.dcm: is of modality 'CT'" in said and "h.dcm: has no DICM mark" in said


def test_sources_of_the_host_alone(folder, tmp_path):
    only = tmp_path / "only"
    only.mkdir()
    for name in ("a.png", "b.jpg"):
        cv2.imwrite(str(only / name), np.zeros((20, 20), np.uint8))
    (only / "list.txt").write_text("a.png\nb.jpg\n")
    array = np.zeros((20, 20, 3), np.uint8)
    sources = [
        only,
        str(only / "a.png"),
        str(only / "*.png"),
        only / "list.txt",
        [str(only / "a.png"), array],
        array,
        0,
    ]
    sources += [
        "0",
        "screen",
        "https://example.com/a.dcm",
        "rtsp://x/y",
        folder / "v.avi",
        tmp_path / "missing.dcm",
        [],
    ]
    assert [find_sources(s) for s in sources] == [None] * len(sources)


def test_globs_lists_and_manifests(folder):
    assert names(find_sources(f"{folder}/*.dcm"), folder) == ["d.dcm", "g.dcm", "h.dcm"]
    assert names(find_sources(f"{folder}/a*"), folder) == ["a0", "a1", "a2"]  # one by one, not as a series
    (folder / "list.txt").write_text(f"f.nii.gz\n{folder}/b8.png\n")
    (folder / "list.csv").write_text("source\nf.nii.gz\nb8.png\n")
    for manifest in ("list.txt", "list.csv"):
        assert sorted(names(find_sources(folder / manifest), folder)) == ["b8.png", "f.nii.gz"]
    with pytest.raises(FileNotFoundError, match=r"nowhere\.dcm does not exist"):
        (folder / "list.txt").write_text("nowhere.dcm\n")
        find_sources(folder / "list.txt")


def test_a_list_keeps_its_order_and_its_images_in_memory(folder):
    from PIL import Image

    array = np.zeros((20, 30, 3), np.uint8)
    source = [folder / "f.nii.gz", str(folder / "b8.png"), array, Image.fromarray(array), folder / "d.dcm"]
    loader = ScanLoader(find_sources(source), batch=8)
    paths, images, _ = next(iter(loader))
    assert [p.rpartition("/")[2] for p in paths] == ["f.nii.gz", "b8.png", "image2.jpg", "image3.jpg", "d.dcm"]
    assert [p is not None for p in loader.places] == [True, False, False, False, True]
    assert images[1].shape == (24, 16, 3) and all(i.dtype == np.uint8 and i.ndim == 3 for i in images)


def test_folders_in_lists_and_globs_are_series(tmp_path):
    for n in (1, 2):
        write_series(tmp_path / f"study/{n}", RNG.integers(0, 900, (5, 24, 16)).astype(np.uint16), series=f"1.{n}")
    for source in (f"{tmp_path}/study/*", [tmp_path / "study/1", tmp_path / "study/2"]):
        given = read_all(find_sources(source))
        assert [p.removeprefix(str(tmp_path)) for p, _ in given] == ["/study/1/im002.dcm", "/study/2/im002.dcm"]
        assert all(place.index == 2 and place.planes == 5 for _, place in given)


def test_a_folder_of_folders_names_the_glob(tmp_path):
    for n in (1, 2):
        write_series(tmp_path / f"study/{n}", RNG.integers(0, 900, (3, 24, 16)).astype(np.uint16), series=f"1.{n}")
    (tmp_path / "study" / "notes.txt").write_text("x")
    (tmp_path / "study" / "empty").mkdir()
    for source in (tmp_path / "study", [tmp_path / "study"]):
        with pytest.raises(ScanError, match=r"study: has scans in its sub-folders alone; .* give .*/study/\*") as e:
            find_sources(source)
        assert str(e.value).startswith(f"{tmp_path}/study: ")
    found = find_sources(f"{tmp_path}/*/*")
    assert len(found.items) == 2 and not found.errors
    write_dicom(tmp_path / "one.dcm", PIXELS)  # beside it: the folder is left out, by name
    found = find_sources(f"{tmp_path}/*")
    assert names(found, tmp_path) == ["one.dcm"] and len(found.errors) == 1
    assert names(find_sources(tmp_path), tmp_path) == ["one.dcm"]
    with_pictures = tmp_path / "pictures"
    with_pictures.mkdir()
    cv2.imwrite(str(with_pictures / "a.png"), np.zeros((20, 20), np.uint8))
    write_series(with_pictures / "1", VOLUME)
    assert find_sources(with_pictures) is None


def test_files_without_a_series_number_stand_for_themselves(tmp_path):
    for k in range(2):
        write_dicom(tmp_path / f"{k}.dcm", PIXELS, position=(k, 0, 0), series=None)
    assert names(find_sources(tmp_path), tmp_path) == ["0.dcm", "1.dcm"]


def test_pipes_do_not_hang(tmp_path):
    import os

    write_dicom(tmp_path / "a.dcm", PIXELS)
    for name in ("b.dcm", "c.nii", "d"):
        os.mkfifo(tmp_path / name)
    assert [p.rpartition("/")[2] for p, _ in read_all(find_sources(tmp_path))] == ["a.dcm"]


def test_planes_cut_across_coarse_slices_are_said_to_be(tmp_path):
    for k in range(6):
        write_dicom(tmp_path / f"{k}.dcm", PIXELS, position=(0, 0, 4 * k), orientation=AXIAL)
    loader = ScanLoader(find_sources(tmp_path))
    ((_, _, (info,)),) = list(loader)
    assert "(plane 9 of 16, cut across slices 4 mm apart)" in info


def test_all_bad(tmp_path):
    write_dicom(tmp_path / "a.dcm", PIXELS, Modality="CT")
    with pytest.raises(ScanError, match=r"a\.dcm: is of modality 'CT'"):
        find_sources(tmp_path)
    (tmp_path / "b.nii").write_bytes(b"junk" * 200)
    sources = find_sources(tmp_path)
    with pytest.raises(ScanError, match=r"None of 2 scans could be read; the first: .*a\.dcm"):
        list(ScanLoader(sources))
    with pytest.raises(ScanError, match=r"b\.nii: "):
        list(ScanLoader(find_sources(tmp_path / "b.nii")))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_8_bits_are_the_hosts_to_the_bit(folder, channels):
    from ultralytics.data.loaders import LoadImagesAndVideos

    cv2.imwrite(str(folder / "j.jpg"), RNG.integers(0, 255, (30, 40, 3), np.uint8))
    ours = ScanLoader(find_sources(folder), batch=20, channels=channels)
    paths, images, _ = next(iter(ours))
    for name in ("b8.png", "j.jpg"):
        _, (expected,), _ = next(iter(LoadImagesAndVideos(folder / name, channels=channels)))
        np.testing.assert_array_equal(images[paths.index(str(folder / name))], expected)
    assert {i.shape[2] for i in images} == {channels}
