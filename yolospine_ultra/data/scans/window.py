"""From pixels of full depth to the 8 bits that a detector sees."""

from __future__ import annotations

import numpy as np

PERCENTILES = (0.5, 99.5)  # robust to hot pixels and to the black surroundings of a scan


def to_uint8(plane: np.ndarray, window: tuple[float, float] | None = None) -> np.ndarray:
    """Grey levels 0 to 255 of a plane.

    Args:
        plane: (H, W), any numeric type.
        window: (centre, width) in units of `plane`: DICOM's linear VOI function (PS3.3 C.11.2.1.3.2). None: the range
            between the percentiles `PERCENTILES`, or all of it where they coincide.

    Returns:
        uint8 (H, W); black where the plane is constant.
    """
    plane = np.asarray(plane, dtype=np.float32)
    if window is not None:
        centre, width = window
        low, span = centre - width / 2, width  # LINEAR_EXACT; LINEAR differs by half a stored unit
    else:
        low, high = _robust_range(plane)
        span = high - low
    if not span > 0:
        return np.zeros(plane.shape, np.uint8)
    scaled = (plane - np.float32(low)) * np.float32(255 / span)
    return np.rint(scaled.clip(0, 255, out=scaled), out=scaled).astype(np.uint8)


def _robust_range(plane: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(plane, PERCENTILES)
    return (float(low), float(high)) if high > low else (float(plane.min()), float(plane.max()))
