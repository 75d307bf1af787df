"""Volumes: NIfTI (.nii, .nii.gz) through nibabel's headers, MetaImage (.mha, .mhd) by a reader of its own.

A header is parsed and checked before any pixel is read, and no more bytes are read, or inflated, than it declares.
SimpleITK ends the process on some damaged MetaImage headers, so it is only what the tests compare with. MetaImage:
https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from yolospine_ultra.data.scans.scan import Geometry, Scan, ScanError, check_file, check_size, plausible_spacing

MAX_OFFSET = 2**24  # bytes between a header and its pixels; NIfTI extensions lie there
MAX_HEADER = 2**16
_LPS = np.array([-1.0, -1.0, 1.0])  # from NIfTI's RAS
_META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip


def open_nifti(path: Path) -> Scan:
    """A NIfTI-1 or NIfTI-2 volume; its planes are those of its third axis.

    Raises:
        ScanError: damaged, not three-dimensional, without orientation, or of a size beyond the limits.
        ImportError: nibabel is missing.
    """
    try:
        import nibabel
    except ImportError as e:
        raise ImportError("Reading NIfTI needs nibabel: pip install 'yolospine_ultra[dicom]'") from e
    check_file(path)
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb") as f:
            start = f.read(4)
            two = 540 in (int.from_bytes(start, "little"), int.from_bytes(start, "big"))
            kind = nibabel.Nifti2Header if two else nibabel.Nifti1Header
            # the header alone: nibabel would read extensions of any declared length
            header = kind(start + f.read(kind.sizeof_hdr - 4), check=False)
            shape, dtype, offset = _nifti_layout(path, header)
            f.seek(offset)
            raw = _read_exactly(path, f, int(np.prod(shape)) * dtype.itemsize)
        slope, intercept = header.get_slope_inter()
        oriented = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
        affine = header.get_best_affine() if oriented else None
    except ScanError:
        raise
    except Exception as e:
        raise ScanError(f"{path}: is damaged ({type(e).__name__}); expected a NIfTI volume.") from None
    if affine is None:
        raise ScanError(
            f"{path}: has no orientation (sform and qform codes are 0); expected one, to find its sagittal slices."
        )
    pixels = np.frombuffer(raw, dtype).reshape(shape[::-1]).astype(np.float32)
    if slope is not None and (slope, intercept) != (1, 0):
        pixels = pixels * np.float32(slope) + np.float32(intercept)
    return _scan(path, pixels, affine[:3, :3] * _LPS[:, None], affine[:3, 3] * _LPS)


def _nifti_layout(path: Path, header: Any) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape (x, y, z), type and offset of the pixels."""
    magic = bytes(header["magic"].tobytes())
    if not magic.startswith((b"n+1", b"n+2")):
        raise ScanError(f"{path}: has no NIfTI mark; expected a volume in one file (.nii or .nii.gz).")
    n = int(header["dim"][0])
    dims = [int(x) for x in header["dim"][1 : n + 1]] if 1 <= n <= 7 else []
    shape = tuple(dims[:3])
    if len(shape) < 3 or any(x != 1 for x in dims[3:]):
        raise ScanError(f"{path}: has dimensions {dims}; expected a volume of three.")
    check_size(path, shape[2], shape[1], shape[0])
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ScanError(f"{path}: has pixels of type {dtype}; expected integers or real numbers of up to 64 bits.")
    offset = float(header["vox_offset"])
    if not header.sizeof_hdr <= offset <= MAX_OFFSET:
        raise ScanError(f"{path}: has its pixels at byte {offset:g}; expected {header.sizeof_hdr} to {MAX_OFFSET}.")
    return shape, dtype, int(offset)


def open_metaimage(path: Path) -> Scan:
    """A MetaImage volume, its pixels in the same file or in one beside it.

    Raises:
        ScanError: damaged, not three-dimensional, of a size beyond the limits, or with pixels in another folder.
    """
    check_file(path)
    try:
        with open(path, "rb") as f:
            fields = _meta_header(path, f)
            shape, dtype, axes, origin = _meta_layout(path, fields)
            name = fields["ElementDataFile"]
            raw = _meta_pixels(path, fields, f if name == "LOCAL" else None, int(np.prod(shape)) * dtype.itemsize)
    except ScanError:
        raise
    except Exception as e:
        raise ScanError(f"{path}: is damaged ({type(e).__name__}); expected a MetaImage volume.") from None
    return _scan(path, np.frombuffer(raw, dtype).reshape(shape[::-1]).astype(np.float32), axes, origin)


def _meta_header(path: Path, f: BinaryIO) -> dict[str, str]:
    """The header's ``Key = value`` lines; the file stands after the last one, ElementDataFile."""
    fields: dict[str, str] = {}
    while f.tell() < MAX_HEADER:
        line = f.readline(4096)
        key, equals, value = line.decode("latin-1").partition("=")
        if not (equals and line.endswith(b"\n")):
            break
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            return fields
    raise ScanError(f"{path}: its header has no line ElementDataFile; expected a MetaImage.")


