"""DICOM: single images, multi-frame objects, and folders with a series, through pydicom and its decoders.

PS3.3 C.7.6 (image plane, pixel), C.11 (modality and VOI transformations), C.7.6.16 (functional groups). Only the tags
that pixels and their place need are parsed, so that no patient's name is ever in memory as a value. Not applied:
modality and VOI look-up tables (rare in MR; the window or the percentiles take their place), sigmoid VOI functions
(taken as linear), overlays.
"""

from __future__ import annotations

import struct
import zlib
from collections import defaultdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from yolospine_ultra.data.scans.scan import (
    MAX_FILE_BYTES,
    SAGITTAL,
    Geometry,
    Scan,
    ScanError,
    check_file,
    check_size,
    plausible_spacing,
    unit_axes,
)

MODALITIES = {"MR", "OT", ""}  # OT: images converted to DICOM; empty: anonymised
MAX_RLE_PIXELS = 2**24  # a run-length stream can grow 64 times before its decoder sees that it is too long
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_RLE = "1.2.840.10008.1.2.5"
_TAGS = [
    "SOPClassUID", "Modality", "SeriesInstanceUID", "InstanceNumber", "Rows", "Columns", "NumberOfFrames",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PlanarConfiguration", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "PixelSpacing", "SpacingBetweenSlices", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "PixelData", "FloatPixelData", "DoubleFloatPixelData",
]  # fmt: skip
_FLOAT_DATA = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's mark, ``DICM`` at byte 128."""
    try:
        with open(path, "rb") as f:
            return f.read(132)[128:] == b"DICM"
    except OSError:
        return False


def open_dicom(path: Path) -> Scan:
    """A DICOM file with one or several frames, ordered by their position where it is known.

    Raises:
        ScanError: the file is damaged, not an MR image, or of a size beyond the limits.
        ImportError: pydicom is missing.
    """
    ds = _read(path)
    frames = [_Frame(path, ds, i) for i in range(_check_image(path, ds))]
    return _stack(path, _best(frames), lambda f: _decode(path, ds, f.number))


def open_series(folder: Path, files: list[Path] | None = None) -> Scan:
    """The series in a folder as one stack, ordered by position, not by file name.

    Of several stacks in one series (a localiser has one a plane) the sagittal one with the most planes is taken, else
    the one with the most planes. Planes of equal position (echoes) stand in the order of their instance numbers.

    Args:
        folder: where the files are.
        files: which of them; None: all with DICOM's mark.

    Raises:
        ScanError: no image that can be read, or images of several series.
        ImportError: pydicom is missing.
    """
    files = sorted(p for p in folder.iterdir() if p.is_file() and is_dicom(p)) if files is None else files
    series: dict[str, list[_Frame]] = defaultdict(list)
    errors = []
    for path in files:
        try:
            for uid, found in read_headers(path).items():
                series[uid] += found
        except ScanError as e:
            errors.append(e)
    if not series:
        raise errors[0] if errors else ScanError(f"{folder}: holds no DICOM image; expected those of one series.")
    if len(series) > 1:
        raise ScanError(
            f"{folder}: holds {len(series)} series; expected one: predict on the folder reads each, or sort them into "
            "folders of their own."
        )
    return stack_series(folder, next(iter(series.values())))


def read_headers(path: Path) -> dict[str, list[_Frame]]:
    """The frames of a file, without their pixels, by the UID of their series.

    Raises:
        ScanError: as for `open_dicom`.
    """
    ds = _read(path, pixels=False)
    return {str(ds.get("SeriesInstanceUID", "")): [_Frame(path, ds, i) for i in range(_check_image(path, ds, False))]}


def stack_series(path: Path, frames: list[_Frame]) -> Scan:
    """One stack of the frames of a series, see `open_series`."""

    def decode(f: _Frame) -> np.ndarray:
        ds = _read(f.path)
        _check_image(f.path, ds)
        return _decode(f.path, ds, f.number)

    return _stack(path, _best(frames), decode)


def _best(frames: list[_Frame]) -> list[_Frame]:
    """The sagittal stack with the most frames, else the one with the most."""
    stacks: dict[Any, list[_Frame]] = defaultdict(list)
    for f in frames:
        stacks[f.stack].append(f)
    return max(stacks.values(), key=lambda s: (s[0].plane == SAGITTAL, len(s)))


