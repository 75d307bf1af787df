"""One picture of every augmentation of a training on one image: the host's by its own transforms, ours at both ends.

Written for this project. Boxes are drawn as the training gets them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from ultralytics.data.augment import RandomFlip, RandomHSV, RandomPerspective
from ultralytics.utils.instance import Instances

from yolospine_ultra.data.augment import mri

COLOURS = 64  # of the picture, which is grey but for the boxes; it is a third as large with a palette

Panel = tuple[str, np.ndarray, np.ndarray]  # title, image (h, w, 3) uint8, boxes (n, 4) x1 y1 x2 y2 in pixels


def grid_panels(image: np.ndarray, boxes: np.ndarray, degrees: float, hsv_v: float, seed: int = 0) -> list[Panel]:
    """The image as it is and under each augmentation; its middle under the artefacts, weakest and strongest.

    Args:
        image: (h, w, 3) uint8, BGR.
        boxes: (n, 4) x1 y1 x2 y2 in pixels.
        degrees: range of the rotation.
        hsv_v: range of the intensity.
        seed: of what the host draws.
    """
    side = max(image.shape[:2])
    random.seed(seed)
    np.random.seed(seed)
    coefficients = np.random.default_rng(seed).uniform(-1, 1, (mri.BIAS_DEGREE + 1, mri.BIAS_DEGREE + 1))
    turn = RandomPerspective(degrees=degrees, translate=0, scale=0, size=image.shape[1::-1])
    host: list[tuple[str, Callable[[dict], dict]]] = [
        (f"rotation, degrees={degrees:g}", turn),
        ("horizontal flip, fliplr", RandomFlip(p=1.0, direction="horizontal")),
        (f"intensity, hsv_v={hsv_v:g}", RandomHSV(0, 0, hsv_v)),
    ]
    panels: list[Panel] = [("as it is", image, boxes)]
    for title, transform in host:
        done = transform(_label(image, boxes))
        instances = done["instances"]
        instances.convert_bbox("xyxy")
        instances.denormalize(*done["img"].shape[1::-1])
        panels.append((title, done["img"], instances.bboxes))
    spread = cv2.meanStdDev(cv2.split(image)[0])[1].item()
    ours: list[tuple[str, Callable[[np.ndarray, float], np.ndarray], tuple[float, float], float]] = [
        ("Gaussian blur, sd {:.2g} px", mri.gaussian_blur, mri.BLUR_SIGMA, side),
        ("Rician noise, sd {:.2g} of 255", lambda plane, s: mri.rician_noise(plane, s, seed), mri.RICIAN_SIGMA, spread),
        ("motion, {:.2g} px", lambda plane, n: mri.motion_blur(plane, n, 90.0), mri.MOTION_LENGTH, side),
        ("bias field, gain {:.2g}", lambda plane, g: mri.bias_field(plane, g, coefficients), mri.BIAS_GAIN, 1),
    ]
    cut, inside = _middle(image.shape[:2], boxes)
    for title, artefact, ends, unit in ours:
        for end in ends:
            changed = cv2.merge([artefact(plane, end * unit) for plane in cv2.split(image)])
            whole = title.startswith("bias")  # a field is seen across the image, the others near by
            panels.append((title.format(end * unit), *((changed, boxes) if whole else (changed[cut], inside))))
    return panels


def _middle(shape: tuple[int, int], boxes: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray]:
    """Half the image's height and width about the boxes, where artefacts can be seen, and the boxes in it."""
    centre = (boxes[:, :2] + boxes[:, 2:]).mean(0) / 2 if len(boxes) else np.array(shape[::-1]) / 2
    half = np.array(shape[::-1]) // 2
    x, y = np.clip(centre - half / 2, 0, half).astype(int)
    return (slice(y, y + half[1]), slice(x, x + half[0])), boxes - (x, y, x, y)


def _label(image: np.ndarray, boxes: np.ndarray) -> dict[str, Any]:
    """A label as the host's transforms take it."""
    instances = Instances(boxes.astype(np.float32), np.zeros((0, 1000, 2), np.float32), bbox_format="xyxy")
    instances.normalized = False
    return deepcopy({"img": image, "cls": np.zeros((len(boxes), 1), np.float32), "instances": instances})


def save_grid(panels: list[Panel], file: Path, columns: int = 4, credit: str = "") -> None:
    """Write the panels as a small PNG of `columns` columns, with `credit` in its lower margin."""
    rows = math.ceil(len(panels) / columns)
    h, w = panels[0][1].shape[:2]
    figure = Figure(figsize=(2.2 * columns, 2.2 * rows * h / w + 0.25 * rows + 0.2), layout="constrained", dpi=100)
    for axes, (title, image, boxes) in zip(figure.subplots(rows, columns).flat, panels, strict=False):
        axes.imshow(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        axes.set_title(title, fontsize=8)
        for x1, y1, x2, y2 in boxes:
            frame = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color="tab:orange", linewidth=0.7)
            axes.add_patch(frame).set_clip_path(axes.patch)
        axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
    for axes in figure.axes:
        axes.axis("off")
    figure.supxlabel(credit, fontsize=7)
    drawn = BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
