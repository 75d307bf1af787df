"""Thousands of damaged files of every kind: an image or a `ScanError`, soon, and never a changed file."""

import random
import shutil
import time
from contextlib import suppress
from functools import cache

import cv2
import numpy as np
import pytest
from scan_files import compress, write_dicom, write_mha, write_multiframe, write_nifti

from yolospine_ultra.data.scans import ScanError, read_view, scan_kind

pytest.importorskip("pydicom")
pytest.importorskip("nibabel")
pytest.importorskip("libjpeg")

RNG = np.random.default_rng(0)
SMOOTH = np.add.outer(np.arange(64), np.arange(40))
VOLUME = RNG.integers(0, 900, (3, 12, 10)).astype(np.int16)
LIMITS = [bytes(n) for k in (2, 4) for n in (k * [0], k * [255], [*(k - 1) * [0], 128], [*(k - 1) * [255], 127])]
WORDS = b"-1 0 99999999999 nan 1e308 LOCAL LIST True \\ = / SQ UN UI".split()
SECONDS = 3.0  # far above what any of these files takes, far below a hang


def write_seeds(folder):
    """One sound file of every kind."""
    from pydicom.data import get_testdata_file

    deep = (SMOOTH * 30).astype(np.uint16)
    positions = [(k, 0, 0) for k in range(3)]
    write_dicom(folder / "plain.dcm", deep, WindowCenter=900, WindowWidth=700, RescaleSlope="2", RescaleIntercept="-5")
    write_dicom(folder / "negative.dcm", SMOOTH.astype(np.uint8), PhotometricInterpretation="MONOCHROME1")
    write_multiframe(folder / "frames.dcm", VOLUME, positions)
    for syntax in ("RLELossless", "DeflatedExplicitVRLittleEndian", "ImplicitVRLittleEndian"):
        compress(folder / f"{syntax}.dcm", deep, syntax)
    compress(folder / "lossless.dcm", deep, "JPEGLosslessSV1")
    shutil.copy(get_testdata_file("MR_small_jpeg_ls_lossless.dcm", download=False), folder / "jpegls.dcm")
    compress(folder / "jpeg.dcm", SMOOTH.astype(np.uint8), "JPEGBaseline8Bit")
    with suppress(ImportError, RuntimeError):  # no encoder is installed
        compress(folder / "jpeg2000.dcm", deep, "JPEG2000Lossless")
    write_nifti(folder / "a.nii", VOLUME, np.diag([4, 0.5, 0.5, 1]))
    write_nifti(folder / "a.nii.gz", VOLUME, np.diag([4, 0.5, 0.5, 1]))
    write_mha(folder / "a.mha", VOLUME)
    write_mha(folder / "packed.mha", VOLUME, compressed=True)
    cv2.imwrite(str(folder / "a.png"), deep)
    cv2.imwrite(str(folder / "a.tif"), deep)


@cache
def header_end(data):
    """Where the pixels begin, roughly: most of what can go wrong lies before."""
    found = [data.find(mark) for mark in (b"\xe0\x7f\x10\x00", b"LOCAL\n", b"IDAT")]
    return max([i + 60 for i in found if i >= 0] or [min(len(data), 400)])


def mutate(data, rng):
    """A damaged copy: bits, numbers at their limits, words, cuts, and pieces doubled, moved or left out."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 12])):
        at = rng.randrange(min(header_end(data), len(out)) if rng.random() < 0.7 else len(out)) if out else 0
        kind = rng.randrange(8)
        if kind <= 1:
            out[at : at + 1] = bytes([rng.randrange(256)])
        elif kind <= 3:
            number = rng.choice(LIMITS)
            out[at : at + len(number)] = number
        elif kind == 4:
            word = rng.choice(WORDS)
            out[at : at + rng.choice([0, len(word)])] = word
        elif kind == 5:
            del out[at : at + rng.choice([1, 2, 8, 100])]
        elif kind == 6:
            piece = out[at : at + rng.choice([4, 8, 60, 400])]
            at = rng.choice([at, rng.randrange(len(out) + 1)])
            out[at:at] = piece * rng.choice([1, 1, 30])
        elif rng.random() < 0.3:
            del out[at:]
    return bytes(out)


def fuzz(folder, per_file, seed):
    """Read `per_file` damaged copies of each seed; returns how many gave an image and how many an error."""
    write_seeds(folder)
    rng, images, errors = random.Random(seed), 0, 0
    for original in sorted(folder.iterdir()):
        data = original.read_bytes()
        assert read_view(original).image.any(), f"{original} is no sound seed"
        damaged = original.with_name(f"damaged-{original.name}")
        for n in range(per_file):
            content = mutate(data, rng)
            damaged.write_bytes(content)
            if scan_kind(damaged) is None:  # no longer an image above 8 bits: the host's
                continue
            begin = time.monotonic()
            try:
                view = read_view(damaged)
                assert view.image.dtype == np.uint8 and view.image.ndim == 2 and view.image.size
                assert view.place.spacing_mm is None or np.isfinite(view.place.spacing_mm).all()
                images += 1
            except ScanError as e:
                assert str(e).startswith(str(damaged)) and "\n" not in str(e) and "Jane" not in str(e), e
                errors += 1
            assert time.monotonic() - begin < SECONDS, f"slow: {original.name} seed {seed} copy {n}"
            assert damaged.read_bytes() == content
        damaged.unlink()
        assert original.read_bytes() == data
    assert images > per_file and errors > per_file  # both ends are reached
    return images, errors


@pytest.fixture(autouse=True)
def nobody_is_named(caplog, capfd, recwarn):
    """pydicom's messages repeat what a damaged element holds, which may be the patient's name."""
    yield
    said = [caplog.text, *capfd.readouterr(), *(str(w.message) for w in recwarn)]
    assert not any("Jane" in text or "PID-77" in text for text in said)


def test_hundreds_of_damaged_files(tmp_path):
    fuzz(tmp_path, per_file=20, seed=0)


@pytest.mark.slow
def test_thousands_of_damaged_files(tmp_path):
    images, errors = fuzz(tmp_path, per_file=220, seed=1)
    assert images + errors > 3000