class _Frame:
    """What one frame's header says; numbers that make no sense count as not given."""

    def __init__(self, path: Path, ds: Any, number: int) -> None:
        self.path, self.number = path, number
        self.instance = _numbers(ds, "InstanceNumber", 1)[0] if _numbers(ds, "InstanceNumber", 1) else 0.0
        self.shape = (int(ds.Rows), int(ds.Columns))
        groups = _functional_groups(ds, number)

        def values(keyword: str, macro: str, n: int) -> tuple[float, ...] | None:
            for item in groups:
                inner = item.get(macro)
                found = _numbers(inner[0], keyword, n) if inner else None
                if found:
                    return found
            return _numbers(ds, keyword, n)

        transform = "PixelValueTransformationSequence"
        self.slope = (values("RescaleSlope", transform, 1) or (1.0,))[0]
        self.intercept = (values("RescaleIntercept", transform, 1) or (0.0,))[0]
        if self.slope == 0:
            raise ScanError(f"{path}: has a rescale slope of 0; expected one that keeps its pixels apart.")
        centre, width = (
            values("WindowCenter", "FrameVOILUTSequence", 1),
            values("WindowWidth", "FrameVOILUTSequence", 1),
        )
        self.window = (centre[0], width[0]) if centre and width and width[0] > 0 else None
        voi = [inner[0] for g in groups if (inner := g.get("FrameVOILUTSequence"))]
        if self.window and str((voi[0] if voi else ds).get("VOILUTFunction", "")) == "LINEAR_EXACT":
            self.window = self.window[0] + 0.5, self.window[1] + 1  # the same line in terms of LINEAR
        pixel = values("PixelSpacing", "PixelMeasuresSequence", 2)
        self.spacing = pixel if pixel and plausible_spacing(*pixel) else None
        between = values("SpacingBetweenSlices", "PixelMeasuresSequence", 1)
        between = between or values("SliceThickness", "PixelMeasuresSequence", 1)
        self.between = between[0] if between and plausible_spacing(between[0]) else 0.0
        axes = values("ImageOrientationPatient", "PlaneOrientationSequence", 6)
        # DICOM gives the direction along a row first
        self.axes = unit_axes(np.array(axes[3:]), np.array(axes[:3])) if axes else None
        position = values("ImagePositionPatient", "PlanePositionSequence", 3)
        self.origin = np.array(position) if position and max(map(abs, position)) < 1e5 else None
        known = self.axes is not None and self.origin is not None
        self.geometry = Geometry(self.origin[None], *self.axes) if known else None
        self.bits = (int(ds.get("BitsStored") or 16), int(ds.get("PixelRepresentation") or 0))
        self.inverted = str(ds.get("PhotometricInterpretation", "")) == "MONOCHROME1"

    @property
    def plane(self) -> str | None:
        return self.geometry.plane if self.geometry else None

    @property
    def stack(self) -> tuple:
        """Frames of equal size, direction and pixel spacing make a stack."""
        axes = None if self.geometry is None else tuple(np.round(np.concatenate(self.axes), 2) + 0.0)
        return self.shape, axes, self.spacing and tuple(round(x, 3) for x in self.spacing)

    def rescale(self, stored: np.ndarray) -> np.ndarray:
        """Float pixels of stored ones, brighter for more signal."""
        x = stored.astype(np.float32)
        if self.inverted:
            np.subtract(np.float32(self._mirror), x, out=x)
        if self.slope != 1:
            x *= np.float32(self.slope)
        if self.intercept != 0:
            x += np.float32(self.intercept)
        return x

    @property
    def _mirror(self) -> int:
        """Sum of the lowest and the highest stored value."""
        bits, signed = self.bits
        return -1 if signed else 2**bits - 1

    @property
    def shown_window(self) -> tuple[float, float] | None:
        """The window in units of `rescale`."""
        if self.window is None or not self.inverted:
            return self.window
        # LINEAR is not symmetric about its centre, but about half a unit below
        return self.slope * self._mirror + 2 * self.intercept - self.window[0] + 1, self.window[1]


