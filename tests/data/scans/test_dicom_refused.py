"""DICOM files that are refused, or read without what makes no sense in them."""

import numpy as np
import pytest
from scan_files import NAME, compress, edit_dicom, write_dicom
from test_dicom import COMPRESSED, DECODERS, PIXELS, RNG

from yolospine_ultra.data.scans import ScanError, open_scan, read_scan

pydicom = pytest.importorskip("pydicom")


@pytest.mark.parametrize("modality", ["CT", "US", "SR", "RTSTRUCT", "PT", "SEG", "DOC"])
def test_other_modalities_are_refused(tmp_path, modality):
    path = write_dicom(tmp_path / "a.dcm", PIXELS, Modality=modality)
    with pytest.raises(ScanError, match=f"a.dcm: is of modality '{modality}'; expected MR"):
        open_scan(path)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Rows": 0}, "holds no image"),
        ({"Rows": None, "Columns": None, "PixelData": None, "Modality": "OT"}, "holds no image"),  # an embedded PDF
        ({"PixelData": None}, "no pixel data; expected 768 bytes"),
        ({"PixelData": b""}, "no pixel data"),
        ({"PixelData": b"\0" * 766}, "cut short: 766 bytes of pixels; expected 768"),
        ({"Rows": 65535, "Columns": 65535}, "declares 1 x 65535 x 65535 pixels; expected at most"),
        ({"NumberOfFrames": 2**31 - 1}, "declares 2147483647 x 24 x 16"),
        ({"NumberOfFrames": -3}, "holds no pixels"),
        ({"NumberOfFrames": 3}, "cut short"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "'RGB' pixels of 3 samples; expected grey"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "expected grey"),
        ({"BitsAllocated": 12}, "of 12 bits a pixel"),
        ({"BitsStored": 40}, "40 of 16 bits"),
        ({"BitsStored": 12}, "its highest bit at 15; expected 11, as of 12 bits stored"),
        ({"BitsStored": 12, "HighBit": 12}, "its highest bit at 12; expected 11"),
        ({"RescaleSlope": 0}, "rescale slope of 0"),
    ],
)  # fmt: skip
def test_refused_files(tmp_path, tags, message):
    path = write_dicom(tmp_path / "a.dcm", PIXELS, **tags)
    with pytest.raises(ScanError, match=message) as e:
        read_scan(path)
    assert str(path) in str(e.value) and NAME not in str(e.value)


def test_tags_that_make_no_sense_count_as_not_given(tmp_path):
    path = write_dicom(
        tmp_path / "a.dcm", PIXELS, spacing=(0, 1e9), orientation=(0, 1, 0, 0, 1, 0), WindowCenter=5, WindowWidth=0
    )
    scan = read_scan(path)
    assert scan.spacing_mm is None and scan.geometry is None and scan.window is None
    assert (scan.pixels == PIXELS).all()


@pytest.mark.parametrize(
    "content", [b"", b"DICM", b"%PDF-1.7" * 100, b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 500]
)
def test_no_dicom_inside(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(ScanError, match=r"a\.dcm: .*; expected"):
        read_scan(tmp_path / "a.dcm")


@pytest.mark.parametrize("cut", [140, 400, 600, -100])
def test_truncated_at(tmp_path, cut):
    path = write_dicom(tmp_path / "a.dcm", PIXELS)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ScanError, match=r"a\.dcm"):
        read_scan(path)


@pytest.mark.parametrize("syntax", [*COMPRESSED, "DeflatedExplicitVRLittleEndian"])
def test_truncated_streams(tmp_path, syntax):
    if syntax in DECODERS:
        pytest.importorskip(DECODERS[syntax])
    pixels = np.tile(PIXELS, (3, 4)).astype(np.uint8 if syntax == "JPEGBaseline8Bit" else np.uint16)
    path = compress(tmp_path / "a.dcm", pixels, syntax)
    path.write_bytes(path.read_bytes()[:-300])
    try:
        assert read_scan(path).shape == (1, *pixels.shape)  # a decoder may give what is there
    except ScanError as e:
        assert str(path) in str(e)


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_streams_of_another_size_are_refused_before_they_are_decoded(tmp_path, syntax, monkeypatch):
    if syntax in DECODERS:
        pytest.importorskip(DECODERS[syntax])
    dtype = np.uint8 if syntax == "JPEGBaseline8Bit" else np.uint16
    path = compress(tmp_path / "a.dcm", RNG.integers(0, 200, (300, 200)).astype(dtype), syntax)
    edit_dicom(path, Rows=16, Columns=8)

    def fail(*args, **kwargs):
        raise AssertionError("decoded")

    monkeypatch.setattr(pydicom.pixels.decoders.base.Decoder, "as_array", fail)
    with pytest.raises(ScanError, match=r"compressed stream holds|run-length data for 128 pixels"):
        read_scan(path)


def test_deep_nesting(tmp_path):
    """Sequences in sequences, past what Python can recurse into."""
    path = write_dicom(tmp_path / "a.dcm", PIXELS)
    data = path.read_bytes()
    item = b"\x00\x52\x29\x92SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    start = data.index(b"\xe0\x7f\x10\x00")
    path.write_bytes(data[:start] + item * 20000 + data[start:])
    with pytest.raises(ScanError, match="is damaged"):
        read_scan(path)


def test_a_deflate_bomb_is_not_inflated(tmp_path, monkeypatch):
    import zlib

    from yolospine_ultra.data.scans import dicom_file

    monkeypatch.setattr(dicom_file, "MAX_FILE_BYTES", 10**6)
    path = compress(tmp_path / "a.dcm", PIXELS, "DeflatedExplicitVRLittleEndian")
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    pack = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    path.write_bytes(data[:start] + pack.compress(b"\0" * 10**7) + pack.flush())
    with pytest.raises(ScanError, match="inflates to more than 1000000 bytes"):
        read_scan(path)
