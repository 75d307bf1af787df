"""DICOM: pixels, order and place of files as scanners write them."""

import sys

import numpy as np
import pytest
from scan_files import (
    AXIAL,
    CORONAL,
    IDENTITY,
    NAME,
    compress,
    write_dicom,
    write_multiframe,
    write_series,
)  # fmt: skip

from yolospine_ultra.data.scans import ScanError, mid_sagittal, open_scan, read_scan, read_view

pydicom = pytest.importorskip("pydicom")
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 4000, (24, 16)).astype(np.uint16)
VOLUME = RNG.integers(0, 4000, (5, 24, 16)).astype(np.uint16)


def test_a_file(tmp_path):
    scan = read_scan(write_dicom(tmp_path / "a.dcm", PIXELS, position=(3, -5, 7), spacing=(0.5, 0.25)))
    assert scan.pixels.dtype == np.float32 and (scan.pixels == PIXELS[None]).all()
    assert scan.spacing_mm == (0, 0.5, 0.25) and scan.window is None and scan.plane == "sagittal"
    np.testing.assert_array_equal(scan.geometry.origins, [[3, -5, 7]])
    np.testing.assert_array_equal([scan.geometry.down, scan.geometry.right], [[0, 0, -1], [0, 1, 0]])


OBLIQUE = (0, 0.9, 0.436, 0, 0.436, -0.9)


@pytest.mark.parametrize(("orientation", "plane"), [(AXIAL, "axial"), (CORONAL, "coronal"), (OBLIQUE, "sagittal")])
def test_plane(tmp_path, orientation, plane):
    assert read_scan(write_dicom(tmp_path / "a.dcm", PIXELS, orientation=orientation)).plane == plane


def test_rescale_and_signed_pixels(tmp_path):
    signed = PIXELS.astype(np.int16) - 2000
    path = write_dicom(tmp_path / "a.dcm", signed, RescaleSlope="2.5", RescaleIntercept="-7")
    np.testing.assert_allclose(read_scan(path).pixels[0], signed * 2.5 - 7, rtol=1e-6)


