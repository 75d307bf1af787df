"""The stored pixels of a DICOM frame, through pydicom's decoders.

Compressed streams carry a size of their own: it is compared with the header's before a decoder sees them.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from yolospine_ultra.data.scans.dicom_file import code_of, reading, syntax_of
from yolospine_ultra.data.scans.scan import ScanError

MAX_RLE_PIXELS = 2**24  # a run-length stream can grow 64 times before its decoder sees that it is too long
_RLE = "1.2.840.10008.1.2.5"


def decode(path: Path, ds: Any, index: int) -> np.ndarray:
    """Stored pixels (H, W) of one frame.

    Raises:
        ScanError: the data is damaged, of another size than the header says, or needs a decoder that is missing.
    """
    from pydicom.pixels import get_decoder

    syntax = syntax_of(ds)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ScanError(f"{path}: has transfer syntax {code_of(syntax)}; expected one that holds an image.") from None
    if not decoder.is_available:
        raise ScanError(
            f"{path}: is compressed as {syntax.name}, for which no decoder is installed: "
            "pip install 'yolospine_ultra[dicom]'"
        )
    with reading(path, f"pixels in {syntax.name}"):
        if syntax.is_encapsulated:
            _check_stream(path, ds, index, syntax)
        # pylibjpeg-rle, where it is installed, ends the process on damaged data
        array, _ = decoder.as_array(ds, index=index, decoding_plugin="pydicom" if syntax == _RLE else "")
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
        if marker == 0xDE:  # hierarchical: frames of several sizes
            return None
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}):
            return (*struct.unpack(">HH", frame[at + 5 : at + 9]), frame[at + 9])
        at += 1 if marker == 0xFF else 2 + length
    return None