def _stack(path: Path, frames: list[_Frame], decode: Any) -> Scan:
    """The frames of one stack ordered by position, as a scan."""
    first = frames[0]
    geometry, between = None, first.between
    if first.geometry is None:
        frames = sorted(frames, key=lambda f: (f.instance, f.path.name, f.number))
    else:
        normal = first.geometry.normal
        frames = sorted(frames, key=lambda f: (round(float(f.origin @ normal), 2), f.instance, f.number))
        geometry = Geometry(np.stack([f.origin for f in frames]), *first.axes)
        gaps = np.diff(geometry.positions)
        between = float(np.median(gaps[gaps > 0.01])) if (gaps > 0.01).any() else between
    check_size(path, len(frames), *first.shape)

    def read(i: int) -> np.ndarray:
        frame = frames[i]
        stored = decode(frame)
        if stored.shape != frame.shape:
            raise ScanError(f"{frame.path}: decodes to {stored.shape} pixels; expected {frame.shape}, as it declares.")
        x = frame.rescale(stored)
        if not np.isfinite(x).all():
            raise ScanError(f"{frame.path}: has pixels that are not finite; expected numbers.")
        return x

    return Scan(
        path=path,
        shape=(len(frames), *first.shape),
        read=read,
        files=tuple(f.path for f in frames),
        frames=tuple(f.number for f in frames),
        spacing_mm=first.spacing and (between, *first.spacing),
        windows=tuple(f.shown_window for f in frames),
        geometry=geometry,
    )


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError as e:
        raise ImportError("Reading DICOM needs pydicom: pip install 'yolospine_ultra[dicom]'") from e
    return pydicom


def _read(path: Path, pixels: bool = True) -> Any:
    """The data set with the tags of `_TAGS`; everything that pydicom can say becomes one sentence."""
    pydicom = _pydicom()
    check_file(path)
    if not is_dicom(path):
        raise ScanError(f"{path}: has no DICM mark at byte 128; expected a DICOM file.")
    try:
        # from memory: a declared length can then never ask for more than the file has
        data = path.read_bytes()
        if _DEFLATED in data:
            return _inflated(path, data)
        ds = pydicom.dcmread(BytesIO(data), stop_before_pixels=not pixels, specific_tags=_TAGS)
        for element in ds:  # converted now, where it can fail
            element.value  # noqa: B018
        return ds
    except ScanError:
        raise
    except Exception as e:  # pydicom raises many kinds, and the text of some repeats values of the file
        raise ScanError(f"{path}: is damaged ({type(e).__name__}); expected a whole DICOM file.") from None


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


