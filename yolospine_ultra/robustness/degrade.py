"""Six degradations of 8-bit MR images, four levels each: 8 bits in, 8 bits out, rounded and clipped.

Source: YOLOspine (Masood and Taj 2026), "Robustness", which names the types and their levels. What it leaves open is
decided here and said at each function. The image is never rescaled as a side effect: no change of its range, and none
of its mean that the degradation itself does not make.

An image's random numbers come from a generator of its own, seeded by its pixels, the type and a number. They depend on
neither its name nor the order of images, and are the same for all levels, so that a level is a stronger form of the one
below it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.polynomial.legendre import legvander
from scipy import fft

from yolospine_ultra.data.augment import mri

Plane = np.ndarray  # one channel, (h, w)

FIELD_DEGREE = 2  # of the bias field's polynomial
FIELD_LIMITS = (0.5, 1.5)


def gaussian_noise(plane: Plane, sigma: float, rng: np.random.Generator) -> Plane:
    """I + N(0, sigma), as grey values."""
    return plane + np.float32(sigma) * rng.standard_normal(plane.shape, dtype=np.float32)


def rician_noise(plane: Plane, sigma: float, rng: np.random.Generator) -> Plane:
    """sqrt((I + n1)^2 + n2^2) with n1, n2 of N(0, sigma): the noise of a magnitude image, as in training."""
    return mri.rician_noise(plane, sigma, int(rng.integers(2**31)))


def motion(plane: Plane, share: float, rng: np.random.Generator) -> Plane:
    """Give a share of the k-space rows a random phase each, uniform over the circle; the image's magnitude.

    Rows are the lines that a movement between two excitations puts out of phase. The central one, which holds the mean
    of the image, is never among them: with it the whole image would change its brightness. The movement of training is
    another one, a blur along a line.

    Args:
        plane: (h, w) uint8.
        share: of all rows, 0 to 1.
        rng: draws the rows, then a phase for each.
    """
    spectrum = fft.fft2(plane.astype(np.float32))
    rows = 1 + rng.permutation(len(plane) - 1)[: round(share * len(plane))]  # row 0 is the centre, unshifted
    phase = rng.uniform(-np.pi, np.pi, len(plane))[rows]
    spectrum[rows] *= np.exp(1j * phase).astype(np.complex64)[:, None]
    return np.abs(fft.ifft2(spectrum))


def bias_field(plane: Plane, strength: float, rng: np.random.Generator) -> Plane:
    """Multiply by a second-order polynomial of the position, clipped to 0.5 to 1.5; see `field`."""
    return plane * field(plane.shape, strength, rng)


def field(shape: tuple[int, int], strength: float, rng: np.random.Generator) -> np.ndarray:
    """Receive field of a coil: 1 + strength x p(y, x), clipped to `FIELD_LIMITS`.

    p is a random sum of the Legendre products of degree 1 and 2, scaled so that it departs from 0 by 1 at most. Without
    the constant its mean is about 0, so that no level makes the whole image brighter or darker.

    Args:
        shape: (h, w).
        strength: largest departure from 1 before clipping.
        rng: draws the coefficients, uniform in -1 to 1.

    Returns:
        (h, w) float32.
    """
    degree = np.add.outer(np.arange(FIELD_DEGREE + 1), np.arange(FIELD_DEGREE + 1))
    drawn = rng.uniform(-1, 1, degree.shape)
    used = np.where((degree > 0) & (degree <= FIELD_DEGREE), drawn, 0.0)
    y, x = (legvander(np.linspace(-1, 1, n), FIELD_DEGREE) for n in shape)
    polynomial = y @ used @ x.T
    return np.clip(1 + strength * polynomial / np.abs(polynomial).max(), *FIELD_LIMITS).astype(np.float32)


def gibbs(plane: Plane, share: float, rng: np.random.Generator) -> Plane:
    """Keep the central 1 - share of k-space in both directions; the image's magnitude, which rings at edges.

    Nothing is random. The mask is symmetric about the centre, and the matrix keeps its size (zero filling).

    Args:
        plane: (h, w) uint8.
        share: left out of each direction, 0 to 1.
        rng: unused.
    """
    spectrum = fft.fft2(plane.astype(np.float32))
    # the small number: a row on the limit is in, however its product is rounded
    y, x = (np.abs(fft.fftfreq(n, 1 / n)) <= (1 - share) * n / 2 + 1e-6 for n in plane.shape)
    return np.abs(fft.ifft2(spectrum * (y[:, None] & x)))


def contrast(plane: Plane, factor: float, rng: np.random.Generator) -> Plane:
    """mean + (I - mean) x factor, with the mean of the channel. Nothing is random, `rng` is unused."""
    mean = plane.mean()
    return mean + (plane - mean) * factor


@dataclass(frozen=True)
class Degradation:
    """A type of degradation.

    Attributes:
        title: what a reader calls it.
        parameter: what the levels are, with unit.
        levels: weakest first.
        apply: from a channel (h, w) uint8, a level's value and a generator to the changed channel, any depth.
    """

    title: str
    parameter: str
    levels: tuple[float, ...]
    apply: Callable[[Plane, float, np.random.Generator], Plane]


DEGRADATIONS = {
    "gaussian": Degradation("Gaussian noise", "sd in grey values", (10, 25, 50, 75), gaussian_noise),
    "rician": Degradation("Rician noise", "sd in grey values", (10, 20, 35, 50), rician_noise),
    "motion": Degradation("motion", "share of k-space rows", (0.1, 0.2, 0.3, 0.5), motion),
    "bias": Degradation("bias field", "strength", (0.2, 0.4, 0.6, 0.8), bias_field),
    "gibbs": Degradation("Gibbs ringing", "share of k-space left out", (0.1, 0.2, 0.3, 0.4), gibbs),
    "contrast": Degradation("contrast", "factor", (0.8, 0.7, 0.6, 0.5), contrast),
}


@dataclass(frozen=True)
class Condition:
    """A type at a level.

    Attributes:
        kind: key of `DEGRADATIONS`.
        level: 1 to 4.
    """

    kind: str
    level: int

    def __str__(self) -> str:
        return f"{self.kind}-{self.level}"

    @property
    def value(self) -> float:
        """The level's value, in the unit of its type."""
        return DEGRADATIONS[self.kind].levels[self.level - 1]


