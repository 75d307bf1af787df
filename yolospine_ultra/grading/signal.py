"""What a radiologist looks at in a disc on a T2 image, as numbers: signal, contrast and height.

Source of what to look at: Pfirrmann et al. 2001 (Spine 26:1873): homogeneity of the disc, its signal against
cerebrospinal fluid, whether nucleus and annulus can be told apart, and the height of the disc space. The measures are
written for this project: every box of an image is compared with its own surroundings and with the image's other discs,
so that windowing and coil do not matter much. The front of the patient is left.
"""

from __future__ import annotations

import numpy as np

from yolospine_ultra.evaluate.levels.spine_profile import box_centres
from yolospine_ultra.grading.crops import cut

NAMES = (
    "nucleus_csf",  # mean signal of the nucleus / CSF of the image
    "nucleus_near_csf",  # the same with the CSF behind this disc
    "nucleus_bone",  # / marrow above and below
    "nucleus_best",  # / the brightest nucleus of the image
    "spread_csf",  # standard deviation in the nucleus / CSF
    "contrast",  # (90th - 10th percentile) / 90th in the nucleus
    "nucleus_plate_csf",  # (nucleus - darkest row of the disc space, an end plate) / CSF
    "bone_csf",  # marrow / CSF
    "dark_share",  # rows around the disc space darker than 0.6 of the marrow
    "aspect",  # height / width of the box
    "relative_height",  # height of the box / median height in the image
)
# In widths of the box from its centre: half width and half height of the nucleus, of the rows of the disc space.
_NUCLEUS, _SPACE = (0.22, 0.08), (0.25, 0.40)
_MARROW = (0.25, 0.35, 0.55)  # half width; nearest and furthest row above and below
_CSF = (0.40, 1.05, 0.30)  # from and to behind the centre; half height
_DARK = 0.6


def signal_features(plane: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Measure the discs of an image.

    Args:
        plane: uint8 (H, W), a T2-weighted mid-sagittal image.
        boxes: (N, 4) x1 y1 x2 y2 in pixels, one a disc, of all discs that are to be compared with each other.

    Returns:
        (N, 11) float64, columns as `NAMES`, finite.
    """
    if not len(boxes):
        return np.zeros((0, len(NAMES)))
    raw = np.array([_measure(plane, b) for b in boxes])
    nucleus, deviation, low, high, near_csf, marrow, darkest, dark = raw.T
    csf = max(float(np.median(near_csf)), 1.0)
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    columns = [
        nucleus / csf,
        nucleus / near_csf,
        nucleus / marrow,
        nucleus / max(float(nucleus.max()), 1.0),
        deviation / csf,
        (high - low) / np.maximum(high, 1.0),
        (nucleus - darkest) / csf,
        marrow / csf,
        dark,
        height / np.maximum(width, 1e-6),
        height / max(float(np.median(height)), 1e-6),
    ]
    return np.stack(columns, 1)


def _measure(plane: np.ndarray, box: np.ndarray) -> tuple[float, ...]:
    """Nucleus mean, deviation, 10th and 90th percentile; CSF; marrow; darkest row; share of dark rows."""
    (x, y), width = box_centres(box[None])[0], float(box[2] - box[0])

    def around(left: float, top: float, right: float, bottom: float) -> np.ndarray:
        return cut(plane, x + left * width, y + top * width, x + right * width, y + bottom * width).astype(float)

    nucleus = around(-_NUCLEUS[0], -_NUCLEUS[1], *_NUCLEUS)
    csf = np.percentile(around(_CSF[0], -_CSF[2], _CSF[1], _CSF[2]), 95)
    side, near, far = _MARROW
    marrow = np.median(np.concatenate([around(-side, a, side, b).ravel() for a, b in ((-far, -near), (near, far))]))
    rows = np.median(around(-_SPACE[0], -_SPACE[1], *_SPACE), axis=1)
    low, high = np.percentile(nucleus, (10, 90))
    dark = float((rows < _DARK * marrow).mean())
    bright = max(float(csf), 1.0), max(float(marrow), 1.0)
    return float(nucleus.mean()), float(nucleus.std()), float(low), float(high), *bright, float(rows.min()), dark
