"""A DICOM file's data set, from memory, with the tags that pixels and their place need, and its checks.

Only those tags are parsed, so that no patient's name is ever a value in memory; pydicom's own messages, which repeat
values of damaged files, are kept quiet for the same reason.
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from yolospine_ultra.data.scans.scan import MAX_FILE_BYTES, ScanError, check_file, check_size

MODALITIES = {"MR", "OT", ""}  # OT: images converted to DICOM; empty: anonymised
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_TAGS = [
    "SOPClassUID", "Modality", "SeriesInstanceUID", "InstanceNumber", "Rows", "Columns", "NumberOfFrames",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PlanarConfiguration", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "PixelSpacing", "SpacingBetweenSlices", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "PixelData", "FloatPixelData", "DoubleFloatPixelData",
]  # fmt: skip
_DATA = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_CODE = re.compile(r"[A-Z0-9_. ]{1,64}")
_LOUD = {"pydicom", "pylibjpeg", "openjpeg", "libjpeg"}


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's mark, ``DICM`` at byte 128."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return False
        with open(path, "rb") as f:
            return f.read(132)[128:] == b"DICM"
    except OSError:
        return False


class _Quiet:
    """No messages of pydicom and its decoders, while any thread reads."""

    def __init__(self) -> None:
        self._lock, self._readers = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            self._readers += 1
            if self._readers > 1:
                return
            self._warnings = warnings.catch_warnings()
            self._warnings.__enter__()
            warnings.simplefilter("ignore")
            known = logging.root.manager.loggerDict.items()
            loggers = [x for n, x in known if n.partition(".")[0] in _LOUD and isinstance(x, logging.Logger)]
            self._loggers = [x for x in loggers if not x.disabled]
            for x in self._loggers:
                x.disabled = True

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers:
                return
            self._warnings.__exit__(None, None, None)
            for x in self._loggers:
                x.disabled = False


_QUIET = _Quiet()


@contextmanager
def reading(path: Path, what: str = "a whole DICOM file") -> Iterator[None]:
    """Everything that pydicom can raise as one sentence, without its text: some repeats values of the file."""
    _pydicom()
    with _QUIET:
        try:
            yield
        except ScanError:
            raise
        except Exception as e:
            raise ScanError(f"{path}: is damaged ({type(e).__name__}); expected {what}.") from None


def _pydicom() -> Any:
    try:
        import pydicom.pixels  # its loggers are there from now on
    except ImportError as e:
        raise ImportError("Reading DICOM needs pydicom: pip install 'yolospine_ultra[dicom]'") from e
    return pydicom


def read_file(path: Path, pixels: bool = True) -> tuple[Any, int]:
    """The data set with the tags of this module, and its number of frames; inside `reading`.

    Raises:
        ScanError: the file is damaged, no grey MR image, or of a size beyond the limits.
    """
    check_file(path)
    if not is_dicom(path):
        raise ScanError(f"{path}: has no DICM mark at byte 128; expected a DICOM file.")
    data = path.read_bytes()  # a declared length can then never ask for more than the file has
    if _DEFLATED in data:
        ds = _inflated(path, data)
    else:
        ds = _pydicom().dcmread(BytesIO(data), stop_before_pixels=not pixels, specific_tags=_TAGS)
    for element in ds:  # converted now, where it can fail
        element.value  # noqa: B018
    return ds, _check_image(path, ds, pixels)


def _inflated(path: Path, data: bytes) -> Any:
    """A deflated data set (PS3.5 A.5), which pydicom would inflate to any size."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag

    start = 144 + int.from_bytes(data[140:144], "little")  # the meta information opens with its own length
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflate.decompress(data[start:], MAX_FILE_BYTES)
    if inflate.unconsumed_tail:
        raise ScanError(f"{path}: inflates to more than {MAX_FILE_BYTES} bytes; expected less.")
    ds = read_dataset(BytesIO(content), False, True, specific_tags=[Tag(t) for t in _TAGS])
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = _DEFLATED.decode()
    return ds


def _check_image(path: Path, ds: Any, pixels: bool) -> int:
    """Refuse what is no grey MR image of an acceptable size; returns its number of frames."""
    modality = str(ds.get("Modality") or "")
    if modality not in MODALITIES:
        raise ScanError(f"{path}: is of modality {code_of(modality)}; expected MR.")
    try:
        height, width = int(ds.get("Rows") or 0), int(ds.get("Columns") or 0)
        n, samples = int(ds.get("NumberOfFrames") or 1), int(ds.get("SamplesPerPixel") or 1)
        bits, stored = int(ds.get("BitsAllocated") or 0), int(ds.get("BitsStored") or 1)
        high = int(ds.HighBit) if ds.get("BitsStored") and ds.get("HighBit") is not None else stored - 1
    except (TypeError, ValueError):
        raise ScanError(f"{path}: has a size that is no number; expected rows, columns and frames.") from None
    if not (height and width):
        raise ScanError(f"{path}: holds no image; expected one with rows and columns.")
    check_size(path, n, height, width)
    kind = str(ds.get("PhotometricInterpretation", ""))
    if samples != 1 or kind not in {"MONOCHROME1", "MONOCHROME2"}:
        raise ScanError(f"{path}: holds {code_of(kind)} pixels of {samples} samples; expected grey ones (MONOCHROME).")
    if bits not in {8, 16, 32, 64} or not 0 < stored <= bits:
        raise ScanError(f"{path}: has {stored} of {bits} bits a pixel; expected 8, 16 or 32.")
    if high != stored - 1:
        raise ScanError(f"{path}: has its highest bit at {high}; expected {stored - 1}, as of {stored} bits stored.")
    if pixels:
        _check_data(path, ds, n * height * width * bits // 8)
    return n


def _check_data(path: Path, ds: Any, expected: int) -> None:
    """Refuse pixel data that is missing, or shorter than its declared size."""
    keyword = next((k for k in _DATA if k in ds), None)
    found = len(ds[keyword].value or b"") if keyword else 0
    if not found:
        raise ScanError(f"{path}: has no pixel data; expected {expected} bytes.")
    if not syntax_of(ds).is_encapsulated and found < expected:
        raise ScanError(f"{path}: is cut short: {found} bytes of pixels; expected {expected}.")


def syntax_of(ds: Any) -> Any:
    """The transfer syntax, also of a file that names none."""
    from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    named = ds.file_meta.get("TransferSyntaxUID")
    if named:
        return UID(str(named))
    return ImplicitVRLittleEndian if ds.original_encoding[0] else ExplicitVRLittleEndian


def code_of(value: Any) -> str:
    """A coded value of a header as it may stand in a message; nothing else of a damaged header may."""
    text = str(value or "")
    return repr(text) if _CODE.fullmatch(text) else "no code" if not text else "an unreadable code"
