"""Whether a map lies where the finding is: the pointing game and its energy-based form.

Sources: Zhang et al. 2018, "Top-down neural attention by excitation backprop" (hit of the maximum); Wang et al. 2020,
"Score-CAM" (energy). Deviation: the box is that of the prediction that is explained, as a false one has no other.
"""

from __future__ import annotations

import numpy as np


def covered(box: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Share of each pixel, `shape` float64 in 0..1, that a box (4,) x1 y1 x2 y2 covers; pixel i reaches to i + 1."""
    sides = zip(shape, box[1::-1], box[:1:-1], strict=True)  # y, then x
    y, x = (np.clip(np.minimum(np.arange(n) + 1, hi) - np.maximum(np.arange(n), lo), 0, 1) for n, lo, hi in sides)
    return np.outer(y, x)


def energy_in_box(values: np.ndarray, box: np.ndarray) -> float | None:
    """Share of a map that lies in a box: sum inside / sum. None for a map of zeros.

    Args:
        values: (h, w), 0 or above.
        box: (4,) x1 y1 x2 y2 in pixels of the map.

    Returns:
        0..1. A flat map gets the box's share of the area.
    """
    total = values.sum(dtype=np.float64)
    return float((values * covered(box, values.shape)).sum() / total) if total > 0 else None


def pointing_hit(values: np.ndarray, box: np.ndarray) -> bool:
    """Whether the largest value of a map (h, w) lies in a box; of several, whether the first does, row by row."""
    y, x = np.unravel_index(int(values.argmax()), values.shape)
    return bool(box[0] <= x + 0.5 <= box[2] and box[1] <= y + 0.5 <= box[3])
