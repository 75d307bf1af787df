"""Opening image files of users without surprises.

Written for this project. The host replaces `PIL.Image.open` by one that installs a package with pip when a file is not
recognised, and OpenCV returns half a picture for a file that was cut short. Here the decoder is chosen by the file's
first bytes, sizes are checked before anything is decoded, and a damaged file is an error.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

MAX_PIXELS = 1 << 26  # 8,192 x 8,192

_DECODERS: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
    (b"II*\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0*", TiffImagePlugin.TiffImageFile),
    (b"RIFF", WebPImagePlugin.WebPImageFile),
)


def open_image(file: str | Path) -> Image.Image:
    """Open a PNG, JPEG, BMP, TIFF or WebP file; pixels are decoded by `load`, which raises OSError where they are cut.

    Raises:
        ValueError: no such image, damaged, or larger than `MAX_PIXELS`.
        OSError: the file cannot be read.
    """
    with open(file, "rb") as stream:
        start = stream.read(12)
    decoder = next((d for mark, d in _DECODERS if start.startswith(mark)), None)
    if decoder is None:
        raise ValueError(f"{file} is no PNG, JPEG, BMP, TIFF or WebP image")
    # Pillow maps named TIFF files into memory, and shuffles the pixels of those to be turned by a quarter
    source = BytesIO(Path(file).read_bytes()) if decoder is TiffImagePlugin.TiffImageFile else str(file)
    try:
        image = decoder(source)
    except SyntaxError as error:  # Pillow's word for a damaged header
        raise ValueError(f"{file} is a damaged image ({error})") from None
    width, height = image.size
    if width * height > MAX_PIXELS or min(width, height) < 1:
        image.close()
        raise ValueError(f"{file} has {width} x {height} pixels; expected 1 to {MAX_PIXELS}")
    return image