def _meta_layout(path: Path, fields: dict[str, str]) -> tuple[tuple[int, ...], np.dtype, np.ndarray, np.ndarray]:
    """Shape (x, y, z), type, columns of steps in mm (3, 3), origin (3,)."""

    def numbers(*keys: str, default: list[float]) -> np.ndarray:
        text = next((fields[k] for k in keys if k in fields), None)
        found = np.array([float(x) for x in text.split()] if text is not None else default)
        if len(found) != len(default) or not np.isfinite(found).all():
            raise ScanError(f"{path}: has {len(found)} numbers as {keys[0]}; expected {len(default)} finite ones.")
        return found

    if fields.get("NDims", "").strip() != "3" or fields.get("ElementNumberOfChannels", "1") != "1":
        raise ScanError(
            f"{path}: has {fields.get('NDims', 'no')[:8]} dimensions and "
            f"{fields.get('ElementNumberOfChannels', '1')[:8]} channels; expected a volume of three and one."
        )
    shape = tuple(int(x) for x in numbers("DimSize", default=[0, 0, 0]))
    check_size(path, shape[2], shape[1], shape[0])
    kind = fields.get("ElementType", "")
    if kind not in _META_TYPES or fields.get("BinaryData", "True").lower() != "true":
        raise ScanError(f"{path}: has pixels of type {kind[:32]!r}; expected binary ones of {', '.join(_META_TYPES)}.")
    big = next((fields[k] for k in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB") if k in fields), "False")
    dtype = np.dtype((">" if big.lower() == "true" else "<") + _META_TYPES[kind])
    spacing = numbers("ElementSpacing", default=[1, 1, 1])
    matrix = numbers("TransformMatrix", "Rotation", "Orientation", default=[1, 0, 0, 0, 1, 0, 0, 0, 1])
    # each line of three in the matrix is the direction of one axis of the volume
    axes = matrix.reshape(3, 3).T * spacing
    return shape, dtype, axes, numbers("Offset", "Position", "Origin", default=[0, 0, 0])


def _meta_pixels(path: Path, fields: dict[str, str], local: BinaryIO | None, size: int) -> bytes:
    """The bytes of the pixels, inflated where the header says so."""
    compressed = fields.get("CompressedData", "False").lower() == "true"
    if local is not None:
        return _inflate(path, local, size) if compressed else _read_exactly(path, local, size)
    name = fields["ElementDataFile"]
    beside = path.parent / name
    if Path(name).name != name or name in {"", "LIST", ".."} or "%" in name:
        raise ScanError(f"{path}: has its pixels in {name[:64]!r}; expected LOCAL or one file in the same folder.")
    try:
        check_file(beside)
    except ScanError as e:
        raise ScanError(f"{path}: its pixels cannot be read: {e}") from None
    with open(beside, "rb") as f:
        skip = int(fields.get("HeaderSize", "0"))
        if not -1 <= skip <= MAX_OFFSET:
            raise ScanError(f"{path}: has a HeaderSize of {skip}; expected -1 to {MAX_OFFSET}.")
        f.seek(beside.stat().st_size - size if skip == -1 else skip)
        return _inflate(path, f, size) if compressed else _read_exactly(path, f, size)


def _inflate(path: Path, f: BinaryIO, size: int) -> bytes:
    """`size` bytes out of a zlib stream."""
    found = zlib.decompressobj().decompress(f.read(), size)
    if len(found) < size:
        raise ScanError(f"{path}: is cut short: {len(found)} bytes of pixels; expected {size}.")
    return found


def _read_exactly(path: Path, f: BinaryIO, size: int) -> bytes:
    """`size` bytes of a file, in pieces, so that memory grows with what is there and not with what is declared."""
    pieces, left = [], size
    while left and (piece := f.read(min(left, 2**24))):
        pieces.append(piece)
        left -= len(piece)
    if left:
        raise ScanError(f"{path}: is cut short: {size - left} bytes of pixels; expected {size}.")
    return b"".join(pieces)


def _scan(path: Path, pixels: np.ndarray, axes: np.ndarray, origin: np.ndarray) -> Scan:
    """A volume (z, y, x) whose axes x, y, z step by the columns of `axes` (LPS, mm)."""
    spacing = np.linalg.norm(axes, axis=0)
    units = axes / np.where(spacing > 0, spacing, 1)
    if not (plausible_spacing(*spacing) and np.allclose(units.T @ units, np.eye(3), atol=0.01)):
        raise ScanError(
            f"{path}: has axes of {', '.join(f'{x:.4g}' for x in spacing)} mm that are no perpendicular steps; "
            "expected those of a scan."
        )
    if not np.isfinite(origin).all() or np.abs(origin).max() > 1e5:
        raise ScanError(f"{path}: has an origin that is no position in mm; expected one.")
    pixels = _finite(path, pixels)
    n = len(pixels)
    return Scan(
        path=path,
        shape=pixels.shape,
        read=lambda i: pixels[i],
        files=(path,) * n,
        frames=tuple(range(n)),
        spacing_mm=tuple(float(x) for x in spacing[::-1]),
        geometry=Geometry(origin + np.arange(n)[:, None] * axes[:, 2], units[:, 1], units[:, 0]),
    )


def _finite(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Pixels with NaN and infinity, which resampling leaves outside the scan, as the lowest number there is."""
    good = np.isfinite(pixels)
    if good.all():
        return pixels
    if not good.any():
        raise ScanError(f"{path}: has no finite pixel; expected an image.")
    return np.where(good, pixels, pixels[good].min())
