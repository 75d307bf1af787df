"""NIfTI and MetaImage: place and pixels as nibabel and SimpleITK see them, in every storage order; refused files."""

import gzip
import struct
import sys
import zlib

import numpy as np
import pytest
from scan_files import anatomy, stored, stored_ways, write_dicom, write_mha, write_nifti

from yolospine_ultra.data.scans import ScanError, mid_sagittal, read_scan, read_view, sagittal

RNG = np.random.default_rng(0)
TO_RAS = np.diag([-1, -1, 1, 1])
SPACING = (4.0, 0.75, 0.5)


def ras(axes, origin):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes.T, origin
    return TO_RAS @ affine


@pytest.mark.parametrize("way", stored_ways(), ids=lambda w: "".join("xyz"[a] + "-+"[s > 0] for a, s in w))
def test_every_storage_order_gives_the_same_upright_planes(tmp_path, way):
    pytest.importorskip("nibabel")
    body = anatomy()
    array, axes, origin = stored(body, way, SPACING)
    files = [
        write_nifti(tmp_path / "a.nii.gz", array, ras(axes, origin)),
        write_mha(tmp_path / "a.mha", np.ascontiguousarray(array.T), axes, origin),
    ]
    for file in files:
        scan = sagittal(read_scan(file))
        # planes right to left, rows head to feet, columns front to back
        np.testing.assert_array_equal(scan.pixels, body[:, :, ::-1].transpose(0, 2, 1))
        np.testing.assert_allclose(scan.spacing_mm, (4, 0.5, 0.75), rtol=1e-6)
        np.testing.assert_allclose(scan.geometry.origins[2], (8, 0, 7.5), atol=1e-5)
        assert mid_sagittal(scan) == 2 and scan.plane == "sagittal"
        view = read_view(file)
        assert view.image.shape == (16, 18) and view.place.index == 2
        np.testing.assert_allclose(
            view.place.patient_mm([[0, 0], [18, 16]]), [[8, -0.375, 7.75], [8, 8.625, -0.25]], atol=1e-5
        )


PLANES = {(1, 2, 0), (2, 1, 0), (0, 1, 2)}  # sagittal, sagittal transposed, axial


@pytest.mark.parametrize("way", [w for w in stored_ways() if tuple(a for a, _ in w) in PLANES])
def test_a_dicom_series_in_every_direction(tmp_path, way):
    pytest.importorskip("pydicom")
    body = anatomy()
    array, axes, origin = stored(body, way, SPACING)  # i along a row, j down the columns, k across
    steps = np.linalg.norm(axes, axis=1)
    for k in range(array.shape[2]):
        write_dicom(
            tmp_path / f"{(k * 7) % array.shape[2]:03d}.dcm", array[:, :, k].T, position=origin + k * axes[2],
            orientation=(*axes[0] / steps[0], *axes[1] / steps[1]), spacing=(steps[1], steps[0]), instance=k,
        )  # fmt: skip
    scan = sagittal(read_scan(tmp_path))
    np.testing.assert_array_equal(scan.pixels, body[:, :, ::-1].transpose(0, 2, 1))
    np.testing.assert_allclose(scan.geometry.origins[0], (0, 0, 7.5), atol=1e-9)
    np.testing.assert_allclose(scan.spacing_mm, (4, 0.5, 0.75))


