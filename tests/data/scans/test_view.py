"""Windowing, choice of the plane, square pixels, images above 8 bits, and what kind a file is."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scan_files import AXIAL, anatomy, stored, write_dicom, write_mha, write_series

from yolospine_ultra.data.scans import (
    Geometry,
    Scan,
    ScanError,
    mid_sagittal,
    read_scan,
    read_view,
    sagittal,
    scan_kind,
    to_uint8,
)

RNG = np.random.default_rng(0)
X, Y, Z = np.eye(3)


WINDOWS = st.one_of(st.none(), st.tuples(st.floats(-1e5, 1e5), st.floats(0.1, 1e5)))


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, (7, 5), elements=st.floats(-1e6, 1e6, width=32)), WINDOWS)
def test_window_keeps_order_and_range(plane, window):
    out = to_uint8(plane, window)
    assert out.dtype == np.uint8 and out.shape == plane.shape
    order = np.argsort(plane.ravel(), kind="stable")
    assert (np.diff(out.ravel()[order].astype(int)) >= 0).all()


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 100), st.floats(-1e4, 1e4))
def test_without_a_window_scale_and_offset_do_not_matter(scale, offset):
    plane = np.random.default_rng(1).normal(size=(40, 30)) * 100
    difference = to_uint8(plane).astype(int) - to_uint8(plane * scale + offset)
    assert abs(difference).max() <= 1


def test_percentiles_ignore_hot_pixels():
    plane = RNG.integers(0, 1000, (100, 100)).astype(np.float32)
    hot = plane.copy()
    hot[3, 4] = 65535
    assert abs(to_uint8(hot)[:3].astype(int) - to_uint8(plane)[:3]).max() <= 1
    assert (to_uint8(np.full((4, 4), 7.0)) == 0).all()
    sparse = np.zeros((100, 100))
    sparse[0, 0] = 5  # the percentiles coincide
    assert to_uint8(sparse)[0, 0] == 255


def test_window_by_hand():
    # DICOM's LINEAR: 0 up to centre - width / 2, 255 from centre + width / 2 - 1
    shown = to_uint8(np.array([[99, 100, 101, 151, 199, 300]]), (150, 100))
    np.testing.assert_array_equal(shown, [[0, 0, 3, 131, 255, 255]])


def stack(positions, normal=X, down=-Z, right=Y):
    g = Geometry(np.outer(positions, normal).astype(float), down, right)
    n = len(positions)
    return Scan(
        path="scan", shape=(n, 2, 2), read=lambda i: np.full((2, 2), i, np.float32), files=("f",) * n,
        frames=tuple(range(n)), spacing_mm=(1, 1, 1), geometry=g,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("positions", "index"),
    [([0], 0), ([0, 1, 2], 1), ([0, 1, 2, 3], 2), ([3, 2, 1, 0], 1), ([0, 1, 2, 30], 2), ([-40, -10, 0, 4], 1)],
)
def test_the_plane_in_the_middle(positions, index):
    assert mid_sagittal(stack(positions)) == index


def test_axial_planes_have_no_mid_sagittal_one(tmp_path):
    with pytest.raises(ScanError, match="planes are axial; expected sagittal"):
        mid_sagittal(stack([0, 1], Z, Y, X))
    pytest.importorskip("pydicom")
    path = write_dicom(tmp_path / "a.dcm", RNG.integers(0, 9, (8, 6)).astype(np.uint16), orientation=AXIAL)
    with pytest.raises(ScanError, match="single axial image"):
        sagittal(read_scan(path))
    assert read_view(path).place.plane == "axial"  # one image is shown as it is


def test_uneven_axial_slices_are_not_cut(tmp_path):
    pytest.importorskip("pydicom")
    for k, z in enumerate((0, 1, 2, 9)):
        write_dicom(tmp_path / f"{k}.dcm", np.ones((8, 6), np.uint16), position=(0, 0, z), orientation=AXIAL)
    with pytest.raises(ScanError, match="axial slices are unevenly spaced"):
        read_view(tmp_path)
    (tmp_path / "echoes").mkdir()
    for k in range(3):  # of one place
        write_dicom(tmp_path / "echoes" / f"{k}.dcm", np.ones((8, 6), np.uint16), orientation=AXIAL)
    with pytest.raises(ScanError, match="axial slices are unevenly spaced or lie at one place"):
        read_view(tmp_path / "echoes")


def test_axial_slices_without_pixel_spacing_are_not_cut(tmp_path):
    pytest.importorskip("pydicom")
    for k in range(4):
        pixels = np.ones((8, 6), np.uint16)
        write_dicom(tmp_path / f"{k}.dcm", pixels, position=(0, 0, k), orientation=AXIAL, PixelSpacing=None)
    with pytest.raises(ScanError, match="axial slices have no pixel spacing; expected sagittal ones, or one in mm"):
        read_view(tmp_path)


def test_a_window_beside_all_pixels_is_not_taken(tmp_path, caplog):
    pytest.importorskip("pydicom")
    pixels = RNG.integers(2000, 4000, (8, 6)).astype(np.uint16)
    write_dicom(tmp_path / "a.dcm", pixels, WindowCenter=40, WindowWidth=400)
    assert np.array_equal(read_view(tmp_path / "a.dcm").image, to_uint8(pixels)) and "a.dcm: its window" in caplog.text


def test_pixels_become_square(tmp_path):
    array, axes, origin = stored(anatomy(), [(0, 1), (1, 1), (2, 1)], (4, 1.0, 0.25))
    view = read_view(write_mha(tmp_path / "a.mha", np.ascontiguousarray(array.T), axes, origin))
    assert view.image.shape == (16, 48) and view.place.spacing_mm == (0.25, 0.25)
    extent = view.place.patient_mm([[0, 0], [48, 16]])
    np.testing.assert_allclose(extent[1] - extent[0], (0, 12, -4), atol=1e-9)
    stretched = write_mha(tmp_path / "b.mha", np.zeros((2, 99, 99), np.uint8), [Y * 0.011, -Z * 90, X])
    with pytest.raises(ScanError, match="expected nearly square"):
        read_view(stretched)


@pytest.mark.parametrize(("spacing", "shape"), [((0.55, 0.5), (110, 100)), ((0.504, 0.5), (100, 100))])
def test_pixels_count_as_square_up_to_a_hundredth(tmp_path, spacing, shape):
    pytest.importorskip("pydicom")
    view = read_view(write_dicom(tmp_path / "a.dcm", np.zeros((100, 100), np.uint16), spacing=spacing))
    assert view.image.shape == shape and view.place.spacing_mm[1] == 0.5


def test_upright_planes_of_a_mirrored_file(tmp_path):
    """A sagittal image stored feet up and back left is turned by whole pixels."""
    pytest.importorskip("pydicom")
    pixels = RNG.integers(0, 4000, (20, 12)).astype(np.uint16)
    upright = read_view(write_dicom(tmp_path / "a.dcm", pixels)).image
    turned = write_dicom(
        tmp_path / "b.dcm", pixels[::-1, ::-1], position=(0, 5.5, -9.5), orientation=(0, -1, 0, 0, 0, 1)
    )
    view = read_view(turned)
    np.testing.assert_array_equal(view.image, upright)
    np.testing.assert_allclose(view.place.patient_mm([0, 0]), read_view(tmp_path / "a.dcm").place.patient_mm([0, 0]))
    np.testing.assert_array_equal(read_scan(turned).pixels[0], pixels[::-1, ::-1])  # as stored


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
def test_sixteen_bits_are_windowed_from_their_full_depth(tmp_path, suffix):
    # twelve bits of a scanner: the host's high byte would leave 16 grey levels
    pixels = np.add.outer(np.arange(64) * 40, np.arange(48) * 20).astype(np.uint16)
    file = tmp_path / f"a{suffix}"
    cv2.imwrite(str(file), pixels)
    assert scan_kind(file) == "deep"
    np.testing.assert_array_equal(read_scan(file).pixels[0], pixels)
    view = read_view(file)
    np.testing.assert_array_equal(view.image, to_uint8(pixels))
    assert len(np.unique(view.image)) > 150 and view.place.spacing_mm is None


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.uint16])
def test_tiff_types(tmp_path, dtype):
    pixels = (RNG.normal(size=(20, 30)) * 100 + 300).astype(dtype)
    Image.fromarray(pixels).save(tmp_path / "a.tif", compression="tiff_deflate")
    np.testing.assert_array_equal(read_scan(tmp_path / "a.tif").pixels[0], pixels)


TURNED = {3: lambda x: x[::-1, ::-1], 5: lambda x: x.T, 6: lambda x: np.rot90(x, -1), 8: np.rot90}


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("compression", [None, "tiff_deflate"])
def test_deep_images_are_turned_as_their_orientation_says(tmp_path, suffix, orientation, compression):
    """As the size that COCO files and evaluation give them."""
    pixels, exif = RNG.integers(0, 4000, (20, 30)).astype(np.uint16), Image.Exif()
    exif[274] = orientation
    saving = {"exif": exif} if suffix == ".png" else {"tiffinfo": {274: orientation}, "compression": compression}
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", **saving)
    np.testing.assert_array_equal(read_scan(tmp_path / f"a{suffix}").pixels[0], TURNED[orientation](pixels))


def tiff(path, pixels, order, **tags):
    """An uncompressed grey TIFF of 16 bits, `order` < or > its byte order; with tags as numbers."""
    import struct

    data = pixels.astype(f"{order}u2").tobytes()
    values = {256: pixels.shape[1], 257: pixels.shape[0], 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: pixels.shape[0]}
    values |= {279: len(data)} | {int(k[1:]): v for k, v in tags.items()}
    entries = b"".join(struct.pack(f"{order}HHII", k, 4, 1, v) for k, v in sorted(values.items()))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    path.write_bytes(head + data + struct.pack(f"{order}H", len(values)) + entries + b"\0" * 4)
    return path


def test_a_tiff_of_the_other_byte_order_is_turned_too(tmp_path):
    pixels = RNG.integers(0, 4000, (20, 30)).astype(np.uint16)
    turned = read_scan(tiff(tmp_path / "a.tif", pixels, ">", t274=6)).pixels[0]
    np.testing.assert_array_equal(turned, np.rot90(pixels, -1))


def test_a_tiff_whose_zero_is_white(tmp_path):
    pixels = RNG.integers(0, 4000, (20, 30)).astype(np.uint16)
    plain = to_uint8(pixels).astype(int)
    negative = tiff(tmp_path / "a.tif", 4095 - pixels, "<", t262=0)
    assert scan_kind(negative) == "deep"
    np.testing.assert_allclose(read_view(negative).image, plain, atol=1)
    turned = tiff(tmp_path / "b.tif", 4095 - pixels, "<", t262=0, t274=6)
    np.testing.assert_allclose(read_view(turned).image, np.rot90(plain, -1), atol=1)


def test_images_of_the_host_stay_its_own(tmp_path):
    grey, colour = RNG.integers(0, 255, (20, 30), np.uint8), RNG.integers(0, 255, (20, 30, 3), np.uint8)
    files = [tmp_path / n for n in ("grey.png", "colour.png", "grey.tif", "grey.jpg", "alpha.png", "deep_colour.png")]
    images = [grey, colour, grey, grey, np.dstack([colour, grey]), colour.astype(np.uint16) * 256]
    for file, image in zip(files, images, strict=True):
        cv2.imwrite(str(file), image)
        assert scan_kind(file) is None
    for name, content in (("a.txt", b"text"), ("b.png", b"\x89PNG"), ("c.tif", b"II*\0junk"), ("d.png", b"")):
        (tmp_path / name).write_bytes(content)
        assert scan_kind(tmp_path / name) is None
    with pytest.raises(ScanError, match=r"grey\.jpg: is no scan; expected DICOM"):
        read_scan(tmp_path / "grey.jpg")


def test_damaged_deep_images(tmp_path):
    import struct
    import zlib

    file = tmp_path / "a.png"
    cv2.imwrite(str(file), RNG.integers(0, 4000, (64, 48)).astype(np.uint16))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ScanError, match=r"a\.png: is damaged"):
        read_scan(file)
    header = whole[12:16] + struct.pack(">II", 10**6, 10**6) + whole[24:29]
    file.write_bytes(whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:])
    with pytest.raises(ScanError, match=r"a\.png: declares 1 x 1000000 x 1000000"):
        read_scan(file)


def test_channels(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), RNG.integers(0, 4000, (8, 6)).astype(np.uint16))
    view = read_view(tmp_path / "a.png")
    for n in (1, 3):
        assert view.channels(n).shape == (8, 6, n) and (view.channels(n) == view.image[..., None]).all()


def test_series_of_one_file(tmp_path):
    pytest.importorskip("pydicom")
    write_series(tmp_path / "s", RNG.integers(0, 9, (1, 8, 6)).astype(np.uint16))
    assert read_view(tmp_path / "s").place.planes == 1
