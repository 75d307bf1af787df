"""How bright every tissue of the spine phantom is in every sequence.

Written for this project. The values, 0 to about 1, were chosen by eye to sit in the usual order of clinical images.
T1: fat bright, marrow below it, fluid dark. T2: fluid and fat bright. T2-SPACE, a three-dimensional turbo spin echo
with long echo trains: fluid brightest, marrow and muscle darker than in T2.
"""

from __future__ import annotations

import numpy as np

SEQUENCES = ("t1", "t2", "t2_space")

# (T1, T2, T2-SPACE)
_TISSUE = {
    "skin": (0.42, 0.34, 0.36),
    "fat": (1.00, 0.90, 0.80),
    "inner_fat": (0.88, 0.80, 0.46),
    "organ": (0.40, 0.30, 0.24),
    "muscle": (0.34, 0.17, 0.14),
    "ligament": (0.14, 0.07, 0.06),
    "flavum": (0.33, 0.11, 0.09),
    "cortex": (0.12, 0.06, 0.06),
    "marrow": (0.60, 0.46, 0.34),
    "annulus": (0.30, 0.10, 0.09),
    "bulge": (0.33, 0.13, 0.11),
    "csf": (0.19, 1.06, 1.30),
    "cord": (0.38, 0.44, 0.46),
    "root": (0.28, 0.56, 0.50),
    "flow": (0.09, 0.06, 0.04),
    "gas": (0.03, 0.03, 0.03),
    "water": (0.22, 0.95, 1.10),
    "vein": (0.40, 0.74, 0.66),
}
# Nucleus by wear 0, 1, ... 5.
_NUCLEUS = {
    "t1": (0.40, 0.39, 0.37, 0.35, 0.32, 0.26),
    "t2": (0.70, 0.52, 0.32, 0.18, 0.11, 0.08),
    "t2_space": (0.40, 0.30, 0.19, 0.11, 0.08, 0.06),
}


def brightness(sequence: str) -> dict[str, float]:
    """Brightness of every tissue by name."""
    column = SEQUENCES.index(sequence)
    return {name: values[column] for name, values in _TISSUE.items()}


def nucleus(sequence: str, wear: float) -> float:
    """Brightness of a nucleus worn by `wear`, 0 to 5."""
    return float(np.interp(wear, range(6), _NUCLEUS[sequence]))