def oblique(seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.array([0.7, 1.1, 3.3])[:, None]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nii", "a.nii.gz"])
def test_simpleitk_agrees(tmp_path, name, seed):
    sitk = pytest.importorskip("SimpleITK")
    axes, volume = oblique(seed), RNG.normal(size=(6, 5, 4)).astype(np.float32)
    image = sitk.GetImageFromArray(volume)
    spacing = np.linalg.norm(axes, axis=1)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((axes / spacing[:, None]).T.ravel().tolist())
    image.SetOrigin((5, -6, 70))
    sitk.WriteImage(image, str(tmp_path / name), useCompression=seed % 2 == 1)
    scan = read_scan(tmp_path / name)
    np.testing.assert_array_equal(scan.pixels, volume)
    g = scan.geometry
    for i, j, k in [(0, 0, 0), (3, 4, 5), (1, 2, 3)]:
        ours = g.origins[k] + i * scan.spacing_mm[2] * g.right + j * scan.spacing_mm[1] * g.down
        np.testing.assert_allclose(ours, image.TransformIndexToPhysicalPoint((i, j, k)), atol=1e-4)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_nifti_types_and_scale(tmp_path, dtype, big):
    nibabel = pytest.importorskip("nibabel")
    volume = RNG.integers(0, 100, (3, 4, 5)).astype((">" if big else "<") + dtype)
    for make, size in ((nibabel.Nifti1Image, 348), (nibabel.Nifti2Image, 540)):
        header = make(volume, np.eye(4)).header.as_byteswapped(">" if big else "<")
        image = make(volume, np.eye(4), header)
        image.header.set_slope_inter(2.0, -3.0)
        nibabel.save(image, tmp_path / "a.nii")
        assert struct.unpack((">" if big else "<") + "i", (tmp_path / "a.nii").read_bytes()[:4]) == (size,)
        np.testing.assert_allclose(read_scan(tmp_path / "a.nii").pixels, volume.T * 2.0 - 3)


def test_metaimage_types_and_byte_order(tmp_path):
    volume = RNG.integers(0, 100, (3, 4, 5))
    for dtype in ("u1", "i2", "u2", "f4", "f8"):
        file = write_mha(tmp_path / "a.mha", volume.astype(dtype))
        np.testing.assert_array_equal(read_scan(file).pixels, volume)
    swapped = volume.astype("<i2").byteswap()  # its bytes are big-endian
    file = write_mha(tmp_path / "a.mha", swapped.view("<i2"), BinaryDataByteOrderMSB="True")
    np.testing.assert_array_equal(read_scan(file).pixels, volume)


def test_metaimage_with_pixels_beside_it(tmp_path):
    volume = RNG.integers(0, 100, (3, 4, 5)).astype(np.int16)
    file = write_mha(tmp_path / "a.mhd", volume, data=tmp_path / "a.raw")
    np.testing.assert_array_equal(read_scan(file).pixels, volume)
    (tmp_path / "a.raw").write_bytes(b"head" + (tmp_path / "a.raw").read_bytes())
    for skip in (4, -1):
        text = file.read_text().replace("ElementDataFile", f"HeaderSize = {skip}\nElementDataFile")
        (tmp_path / "b.mhd").write_text(text)
        np.testing.assert_array_equal(read_scan(tmp_path / "b.mhd").pixels, volume)


@pytest.mark.parametrize("name", ["/etc/hostname", "../a.raw", "LIST", "slice%03d.raw 1 5 1", "", ".."])
def test_pixels_elsewhere_are_refused(tmp_path, name):
    file = write_mha(tmp_path / "a.mhd", RNG.integers(0, 100, (3, 4, 5)).astype(np.int16), data=tmp_path / "a.raw")
    file.write_text(file.read_text().replace("a.raw", name))
    with pytest.raises(ScanError, match=r"a\.mhd: has its pixels in .*; expected LOCAL or one file in the same folder"):
        read_scan(file)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"DimSize": "5 4 0"}, "holds no pixels"),
        ({"DimSize": "5 4 -3"}, "holds no pixels"),
        ({"DimSize": "60000 60000 60000"}, "declares 60000 x 60000 x 60000 pixels"),
        ({"DimSize": "5 4"}, "has 2 numbers as DimSize; expected 3"),
        ({"DimSize": "5 4 x"}, "is damaged"),
        ({"DimSize": "5 4 30"}, "cut short: 120 bytes of pixels; expected 1200"),
        ({"NDims": "4"}, "4 dimensions"),
        ({"ElementNumberOfChannels": "3"}, "3 channels"),
        ({"ElementType": "MET_STRING"}, "'MET_STRING'"),
        ({"BinaryData": "False"}, "expected binary"),
        ({"ElementSpacing": "0 1 1"}, "no perpendicular steps"),
        ({"ElementSpacing": "nan 1 1"}, "finite"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "no perpendicular steps"),
        ({"Offset": "1e30 0 0"}, "no position"),
    ],
)
def test_refused_metaimages(tmp_path, fields, message):
    file = write_mha(tmp_path / "a.mha", RNG.integers(0, 100, (3, 4, 5)).astype(np.int16), **fields)
    with pytest.raises(ScanError, match=message) as e:
        read_scan(file)
    assert str(file) in str(e.value)


