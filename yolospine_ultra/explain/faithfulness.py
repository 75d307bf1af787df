"""Whether a map is faithful to the model: what the score does when the pixels that it names are taken away, or given.

Source: Petsiuk et al. 2018, "RISE". Deletion blackens the pixels of a map, highest first, and a good map makes the
score fall at once. Insertion starts from a blurred image and gives pixels back, and a good map makes it rise at once.
The value of either is the area under the score over the share of pixels. Deviations: the score is divided by that of
the whole image, so that findings of all scores count alike; the shares are few and finer at the small end, where boxes
of some percent of the image are decided, with the area by trapezia; only pixels of the image count, not the padding.

A random map of the same cells stands beside every map. Areas have no scale of their own: read them against its.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import trapezoid
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from yolospine_ultra.explain.frame import Frame

SHARES = (0.01, 0.03, 0.1, 0.3)  # of the pixels, between none and all
BLUR = 5 / 224  # sigma in sides of the input, as RISE's 5 px at 224 px
BATCH = 8  # images a pass; more are no faster on a CPU
_LEAST = 1e-6  # score of the whole image below which nothing can be related to it


@dataclass(frozen=True)
class Faithfulness:
    """How the score follows a map.

    Attributes:
        deletion: area under the falling score, relative to the whole image's; low is good.
        insertion: area under the rising one; high is good.
        deleted: relative score at each of `SHARES`, between those of the image and of black.
        inserted: the same between those of the blurred image and the image.
    """

    deletion: float
    insertion: float
    deleted: list[float]
    inserted: list[float]


def ranks(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Place of each pixel of a map (h, w) in falling order, 0 to below 1; equal values stand in random order."""
    order = np.lexsort((rng.random(values.size), -values.ravel()))
    place = np.empty(values.size)
    place[order] = np.arange(values.size) / values.size
    return place.reshape(values.shape)


def faithfulness(
    frame: Frame,
    maps: Mapping[str, Sequence[np.ndarray]],
    score: Callable[[Tensor], Mapping[str, Tensor]],
    rng: np.random.Generator,
) -> dict[str, list[Faithfulness | None]]:
    """Deletion and insertion of the maps of a finding.

    Args:
        frame: the image.
        maps: of each stage, of the input's size (H, W).
        score: of a finding in images (B, C, H, W): (B,) for each stage.
        rng: orders equal values.

    Returns:
        One value a map; None where the score of the whole image is 0, as there is nothing to follow.
    """
    blurred = _blur(frame.inputs)
    black = frame.inputs.clone()
    frame.within(black)[:] = 0
    images = [frame.inputs, blurred, black]
    for stage_maps in maps.values():
        for values in stage_maps:
            place = torch.from_numpy(ranks(frame.within(values), rng)).to(frame.inputs.device)
            for share in SHARES:
                images += [_mix(frame, black, place < share), _mix(frame, blurred, place >= share)]
    with torch.no_grad():
        batches = [score(torch.cat(images[i : i + BATCH])) for i in range(0, len(images), BATCH)]
    made, start = {}, 3
    for stage, stage_maps in maps.items():
        values = torch.cat([b[stage] for b in batches]).double().cpu().numpy()
        made[stage] = []
        for _ in stage_maps:
            own = values[start : start + 2 * len(SHARES)]
            start += len(own)
            made[stage].append(_areas(*values[:3], own[0::2], own[1::2]))
    return made


def _blur(inputs: Tensor) -> Tensor:
    """Images blurred so far that no finding is left."""
    sigma = BLUR * max(inputs.shape[2:])
    return gaussian_blur(inputs, 2 * round(2 * sigma) + 1, sigma)


def _mix(frame: Frame, other: Tensor, where: Tensor) -> Tensor:
    """The image with pixels of another one where a mask (h, w) of its content says so."""
    mixed = frame.inputs.clone()
    frame.within(mixed)[..., where] = frame.within(other)[..., where]
    return mixed


def _areas(
    whole: float, blurred: float, black: float, deleted: np.ndarray, inserted: np.ndarray
) -> Faithfulness | None:
    """Areas under both curves, from scores."""
    if whole < _LEAST:
        return None
    shares = [0, *SHARES, 1]
    falling, rising = np.array([whole, *deleted, black]) / whole, np.array([blurred, *inserted, whole]) / whole
    return Faithfulness(
        float(trapezoid(falling, shares)),
        float(trapezoid(rising, shares)),
        falling[1:-1].tolist(),
        rising[1:-1].tolist(),
    )
