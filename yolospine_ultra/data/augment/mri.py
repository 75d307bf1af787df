"""Artefacts of MRI acquisition for training images: Gaussian blur, Rician noise, motion blur and coil bias field.

Source: YOLOspine (Masood and Taj 2026), "Augmentation Strategy", which names the first three and gives no severities;
the bias field is ours. Lengths below are fractions of the image's long side, so that they mean the same at every
`imgsz`; millimetres are for a lumbar field of view of 280 mm, grey values for 8 bits.

Made of OpenCV and NumPy, which the host needs anyway. MONAI's RandRicianNoise, RandBiasField and RandGaussianSmooth
came first, and the tests compare with them. But they cost about ten times as much (`scripts/benchmark_loader.py`), the
noise alone more than the rest of the loader, take seconds to import, and leave motion out.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import cv2
import numpy as np
from numpy.polynomial.legendre import legvander

# Full width at half maximum .7 to 2 mm: from a fine to twice the coarsest in-plane pixel of SPIDER (.24 to 1.06 mm,
# van der Graaf et al. 2024).
BLUR_SIGMA = (0.001, 0.003)  # of the long side
# Of the image's standard deviation, as an image with a dark window would drown in what a bright one bears. It is 76
# grey values in the median of SPIDER's slices, so 1.5 to 11: .6 to 4.5% of the brightest tissue, the lower half of
# BrainWeb's noise levels (Cocosco et al. 1997), because the discs are dark, 43 in the median.
RICIAN_SIGMA = (0.02, 0.15)
# A displacement of 1.4 to 4.2 mm during the acquisition, less than half a disc's height; our choice.
MOTION_LENGTH = (0.005, 0.015)  # of the long side
# Largest gain of the field. BrainWeb's inhomogeneity of 20 to 40% is a gain of up to 1.1 to 1.2 in a head coil; the
# surface coils of a spine fall off more.
BIAS_GAIN = (1.1, 1.6)
BIAS_DEGREE = 3  # of the polynomial in the exponent, as Van Leemput et al. (1999)

Plane = np.ndarray  # one channel, (h, w) uint8


def gaussian_blur(plane: Plane, sigma: float) -> Plane:
    """Blur with a Gaussian of `sigma` pixels."""
    return cv2.GaussianBlur(plane, (0, 0), sigma)


def rician_noise(plane: Plane, sigma: float, seed: int) -> Plane:
    """Magnitude of the signal with Gaussian noise in both channels of the receiver (Gudbjartsson and Patz 1995).

    Args:
        plane: (h, w) uint8.
        sigma: standard deviation of the noise in each channel, in grey values.
        seed: of the noise, 0 to 2**31 - 1.
    """
    cv2.setRNGSeed(seed)
    real, imaginary = np.empty(plane.shape, np.float32), np.empty(plane.shape, np.float32)
    cv2.randn(real, 0.0, sigma)
    cv2.randn(imaginary, 0.0, sigma)
    cv2.add(real, plane, real, dtype=cv2.CV_32F)
    return cv2.convertScaleAbs(cv2.magnitude(real, imaginary))  # rounds and saturates


def motion_blur(plane: Plane, length: float, angle: float) -> Plane:
    """Mean over a straight, uniform movement.

    Args:
        plane: (h, w) uint8.
        length: way in pixels.
        angle: direction in degrees, 0 along the rows.
    """
    return cv2.filter2D(plane, -1, motion_kernel(length, angle))


def motion_kernel(length: float, angle: float) -> np.ndarray:
    """Odd square kernel, sum 1, of a line of `length` pixels through its centre and one pixel thick, antialiased."""
    half = math.ceil(length / 2)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along, across = np.abs(x * cos + y * sin), np.abs(y * cos - x * sin)
    kernel = np.clip((length + 1) / 2 - along, 0, 1) * np.clip(1 - across, 0, None)
    return kernel / kernel.sum()


def bias_field(plane: Plane, gain: float, coefficients: np.ndarray) -> Plane:
    """Multiply by the smooth field of a receive coil, see `field`."""
    return cv2.multiply(plane, field(plane.shape, gain, coefficients), dtype=cv2.CV_8U)  # rounds and saturates


def field(shape: tuple[int, int], gain: float, coefficients: np.ndarray) -> np.ndarray:
    """exp of a polynomial over the image, whose largest departure from 1 is `gain` or 1 / `gain`.

    Args:
        shape: (h, w).
        gain: above 1.
        coefficients: (BIAS_DEGREE + 1, BIAS_DEGREE + 1) of the Legendre products P_i(y) P_j(x). Those of a degree i + j
            above BIAS_DEGREE are left out, and so is the constant: the brightness of the whole image is not the coil's.

    Returns:
        (h, w) float32.
    """
    degree = np.add.outer(np.arange(BIAS_DEGREE + 1), np.arange(BIAS_DEGREE + 1))
    used = np.where((degree > 0) & (degree <= BIAS_DEGREE), coefficients, 0.0)
    y, x = (legvander(np.linspace(-1, 1, n, dtype=np.float32), BIAS_DEGREE) for n in shape)
    exponent = (y @ used.astype(np.float32)) @ x.T
    return cv2.exp(exponent * (math.log(gain) / cv2.norm(exponent, cv2.NORM_INF)))


class MRIArtefacts:
    """Gives an image, with probability `p`, one of the four artefacts, each as often and of a severity from its range.

    Draws from `random` and `numpy.random` as the host's augmentations do, so that its seed decides, in workers as well.
    """

    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The image or a changed copy; all its channels are changed alike, so that grey images stay grey.

        Args:
            image: (h, w, c) uint8.
        """
        if random.random() >= self.p:
            return image
        planes = cv2.split(image)
        artefact = random.choice(ARTEFACTS)(planes[0])
        grey = all(cv2.norm(planes[0], other, cv2.NORM_INF) == 0 for other in planes[1:])
        changed = [artefact(planes[0])] * len(planes) if grey else [artefact(plane) for plane in planes]
        return cv2.merge(changed).reshape(image.shape)


def draw_blur(plane: Plane) -> Callable[[Plane], Plane]:
    """A Gaussian blur for images of the size of `plane`."""
    sigma = random.uniform(*BLUR_SIGMA) * max(plane.shape)
    return lambda other: gaussian_blur(other, sigma)


def draw_noise(plane: Plane) -> Callable[[Plane], Plane]:
    """A Rician noise for images as strong as `plane`, the same each time it is added."""
    sigma, seed = random.uniform(*RICIAN_SIGMA) * cv2.meanStdDev(plane)[1].item(), random.getrandbits(31)
    return lambda other: rician_noise(other, sigma, seed)


def draw_motion(plane: Plane) -> Callable[[Plane], Plane]:
    """A movement for images of the size of `plane`."""
    length, angle = random.uniform(*MOTION_LENGTH) * max(plane.shape), random.uniform(0, 180)
    return lambda other: motion_blur(other, length, angle)


def draw_bias(plane: Plane) -> Callable[[Plane], Plane]:
    """A coil's field."""
    gain = random.uniform(*BIAS_GAIN)
    coefficients = np.random.uniform(-1, 1, (BIAS_DEGREE + 1, BIAS_DEGREE + 1))
    return lambda other: bias_field(other, gain, coefficients)


ARTEFACTS = (draw_blur, draw_noise, draw_motion, draw_bias)
