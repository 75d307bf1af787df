"""From pixels of full depth to the 8 bits that a detector sees."""

from __future__ import annotations

import math

import numpy as np

PERCENTILES = (0.5, 99.5)  # robust to hot pixels and to the black surroundings of a scan
SAMPLES = 2**16  # pixels that the percentiles are taken from, on an even grid, where an image has more


def to_uint8(plane: np.ndarray, window: tuple[float, float] | None = None) -> np.ndarray:
    """Grey levels 0 to 255 of a plane.

    Args:
        plane: (H, W), any numeric type.
        window: (centre, width) in units of `plane`, by DICOM's function LINEAR (PS3.3 C.11.2.1.2.1), which needs a
            width above 1; up to that by LINEAR_EXACT. None: the range between the percentiles `PERCENTILES`, or all of
            it where they coincide.

    Returns:
        uint8 (H, W); black where the plane is constant.
    """
    plane = np.asarray(plane, dtype=np.float32)
    if window is not None:
        centre, width = window
        low, span = centre - width / 2, width - 1 if width > 1 else width
    else:
        low, high = _robust_range(plane)
        span = high - low
    if not span > 0:
        return np.zeros(plane.shape, np.uint8)
    scaled = (plane - np.float32(low)) * np.float32(255 / span)
    return np.rint(scaled.clip(0, 255, out=scaled), out=scaled).astype(np.uint8)


def hides_all(plane: np.ndarray, window: tuple[float, float] | None) -> bool:
    """Whether a window shows none of the differences between the grey values of a plane (H, W); see `to_uint8`."""
    if window is None:
        return False
    low, high = float(np.min(plane)), float(np.max(plane))
    return high > low and not np.ptp(to_uint8(np.array([[low, high]]), window))  # grey levels keep their order


def _robust_range(plane: np.ndarray) -> tuple[float, float]:
    step = max(math.isqrt(plane.size // SAMPLES), 1)
    low, high = np.percentile(plane[::step, ::step], PERCENTILES)
    return (float(low), float(high)) if high > low else (float(plane.min()), float(plane.max()))