def _check_image(path: Path, ds: Any, pixels: bool = True) -> int:
    """Refuse what is no grey MR image of an acceptable size; returns its number of frames."""
    modality = str(ds.get("Modality") or "")
    if modality not in MODALITIES:
        raise ScanError(f"{path}: is of modality {_code(modality)}; expected MR.")
    try:
        height, width = int(ds.get("Rows") or 0), int(ds.get("Columns") or 0)
        n, samples = int(ds.get("NumberOfFrames") or 1), int(ds.get("SamplesPerPixel") or 1)
        bits, stored = int(ds.get("BitsAllocated") or 0), int(ds.get("BitsStored") or 1)
    except (TypeError, ValueError):
        raise ScanError(f"{path}: has a size that is no number; expected rows, columns and frames.") from None
    if not (height and width):
        raise ScanError(f"{path}: holds no image; expected one with rows and columns.")
    check_size(path, n, height, width)
    kind = str(ds.get("PhotometricInterpretation", ""))
    if samples != 1 or kind not in {"MONOCHROME1", "MONOCHROME2"}:
        raise ScanError(f"{path}: holds {_code(kind)} pixels of {samples} samples; expected grey ones (MONOCHROME).")
    if bits not in {8, 16, 32, 64} or not 0 < stored <= bits:
        raise ScanError(f"{path}: has {stored} of {bits} bits a pixel; expected 8, 16 or 32.")
    if pixels:
        _check_data(path, ds, n * height * width * bits // 8)
    return n


def _check_data(path: Path, ds: Any, expected: int) -> None:
    """Refuse pixel data that is missing, or shorter than its declared size."""
    keyword = next((k for k in ("PixelData", *_FLOAT_DATA) if k in ds), None)
    found = len(ds[keyword].value or b"") if keyword else 0
    if not found:
        raise ScanError(f"{path}: has no pixel data; expected {expected} bytes.")
    if not _syntax(ds).is_encapsulated and found < expected:
        raise ScanError(f"{path}: is cut short: {found} bytes of pixels; expected {expected}.")


def _decode(path: Path, ds: Any, index: int) -> np.ndarray:
    """Stored pixels (H, W) of one frame."""
    from pydicom.pixels import get_decoder

    syntax = _syntax(ds)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ScanError(f"{path}: has transfer syntax {_code(syntax)}; expected one that holds an image.") from None
    if not decoder.is_available:
        raise ScanError(
            f"{path}: is compressed as {syntax.name}, for which no decoder is installed: "
            "pip install 'yolospine_ultra[dicom]'"
        )
    try:
        if syntax.is_encapsulated:
            _check_stream(path, ds, index, syntax)
        # pylibjpeg-rle, where it is installed, ends the process on damaged data
        array, _ = decoder.as_array(ds, index=index, decoding_plugin="pydicom" if syntax == _RLE else "")
    except ScanError:
        raise
    except Exception as e:
        raise ScanError(f"{path}: its pixels cannot be decoded ({type(e).__name__}); expected {syntax.name}.") from None
    return array


def _check_stream(path: Path, ds: Any, index: int, syntax: Any) -> None:
    """Refuse a compressed frame that would decode to another size than the header's."""
    from pydicom.encaps import get_frame

    frame = get_frame(ds.PixelData, index, number_of_frames=int(ds.get("NumberOfFrames") or 1))
    pixels = ds.Rows * ds.Columns
    if syntax == _RLE:
        # PS3.5 G.3: 129 bytes for 128 literal ones at worst, and a header of 64
        if pixels > MAX_RLE_PIXELS or len(frame) > pixels * ds.BitsAllocated // 8 * 1.02 + 1024:
            raise ScanError(f"{path}: has {len(frame)} bytes of run-length data for {pixels} pixels; expected less.")
        return
    size = _jpeg2000_size(frame) or _jpeg_size(frame)
    if size != (ds.Rows, ds.Columns, 1):
        raise ScanError(
            f"{path}: its compressed stream holds {size or 'no'} rows, columns and components; expected "
            f"{ds.Rows}, {ds.Columns} and 1."
        )


def _jpeg2000_size(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and components in a JPEG 2000 codestream's SIZ segment (ISO 15444-1 A.5.1)."""
    start = frame.find(b"\xff\x4f\xff\x51", 0, 1024)
    if start < 0 or len(frame) < start + 42:
        return None
    x1, y1, x0, y0 = struct.unpack(">4I", frame[start + 8 : start + 24])
    return y1 - y0, x1 - x0, struct.unpack(">H", frame[start + 40 : start + 42])[0]


def _jpeg_size(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and components in a JPEG or JPEG-LS stream's first frame header (ISO 10918-1 B.2.2)."""
    if not frame.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 10 <= len(frame) and frame[at] == 0xFF:
        marker, length = frame[at + 1], struct.unpack(">H", frame[at + 2 : at + 4])[0]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}):
            return (*struct.unpack(">HH", frame[at + 5 : at + 9]), frame[at + 9])
        at += 1 if marker == 0xFF else 2 + length
    return None


def _syntax(ds: Any) -> Any:
    """The transfer syntax, also of a file that names none."""
    from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    named = ds.file_meta.get("TransferSyntaxUID")
    if named:
        return UID(str(named))
    return ImplicitVRLittleEndian if ds.original_encoding[0] else ExplicitVRLittleEndian


def _functional_groups(ds: Any, number: int) -> list[Any]:
    """The functional groups of a frame: its own, then the shared ones."""
    own, shared = ds.get("PerFrameFunctionalGroupsSequence"), ds.get("SharedFunctionalGroupsSequence")
    groups = [own[number]] if own and number < len(own) else []
    return groups + ([shared[0]] if shared else [])


def _numbers(ds: Any, keyword: str, n: int) -> tuple[float, ...] | None:
    """The first `n` finite numbers of an element, or None where it has not so many."""
    try:
        value = ds.get(keyword)
        values = [value] if isinstance(value, (int, float, str)) else list(value or [])
        found = tuple(float(x) for x in values[:n])
    except (TypeError, ValueError):
        return None
    return found if len(found) == n and np.isfinite(found).all() else None


def _code(value: Any) -> str:
    """A coded value of a header as it may stand in a message: short, and printable."""
    return repr(str(value)[:32]) if value else "none"
