"""Class activation maps from activations and gradients, by the methods of pytorch-grad-cam.

With A_k channel k of a map of features, y the score that is explained, and g_k = dy/dA_k:

- GradCAM: ReLU(sum_k w_k A_k), w_k = mean over cells of g_k. Selvaraju et al. 2017, equations 1 and 2.
- GradCAM++: the same with w_k = sum over cells of a_k ReLU(g_k), a_k = g_k^2 / (2 g_k^2 + g_k^3 sum A_k).
  Chattopadhay et al. 2018, equations 7 and 19.
- LayerCAM: ReLU(sum_k ReLU(g_k) A_k). Jiang et al. 2021, equations 4 and 5.

The library (Gildenblat 2021) does the weighting. Its own forward pass is not used: it takes one a map and knows no
regions of interest, while here one pass serves all findings, classes and methods of an image. Deviation: its maps are
scaled to 0..1 by their least and largest value, here by the largest alone, so that 0 means no evidence. The formula of
GradCAM++ takes features for positive; with the SiLU of these networks a channel of negative sum may get a weight of
the wrong sign, which is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from torch import nn

METHODS = {"gradcam": "GradCAM", "gradcam++": "GradCAMPlusPlus", "layercam": "LayerCAM"}
INSTALL = "explanations need pytorch-grad-cam: pip install 'yolospine_ultra[explain]'"

Box = tuple[float, float, float, float]


class MapError(ValueError):
    """A map that must not be shown, with the reason."""


class ClassIndependentError(MapError):
    """A map that would be the same for another class."""


class NoEvidenceError(MapError):
    """A map without any positive value, or none beyond what another class has too."""


@dataclass(frozen=True, eq=False)
class Patch:
    """A map of features over a region of the input, and the gradient of a score in it.

    Attributes:
        activations: (D, h, w).
        gradients: (D, h, w), of the score that is explained.
        region: what the map lies over, x1 y1 x2 y2 in input pixels; it may reach over the input's edge.
    """

    activations: np.ndarray
    gradients: np.ndarray
    region: Box


@cache
def _library(method: str) -> Any:
    """A method's object of the library, without a layer of its own: activations and gradients are handed to it.

    Raises:
        ImportError: the library is missing.
        ValueError: unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown; expected one of {', '.join(METHODS)}.")
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise ImportError(INSTALL) from error
    return getattr(pytorch_grad_cam, METHODS[method])(nn.Conv2d(1, 1, 1), [])


def require_library() -> None:
    """Raise the ImportError of a missing library before anything else is done."""
    _library("gradcam")


def signed_maps(method: str, patches: Sequence[Patch]) -> list[np.ndarray]:
    """The map of each patch on its own cells before the last ReLU: above 0 for the class, below 0 against it.

    Args:
        method: key of `METHODS`.
        patches: of one score. Several lie over the same place where stage 2 sees a region at two sizes.

    Returns:
        (h, w) float64 a patch.

    Raises:
        ImportError, ValueError: as `_library`.
    """
    made = []
    for patch in patches:
        a, g = patch.activations[None], patch.gradients[None]
        raw = _library(method).get_cam_image(None, None, None, a, g, False)[0].astype(np.float64)
        made.append(np.nan_to_num(raw))
    return made


def cell_maps(method: str, patches: Sequence[Patch]) -> list[np.ndarray]:
    """As `signed_maps`, with 0 for what is below: what is shown."""
    return [np.maximum(m, 0) for m in signed_maps(method, patches)]


def flatten(maps: Sequence[np.ndarray]) -> np.ndarray:
    """The cells of all patches as one vector with a largest absolute value of 1, or zeros."""
    cells = np.concatenate([m.ravel() for m in maps])
    return cells / (np.abs(cells).max() or 1)


def paint(maps: Sequence[np.ndarray], regions: Sequence[Box], shape: tuple[int, int]) -> np.ndarray:
    """Lay maps over the input and add them up; what a cell holds is spread over its area.

    Args:
        maps: (h, w) each, 0 or above.
        regions: where each lies, x1 y1 x2 y2 in input pixels.
        shape: height and width of the input.

    Returns:
        `shape` float32 in 0..1, largest value 1 unless all are 0. Bilinear between the centres of cells; 0 outside.
    """
    total = np.zeros(shape, np.float32)
    ys, xs = (np.arange(n) + 0.5 for n in shape)
    for cells, (x1, y1, x2, y2) in zip(maps, regions, strict=True):
        h, w = cells.shape
        u, v = (xs - x1) / (x2 - x1), (ys - y1) / (y2 - y1)
        grid = (x.astype(np.float32) for x in np.meshgrid(u * w - 0.5, v * h - 0.5))
        density = (cells * cells.size / ((x2 - x1) * (y2 - y1))).astype(np.float32)
        laid = cv2.remap(density, *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        total += laid * np.outer((v > 0) & (v < 1), (u > 0) & (u < 1))
    return total / (total.max() or 1)
