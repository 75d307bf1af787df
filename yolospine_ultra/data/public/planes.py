"""A plane of a scan as a picture with square pixels, and boxes in its coordinates.

Written for this project. MR volumes often have pixels of two different sides (SPIDER: 0.5 by 0.625 mm); shown pixel by
pixel they would be distorted, and no length could be given in pixels. As in `scans.view`, which a prediction sees, the
coarser side is enlarged to the finer one, so that training images and predicted scans have the same proportions.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_SQUARE = 0.01  # sides that differ by less than this share are taken as equal
MAX_SIDE = 4096


@dataclass(frozen=True)
class Picture:
    """A plane with square pixels.

    Attributes:
        pixels: float32 (H, W).
        mm_per_px: side of a pixel, None where the scan does not tell.
        scale: factors (x, y) from pixels of the plane to pixels of the picture.
    """

    pixels: np.ndarray
    mm_per_px: float | None
    scale: tuple[float, float]


def square_pixels(plane: np.ndarray, spacing_mm: tuple[float, float] | None) -> Picture:
    """Resample a plane to square pixels of the smaller of its two spacings.

    Args:
        plane: float32 (H, W).
        spacing_mm: distances of (rows, columns), None where unknown: the pixels are then taken as square.

    Raises:
        ValueError: the picture would have a side of 0 or of more than 4,096 pixels.
    """
    height, width = plane.shape
    if spacing_mm is None:
        return Picture(plane, None, (1.0, 1.0))
    rows, columns = spacing_mm
    if abs(rows - columns) <= _SQUARE * min(rows, columns):
        return Picture(plane, (rows + columns) / 2, (1.0, 1.0))
    side = min(rows, columns)
    new_height, new_width = round(height * rows / side), round(width * columns / side)
    if not (1 <= new_height <= MAX_SIDE and 1 <= new_width <= MAX_SIDE):
        raise ValueError(f"pixels of {rows:g} by {columns:g} mm would give a picture of {new_width} x {new_height}")
    pixels = cv2.resize(plane, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    return Picture(pixels, side, (new_width / width, new_height / height))


def mask_box(mask: np.ndarray, margin: float, scale: tuple[float, float]) -> tuple[float, float, float, float] | None:
    """Bounding box of a mask with a margin, in pixels of the picture.

    Args:
        mask: bool (H, W), in pixels of the plane.
        margin: pixels of the picture to add on every side.
        scale: from `Picture`.

    Returns:
        x1, y1, x2, y2, not clipped to the picture; None where the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    x1, x2 = columns[0] * scale[0], (columns[-1] + 1) * scale[0]
    y1, y2 = rows[0] * scale[1], (rows[-1] + 1) * scale[1]
    return (float(x1 - margin), float(y1 - margin), float(x2 + margin), float(y2 + margin))
