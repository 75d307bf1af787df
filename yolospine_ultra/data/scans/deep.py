"""Images of more than 8 bits: 16-bit grey PNG, 16-bit, 32-bit and float grey TIFF, through Pillow.

The host keeps the high byte of such images, which is nearly black for the 12 bits of a scanner. Colour images of 16
bits a channel are left to the host. Of a TIFF with several pages the first one is read, as the host does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from yolospine_ultra.data.scans.scan import Scan, ScanError, check_file, check_size

PNG, TIFF = {".png"}, {".tif", ".tiff"}
_MODES = {"I;16", "I;16L", "I;16B", "I;16N", "I;16S", "I", "F"}  # Pillow's for one grey channel above 8 bits
_DEEP_PNG = ({0, 4}, 16)  # colour types grey and grey with alpha, and their bit depth: bytes 25 and 24


def is_deep(path: Path) -> bool:
    """Whether an image file has one grey channel of more than 8 bits, by its header."""
    suffix = path.suffix.lower()
    try:
        if suffix in PNG:
            with open(path, "rb") as f:
                head = f.read(26)
            return head[:4] == b"\x89PNG" and len(head) == 26 and head[25] in _DEEP_PNG[0] and head[24] == _DEEP_PNG[1]
        return suffix in TIFF and _mode(path) in _MODES
    except Exception:  # not readable as an image: the host says so
        return False


def _mode(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as im:
        return im.mode


def open_deep(path: Path) -> Scan:
    """An image for which `is_deep` holds, as a scan of one plane without spacing.

    Raises:
        ScanError: damaged, empty, or of a size beyond the limits.
    """
    from PIL import Image

    check_file(path)
    try:
        with Image.open(path) as im:
            check_size(path, 1, im.height, im.width)
            pixels = np.asarray(im)
    except ScanError:
        raise
    except Exception as e:
        raise ScanError(f"{path}: is damaged ({type(e).__name__}); expected a PNG or TIFF image.") from None
    if pixels.ndim == 3:  # grey with alpha
        pixels = pixels[..., 0]
    pixels = pixels.astype(np.float32)
    if not np.isfinite(pixels).all():
        raise ScanError(f"{path}: has pixels that are not finite; expected numbers.")
    return Scan(path, (1, *pixels.shape), lambda i: pixels, (path,), (0,), windows=(None,))
