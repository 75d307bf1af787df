import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from yolospine_ultra.data.images import open_image

PIXELS = (np.random.default_rng(0).random((40, 50)) * 255).astype(np.uint8)
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")


def encoded(kind):
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return stream.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(tmp_path, kind):
    file = tmp_path / "image.any"
    file.write_bytes(encoded(kind))
    with open_image(file) as image:
        found = np.asarray(image.convert("L")).astype(int)
    assert np.abs(found - PIXELS).mean() < (40 if kind == "JPEG" else 0.5)


@pytest.mark.parametrize("turn", range(2, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_turned_images_have_the_pixels_of_their_plain_twin(tmp_path, kind, turn):
    tag = Image.Exif()
    tag[0x0112] = turn
    Image.fromarray(PIXELS).save(tmp_path / "turned", kind, exif=tag)
    plain = Image.fromarray(PIXELS)
    plain.getexif()[0x0112] = turn
    with open_image(tmp_path / "turned") as image:
        found = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(found, np.asarray(ImageOps.exif_transpose(plain)))


def test_a_broken_file_asks_for_no_package(tmp_path, monkeypatch):
    from ultralytics.utils import checks

    monkeypatch.setattr(checks, "check_requirements", lambda *a, **k: pytest.fail("asked for a package"))
    for content in (b"", b"text", b"\x89PNG\r\n\x1a\n", encoded("PNG")[:20], b"BM" + b"\0" * 60):
        (tmp_path / "image.png").write_bytes(content)
        with pytest.raises((ValueError, OSError)):
            open_image(tmp_path / "image.png")


def test_a_file_cut_short_is_an_error_and_not_half_a_picture(tmp_path):
    (tmp_path / "image.png").write_bytes(encoded("PNG")[:-300])
    with open_image(tmp_path / "image.png") as image, pytest.raises(OSError):
        image.load()


def test_a_giant_is_refused_before_it_is_decoded(tmp_path):
    data = bytearray(encoded("BMP"))
    data[18:26] = np.array([100_000, 100_000], "<i4").tobytes()
    (tmp_path / "giant.bmp").write_bytes(data)
    with pytest.raises(ValueError, match="100000 x 100000 pixels"):
        open_image(tmp_path / "giant.bmp")


@pytest.mark.filterwarnings("ignore")
def test_mutated_files_are_read_or_refused(tmp_path):
    rng, file, refused = np.random.default_rng(1), tmp_path / "image", 0
    for k in range(400):
        data = bytearray(encoded(FORMATS[k % 5]))
        for _ in range(rng.integers(1, 5)):
            place = int(rng.integers(min(len(data), 200) if rng.random() < 0.6 else len(data)))
            data[place : place + int(rng.integers(0, 9))] = rng.bytes(int(rng.integers(0, 9)))
        file.write_bytes(data)
        try:
            with open_image(file) as image:
                image.convert("RGB")
        except (OSError, ValueError, SyntaxError):
            refused += 1
    assert 100 < refused < 400