def conditions(kinds: list[str] | None = None) -> list[Condition]:
    """Every level of some types, or of all.

    Raises:
        ValueError: an unknown type, or none.
    """
    kinds = list(DEGRADATIONS) if kinds is None else list(dict.fromkeys(kinds))
    unknown = [k for k in kinds if k not in DEGRADATIONS]
    if unknown or not kinds:
        found = f"type {unknown[0]!r} is unknown" if unknown else "no type of degradation is given"
        raise ValueError(f"{found}; expected some of {', '.join(DEGRADATIONS)}.")
    return [Condition(k, i + 1) for k in kinds for i in range(len(DEGRADATIONS[k].levels))]


def is_grey(image: np.ndarray) -> bool:
    """Whether an image (h, w) or (h, w, c) has one channel, or equal ones."""
    return image.ndim == 2 or not (image != image[..., :1]).any()


def degrade(image: np.ndarray, condition: Condition, seed: int = 0) -> np.ndarray:
    """A degraded copy of an image.

    Args:
        image: (h, w) or (h, w, c) uint8. Channels are changed one by one with the same random numbers, so that a grey
            image stays grey.
        condition: type and level.
        seed: from 0; another one draws other random numbers.

    Raises:
        ValueError: an image that is not 8 bits, or has no pixels.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        raise ValueError(f"expected an 8-bit image (h, w) or (h, w, c), got {image.dtype} {image.shape}")
    kind = DEGRADATIONS[condition.kind]
    planes = cv2.split(image)
    # the first channel alone, so that a grey image gets the same numbers with one channel and with three
    own = [seed, zlib.crc32(planes[0].tobytes()), zlib.crc32(condition.kind.encode())]

    def change(plane: Plane) -> Plane:
        changed = kind.apply(plane, condition.value, np.random.default_rng(own))
        return np.clip(np.rint(changed), 0, 255).astype(np.uint8)

    changed = [change(planes[0])] * len(planes) if is_grey(image) else [change(p) for p in planes]
    return cv2.merge(changed).reshape(image.shape)