def test_damaged_metaimages(tmp_path):
    file = write_mha(tmp_path / "a.mha", RNG.integers(0, 100, (3, 4, 5)).astype(np.int16), compressed=True)
    whole = file.read_bytes()
    for cut in (0, 10, 200, len(whole) - 20):
        file.write_bytes(whole[:cut])
        with pytest.raises(ScanError, match=r"a\.mha"):
            read_scan(file)
    file.write_bytes(whole.replace(b"ElementDataFile = LOCAL", b"Comment = " + b"x" * 10**6))
    with pytest.raises(ScanError, match="no line ElementDataFile"):
        read_scan(file)


def nifti_with(tmp_path, **fields):
    """A NIfTI file with header fields set past nibabel's own checks."""
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(RNG.integers(0, 100, (3, 4, 5)).astype(np.int16), np.eye(4))
    nibabel.save(image, tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    header = nibabel.Nifti1Header(bytes(data[:348]), check=False)
    for key, value in fields.items():
        header[key] = value
    data[:348] = header.binaryblock
    (tmp_path / "a.nii").write_bytes(data)
    return tmp_path / "a.nii"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dim": [3, 30000, 30000, 300, 1, 1, 1, 1]}, "declares 300 x 30000 x 30000 pixels"),
        ({"dim": [3, 3, 4, 50, 1, 1, 1, 1]}, "cut short: 120 bytes of pixels; expected 1200"),
        ({"dim": [3, 3, 4, -5, 1, 1, 1, 1]}, "holds no pixels"),
        ({"dim": [4, 3, 4, 5, 2, 1, 1, 1]}, r"dimensions \[3, 4, 5, 2\]"),
        ({"dim": [2, 3, 4, 1, 1, 1, 1, 1]}, r"dimensions \[3, 4\]"),
        ({"dim": [99, 3, 4, 5, 1, 1, 1, 1]}, r"dimensions \[\]"),
        ({"vox_offset": 1e12}, "pixels at byte 1e"),
        ({"vox_offset": np.nan}, "pixels at byte nan"),
        ({"datatype": 128}, "expected integers"),
        ({"datatype": 32}, "expected integers"),
        ({"datatype": 9999}, "is damaged"),
        ({"magic": b"xxx"}, "no NIfTI mark"),
        ({"magic": b"ni1"}, "in one file"),
        ({"sform_code": 0, "qform_code": 0}, "has no orientation"),
        ({"srow_x": [0, 0, 0, 0]}, "no perpendicular steps"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "no perpendicular steps"),
        ({"srow_x": [1e9, 0, 0, 0]}, "no perpendicular steps"),
    ],
)
def test_refused_niftis(tmp_path, fields, message):
    file = nifti_with(tmp_path, **fields)
    with pytest.raises(ScanError, match=message) as e:
        read_scan(file)
    assert str(file) in str(e.value)


def test_trailing_dimensions_of_one(tmp_path):
    assert read_scan(nifti_with(tmp_path, dim=[5, 3, 4, 5, 1, 1, 1, 1])).shape == (5, 4, 3)


def test_pixels_that_are_no_numbers_become_background(tmp_path):
    volume = RNG.normal(size=(3, 4, 5)).astype(np.float32)
    volume[0, 0], volume[1, 2, 3] = np.nan, np.inf
    scan = read_scan(write_mha(tmp_path / "a.mha", volume))
    np.testing.assert_array_equal(scan.pixels[~np.isfinite(volume)], volume[np.isfinite(volume)].min())
    with pytest.raises(ScanError, match="no finite pixel"):
        read_scan(write_mha(tmp_path / "b.mha", np.full((3, 4, 5), np.nan, np.float32)))


def test_no_more_is_inflated_than_the_header_declares(tmp_path):
    """100 MB of zeros behind a small volume cost nothing."""
    import tracemalloc

    file = nifti_with(tmp_path)
    bomb = tmp_path / "bomb.nii.gz"
    bomb.write_bytes(gzip.compress(file.read_bytes() + b"\0" * 10**8, 1))
    mha = write_mha(tmp_path / "bomb.mha", np.zeros((3, 4, 5), np.int16), CompressedData="True")
    mha.write_bytes(mha.read_bytes()[:-120] + zlib.compress(b"\0" * 10**8, 1))
    tracemalloc.start()
    assert read_scan(bomb).shape == (5, 4, 3) and read_scan(mha).shape == (3, 4, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**7


def test_missing_nibabel_names_the_extra(tmp_path, monkeypatch):
    file = nifti_with(tmp_path)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ImportError, match=r"yolospine_ultra\[dicom\]"):
        read_scan(file)
