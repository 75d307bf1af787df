"""Images of more than 8 bits: 16-bit grey PNG, 16-bit, 32-bit and float grey TIFF, through Pillow.

The host keeps the high byte of such images, which is nearly black for the 12 bits of a scanner. Images with colour or
transparency are left to the host. Of a TIFF with several pages the first one is read, as the host does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from yolospine_ultra.data.scans.scan import Scan, ScanError, check_file, check_size

PNG, TIFF = {".png"}, {".tif", ".tiff"}
_MODES = {"I;16", "I;16L", "I;16B", "I;16N", "I;16S", "I", "F"}  # Pillow's for one grey channel above 8 bits


def is_deep(path: Path) -> bool:
    """Whether an image file has one grey channel of more than 8 bits, by its header."""
    suffix = path.suffix.lower()
    try:
        if suffix in PNG:  # bit depth and colour type, grey being 0
            with open(path, "rb") as f:
                head = f.read(26)
            return head.startswith(b"\x89PNG") and head[24:] == b"\x10\x00"
        if suffix in TIFF:
            with _opened(path) as im:
                return im.mode in _MODES
    except Exception:  # not readable as an image: the host says so
        return False
    return False


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The image by its own plugin: the host's `Image.open` would install packages for a damaged one."""
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    # as a stream: Pillow maps named TIFF files into memory, and shuffles the pixels of those to be turned by a quarter
    with open(path, "rb") as f:
        yield (PngImageFile if path.suffix.lower() in PNG else TiffImageFile)(f)


def open_deep(path: Path) -> Scan:
    """An image for which `is_deep` holds, as a scan of one plane without spacing, turned as its orientation tag says.

    Pixels of a TIFF whose zero is white come out negative, so that more is brighter.

    Raises:
        ScanError: damaged, empty, or of a size beyond the limits.
    """
    from PIL import ImageOps
    from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION

    check_file(path)
    try:
        with _opened(path) as im:
            check_size(path, 1, im.height, im.width)
            white_is_zero = path.suffix.lower() in TIFF and im.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
            pixels = np.asarray(ImageOps.exif_transpose(im))
    except ScanError:
        raise
    except Exception as e:
        raise ScanError(f"{path}: is damaged ({type(e).__name__}); expected a PNG or TIFF image.") from None
    pixels = -pixels.astype(np.float32) if white_is_zero else pixels.astype(np.float32)
    if not np.isfinite(pixels).all():
        raise ScanError(f"{path}: has pixels that are not finite; expected numbers.")
    return Scan(path, (1, *pixels.shape), lambda i: pixels, (path,), (0,), windows=(None,))
