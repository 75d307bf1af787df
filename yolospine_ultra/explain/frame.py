"""An image as a network's input, and the way back for boxes and maps.

Written for this project, on the host's letterbox, so that what is explained is what `predict` sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from ultralytics.data.augment import LetterBox
from ultralytics.utils import ops

Fit = Literal["rect", "square", "stretch"]


@dataclass(frozen=True, eq=False)
class Frame:
    """An image as input of a network.

    Attributes:
        inputs: (1, C, H, W) float32 in 0..1, RGB.
        image: (h, w) or (h, w, 3) BGR uint8, as it was.
        content: the part of the input that the image fills, x1 y1 x2 y2 in whole pixels.
        fit: "stretch" or a letterbox.
    """

    inputs: Tensor
    image: np.ndarray
    content: tuple[int, int, int, int]
    fit: Fit

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        return tuple(self.inputs.shape[2:])

    def boxes_to_image(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) x1 y1 x2 y2 from pixels of the input to those of the image, clipped to it, as the host does."""
        boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        h, w = self.image.shape[:2]
        if self.fit == "stretch":
            return (boxes * np.tile([w / self.size[1], h / self.size[0]], 2)).clip(0, [w, h, w, h])
        return ops.scale_boxes(self.size, boxes, (h, w))

    def map_to_image(self, values: np.ndarray) -> np.ndarray:
        """A map of the input's size, float32, at the image's size."""
        x1, y1, x2, y2 = self.content
        h, w = self.image.shape[:2]
        return cv2.resize(values[y1:y2, x1:x2], (w, h), interpolation=cv2.INTER_LINEAR)

    def within(self, values: np.ndarray) -> np.ndarray:
        """The part (..., h, w) of a map (..., H, W) of the input that the image fills; a view."""
        x1, y1, x2, y2 = self.content
        return values[..., y1:y2, x1:x2]


def make_frame(image: np.ndarray, imgsz: int, channels: int, fit: Fit, device: torch.device) -> Frame:
    """An image as input.

    Args:
        image: (h, w) or (h, w, 3) BGR uint8.
        imgsz: side of the input, or its longer side where `fit` is "rect"; a multiple of 32.
        channels: 1 or 3.
        fit: "rect" pads to a multiple of 32, "square" to a square, "stretch" changes the proportions.
        device: where the input goes.
    """
    grey = image.ndim == 2
    if channels == 1:
        planes = image if grey else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    else:
        planes = np.dstack([image] * 3) if grey else image
    boxed = LetterBox((imgsz, imgsz), auto=fit == "rect", scale_fill=fit == "stretch", stride=32)(image=planes)
    height, width = boxed.shape[:2]
    h, w = image.shape[:2]
    gain = min(height / h, width / w)
    inner = (width, height) if fit == "stretch" else (min(round(w * gain), width), min(round(h * gain), height))
    left, top = (round((outer - n) / 2 - 0.1) for outer, n in zip((width, height), inner, strict=True))  # as the host
    array = boxed.reshape(height, width, channels)[..., ::-1].transpose(2, 0, 1).copy()
    inputs = torch.from_numpy(array)[None].to(device).float() / 255
    return Frame(inputs, image, (left, top, left + inner[0], top + inner[1]), fit)