@pytest.mark.parametrize("signed", [False, True])
def test_monochrome1_is_the_negative(tmp_path, signed):
    stored = np.array([[0, 1], [100, 255]]) - (128 if signed else 0)
    tags = {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": "2", "RescaleIntercept": "10"}
    tags |= {"WindowCenter": 60, "WindowWidth": 40}
    dtype = np.int8 if signed else np.uint8
    view = read_view(write_dicom(tmp_path / "a.dcm", stored.astype(dtype), **tags)).image
    scan = read_scan(tmp_path / "a.dcm")
    low, high = (-128, 127) if signed else (0, 255)
    np.testing.assert_array_equal(scan.pixels[0], 2 * (low + high - stored) + 10)
    # a window on the negative shows the negative of the window, but for rounding
    from pydicom.pixels.processing import apply_windowing

    shown = apply_windowing(stored * 2.0 + 10, pydicom.dcmread(tmp_path / "a.dcm"))
    shown = (shown - shown.min()) / np.ptp(shown) * 255 if np.ptp(shown) else shown
    np.testing.assert_allclose(view, 255 - shown, atol=0.51)


def test_monochrome1_of_twelve_bits(tmp_path):
    """The negative is taken in the bits that are stored, not in those of the file."""
    tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    path = write_dicom(tmp_path / "a.dcm", PIXELS, WindowCenter="1000.5", WindowWidth=2001, **tags)
    np.testing.assert_array_equal(read_scan(path).pixels[0], 4095.0 - PIXELS)
    # the window on the stored pixels: black from 2000 on, white at 0
    np.testing.assert_allclose(read_view(path).image, 255 - (PIXELS / 2000 * 255).clip(0, 255), atol=0.51)


def test_high_bit_need_not_be_given(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", PIXELS, BitsStored=12, HighBit=None)
    np.testing.assert_array_equal(open_scan(path).shape, (1, 24, 16))


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT"])
def test_window_is_the_standards(tmp_path, function):
    from pydicom.pixels.processing import apply_windowing

    path = write_dicom(
        tmp_path / "a.dcm", PIXELS, WindowCenter=[900, 40], WindowWidth=[700, 400], VOILUTFunction=function
    )
    shown = apply_windowing(PIXELS, pydicom.dcmread(path)) / (2**16 - 1) * 255
    np.testing.assert_allclose(read_view(path).image, shown, atol=0.51)


def test_a_series_is_ordered_by_position(tmp_path):
    folder = write_series(tmp_path / "s", VOLUME, order=[3, 0, 4, 1, 2])
    scan = read_scan(folder)
    np.testing.assert_array_equal(scan.pixels, VOLUME)
    np.testing.assert_allclose(scan.positions, [0, 4, 8, 12, 16])
    assert scan.spacing_mm == (4, 0.5, 0.5) and mid_sagittal(scan) == 2
    assert [f.name for f in scan.files] == ["im003.dcm", "im000.dcm", "im004.dcm", "im001.dcm", "im002.dcm"]
    assert read_view(folder).place.file.name == "im004.dcm"


def test_a_missing_slice_does_not_change_the_distance_of_the_others(tmp_path):
    folder = write_series(tmp_path / "s", VOLUME)
    (folder / "im001.dcm").unlink()
    assert read_scan(folder).spacing_mm == (4, 0.5, 0.5)


def test_slice_distance_of_the_header_where_positions_do_not_tell(tmp_path):
    tags = {"SpacingBetweenSlices": 4.4, "SliceThickness": 4.0}
    assert read_scan(write_dicom(tmp_path / "a.dcm", PIXELS, **tags)).spacing_mm == (4.4, 0.5, 0.5)
    folder = write_series(tmp_path / "s", VOLUME, ImagePositionPatient=None, **tags)
    assert read_scan(folder).shape[0] == 5 and read_scan(folder).spacing_mm == (4.4, 0.5, 0.5)
    thick = write_dicom(tmp_path / "b.dcm", PIXELS, SpacingBetweenSlices=None, SliceThickness=4.0)
    assert read_scan(thick).spacing_mm == (4, 0.5, 0.5)


def test_files_without_a_suffix_and_other_things_in_the_folder(tmp_path):
    folder = write_series(tmp_path / "s", VOLUME)
    for f in folder.iterdir():
        f.rename(f.with_suffix(""))
    (folder / "notes.txt").write_text("x")
    (folder / "sub").mkdir()
    np.testing.assert_array_equal(read_scan(folder).pixels, VOLUME)


def test_of_a_localiser_the_sagittal_planes_are_taken(tmp_path):
    for k in range(3):
        write_dicom(tmp_path / f"a{k}.dcm", PIXELS, position=(0, 0, k), orientation=AXIAL)
        write_dicom(tmp_path / f"c{k}.dcm", PIXELS, position=(0, k, 0), orientation=CORONAL)
    for k in range(2):
        write_dicom(tmp_path / f"s{k}.dcm", PIXELS + k, position=(k, 0, 0))
    scan = read_scan(tmp_path)
    assert scan.plane == "sagittal" and [f.name for f in scan.files] == ["s0.dcm", "s1.dcm"]


def heard(caplog):
    """The log, with the host's logger in it, which does not hand its messages on."""
    import logging

    from ultralytics.utils import LOGGER

    caplog.set_level(logging.INFO)
    LOGGER.addHandler(caplog.handler)
    return LOGGER


def test_directions_that_differ_by_rounding_are_one_stack(tmp_path, caplog):
    """A cosine of 0.125 lies where two decimals are rounded up or down."""
    logger = heard(caplog)
    for k in range(6):
        c = 0.125 + (-1) ** k * 1e-7
        tags = {"orientation": (c, (1 - c * c) ** 0.5, 0, 0, 0, -1), "spacing": (0.5, 0.5005 + (-1) ** k * 1e-7)}
        write_dicom(tmp_path / f"{k}.dcm", PIXELS, position=(4 * k, 0, 0), **tags)
    scan = read_scan(tmp_path)
    logger.removeHandler(caplog.handler)
    assert scan.shape[0] == 6 and not caplog.text
    np.testing.assert_allclose(np.diff(scan.positions), 4 * (1 - 0.125**2) ** 0.5, atol=1e-5)


@pytest.mark.parametrize(
    "tags",
    [
        {"orientation": (0, 0.999, 0.04, 0, 0.04, -0.999)},
        {"spacing": (0.5, 0.502)},
        {"spacing": (0, 0)},
        {"orientation": (0, 1, 0, 0, 1, 0)},
    ],
)
def test_frames_of_another_kind_are_left_out_in_a_sentence(tmp_path, caplog, tags):
    logger = heard(caplog)
    folder = write_series(tmp_path / "s", VOLUME)
    write_dicom(folder / "other.dcm", PIXELS, position=(40, 0, 0), **tags)
    assert len(read_scan(folder).files) == 5
    logger.removeHandler(caplog.handler)
    assert caplog.text.count("5 of 6 frames are used") == 1 and f"{folder}: " in caplog.text


def test_echoes_of_one_position_stand_in_instance_order(tmp_path):
    for echo in (2, 1):
        for k in range(3):
            write_dicom(tmp_path / f"{echo}{k}.dcm", PIXELS, position=(k, 0, 0), instance=3 * echo + k)
    assert [f.name for f in read_scan(tmp_path).files] == ["10.dcm", "20.dcm", "11.dcm", "21.dcm", "12.dcm", "22.dcm"]


def test_two_series_in_a_folder(tmp_path):
    write_dicom(tmp_path / "a.dcm", PIXELS, series="1.2")
    write_dicom(tmp_path / "b.dcm", PIXELS, series="1.3")
    with pytest.raises(ScanError, match="2 series; expected one"):
        read_scan(tmp_path)


def test_a_damaged_file_does_not_take_its_series_along(tmp_path):
    folder = write_series(tmp_path / "s", VOLUME)
    (folder / "im000.dcm").write_bytes((folder / "im000.dcm").read_bytes()[:300])
    assert read_scan(folder).shape == (4, 24, 16)


def test_multiframe_with_functional_groups(tmp_path):
    positions = [(8, 0, 0), (0, 0, 0), (4, 0, 0), (16, 0, 0), (12, 0, 0)]
    scan = read_scan(write_multiframe(tmp_path / "m.dcm", VOLUME, positions, slopes=[1, 2, 3, 4, 5]))
    order = [1, 2, 0, 4, 3]
    np.testing.assert_array_equal(scan.pixels, [VOLUME[i] * np.float32(i + 1) for i in order])
    assert scan.frames == tuple(order) and scan.spacing_mm == (4, 0.5, 0.5)
    assert scan.windows == tuple((500.0 + i, 800.0) for i in order)
    assert mid_sagittal(scan) == 2


def test_window_function_of_a_frame(tmp_path):
    """LINEAR_EXACT in a frame's own group, in terms of LINEAR."""
    path = write_multiframe(tmp_path / "m.dcm", VOLUME, [(4 * k, 0, 0) for k in range(5)])
    ds = pydicom.dcmread(path)
    ds.PerFrameFunctionalGroupsSequence[2].FrameVOILUTSequence[0].VOILUTFunction = "LINEAR_EXACT"
    ds.save_as(path)
    assert read_scan(path).windows == ((500, 800), (501, 800), (502.5, 801), (503, 800), (504, 800))


def test_multiframe_without_geometry(tmp_path):
    scan = read_scan(write_multiframe(tmp_path / "m.dcm", VOLUME))
    assert scan.geometry is None and scan.spacing_mm == (0, 0.5, 0.5) and mid_sagittal(scan) == 2
    np.testing.assert_array_equal(scan.pixels, VOLUME)


NATIVE = ["ImplicitVRLittleEndian", "ExplicitVRBigEndian", "DeflatedExplicitVRLittleEndian"]
DECODERS = {"JPEG2000Lossless": "openjpeg", "JPEGLosslessSV1": "libjpeg"}  # JPEGBaseline8Bit: Pillow, RLE: pydicom
COMPRESSED = [*DECODERS, "JPEGBaseline8Bit", "RLELossless"]


@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED])
def test_transfer_syntaxes(tmp_path, syntax):
    if syntax in DECODERS:
        pytest.importorskip(DECODERS[syntax])
    smooth = np.add.outer(np.arange(64), np.arange(48))
    pixels = smooth.astype(np.uint8) if syntax == "JPEGBaseline8Bit" else (smooth * 30).astype(np.uint16)
    scan = read_scan(compress(tmp_path / "a.dcm", pixels, syntax))
    np.testing.assert_allclose(scan.pixels[0], pixels, atol=2 if syntax == "JPEGBaseline8Bit" else 0)


