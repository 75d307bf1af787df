"""Pixels of boxes: the plane that a detector sees, and crops of it at one size.

Source: the paper's Meyerding step (Masood and Taj 2026): crop the box and resample it to 128 x 128, whatever its shape.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from yolospine_ultra.data.images import open_image
from yolospine_ultra.data.scans import read_view, scan_kind

SIDE = 128


def read_plane(file: str | Path) -> np.ndarray:
    """The grey plane of an image or scan, uint8 (H, W).

    Raises:
        ValueError: it cannot be read.
        ImportError: an optional package that a scan needs is missing.
    """
    try:
        if Path(file).is_dir() or scan_kind(file):
            return read_view(file).image
        with open_image(file) as image:
            return np.asarray(image.convert("L"))
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error}); expected an image or a scan.") from error


def plane_height(file: str | Path) -> float:
    """Height of the plane in pixels; arguments and errors as `read_plane`."""
    return float(read_plane(file).shape[0])


def cut(plane: np.ndarray, x1: float, y1: float, x2: float, y2: float) -> np.ndarray:
    """The pixels of a box, cut at the image's edge, at least one pixel; a view of `plane` (H, W)."""
    height, width = plane.shape
    left, top = min(max(round(x1), 0), width - 1), min(max(round(y1), 0), height - 1)
    return plane[top : max(min(round(y2), height), top + 1), left : max(min(round(x2), width), left + 1)]


def crop(plane: np.ndarray, box: np.ndarray, side: int = SIDE) -> np.ndarray:
    """A box's pixels resampled to a square.

    Args:
        plane: uint8 (H, W).
        box: (4,) x1 y1 x2 y2 in pixels.
        side: of the square in pixels.

    Returns:
        uint8 (side, side); the box's shape is not kept, as in the paper.
    """
    part = cut(plane, *map(float, box))
    shrinks = min(part.shape) > side
    return cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