KINDS = ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_scanners_image_in_every_syntax(kind):
    """pydicom's own files: one slice of a scanner, encoded by other programs."""
    from pydicom.data import get_testdata_file

    if kind == "jpeg_ls_lossless":
        pytest.importorskip("libjpeg")
    plain = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False))
    scan = read_scan(get_testdata_file(f"MR_small_{kind}.dcm", download=False))
    np.testing.assert_array_equal(scan.pixels[0], plain.pixel_array)
    assert scan.spacing_mm[1:] == tuple(plain.PixelSpacing) and scan.window == (plain.WindowCenter, plain.WindowWidth)


def test_pydicoms_own_files_are_read_or_refused():
    """Some hundred files of all modalities, syntaxes and defects."""
    from pathlib import Path

    read, refused = 0, 0
    for file in sorted((Path(pydicom.__file__).parent / "data").rglob("*")):
        if file.is_file():
            try:
                assert read_view(file).image.size
                read += 1
            except ScanError as e:
                assert str(e).startswith(f"{file}: ")
                refused += 1
    assert read > 20 and refused > 50


def test_a_missing_decoder_names_the_extra(tmp_path, monkeypatch):
    path = compress(tmp_path / "a.dcm", PIXELS, "RLELossless")
    monkeypatch.setattr(pydicom.pixels.decoders.base.Decoder, "is_available", False)
    with pytest.raises(ScanError, match=r"a.dcm: is compressed as RLE.*yolospine_ultra\[dicom\]"):
        read_scan(path)


def test_missing_pydicom_names_the_extra(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "a.dcm", PIXELS)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImportError, match=r"yolospine_ultra\[dicom\]"):
        read_scan(path)


def test_no_identity_is_read(tmp_path):
    """Nothing that a scan, its view or its header keeps has the patient's name or number."""
    from yolospine_ultra.data.scans.dicom_file import read_file

    path = write_dicom(tmp_path / "a.dcm", PIXELS)
    ds, _ = read_file(path)
    assert "PatientName" not in ds and "PatientID" not in ds and "PatientBirthDate" not in ds
    scan, view = read_scan(path), read_view(path)
    kept = f"{vars(scan)}{vars(view)}{vars(view.place)}{ds}"
    assert NAME not in kept and IDENTITY not in kept and "19700101" not in kept


def test_an_empty_folder(tmp_path):
    with pytest.raises(ScanError, match="holds no DICOM image"):
        read_scan(tmp_path)
