"""From the anatomy of a slice to the image a scanner gives: paint it, then acquire it.

Written for this project. After painting come what makes a scan of a drawing: point spread, a saturation band over the
belly, a surface coil, its partial correction, Rician noise, the corrected geometry's curved border, a cropped field of
view, and the window an operator sets on the spine.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from yolospine_ultra.data.phantom.anatomy import Anatomy
from yolospine_ultra.data.phantom.canvas import Canvas, Frame, Textures
from yolospine_ultra.data.phantom.soft import SoftPainter
from yolospine_ultra.data.phantom.spine import SpinePainter
from yolospine_ultra.data.phantom.tissue import SEQUENCES, brightness

__all__ = ("SEQUENCES", "render")

_OVERSAMPLING = 1.5  # of the spine; at twice the size the averaged image looks the same
_WINDOWED = (9, 12.0)  # px and mm, the lesser, within a vertebral body whose grey the window is set by
_MARGIN_MM = 14.0  # anatomy that a cropped field of view leaves around the spine


@dataclass(frozen=True)
class _Protocol:
    """Ranges of what differs between the sequences: point spread (px), noise, grey of the bodies."""

    blur: tuple[float, float]
    noise: tuple[float, float]
    bone: tuple[float, float]
    band_chance: float
    reach: tuple[float, float]


_PROTOCOLS = {
    "t1": _Protocol((0.35, 0.7), (0.006, 0.022), (0.3, 0.88), 0.2, (70, 220)),
    "t2": _Protocol((0.35, 0.7), (0.006, 0.022), (0.25, 0.76), 0.35, (70, 220)),
    "t2_space": _Protocol((0.3, 0.5), (0.012, 0.035), (0.15, 0.37), 0.7, (45, 95)),
}


def paint(anatomy: Anatomy, frame: Frame, sequence: str, textures: Textures) -> tuple[np.ndarray, float]:
    """Paint a slice without the scanner.

    Returns:
        Brightness (side, side) float32 on a canvas 1.5 times the image size, and where the skin of the back lies, mm.
    """
    tissue = brightness(sequence)
    coarse = Canvas(frame, 1.0, textures)
    soft = SoftPainter(anatomy, coarse, tissue)
    soft.paint()
    canvas = coarse.enlarged(_OVERSAMPLING)
    SpinePainter(anatomy, canvas, tissue, sequence).paint()
    return canvas.pixels, float(soft.skin.mean())


def _sampled(painted: np.ndarray, frame: Frame, blur_px: float, textures: Textures) -> np.ndarray:
    """The painting at image size: blurred by the point spread, every outline slightly uneven, (size, size)."""
    ratio = painted.shape[0] / frame.size
    soft = cv2.GaussianBlur(painted, (0, 0), blur_px * ratio)
    grid = (np.arange(frame.size, dtype=np.float32) + np.float32(0.5)) * np.float32(ratio) - np.float32(0.5)
    coarse, fine = (np.float32(mm * ratio / frame.mm_per_px) for mm in (0.28, 0.12))
    dx, dy = (
        coarse * textures.field(key, frame.size, frame.mm_per_px, 6.0)
        + fine * textures.field(key + 2, frame.size, frame.mm_per_px, 2.2)
        for key in (51, 52)
    )
    dx += grid[None, :]
    dy += grid[:, None]
    return cv2.remap(soft, dx, dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _coil(
    frame: Frame, skin_x: float, reach: tuple[float, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Sensitivity of a surface coil behind the back by row (size, 1) and column (1, size), 1 near the skin."""
    axis = np.arange(frame.size, dtype=np.float32) * np.float32(frame.mm_per_px)
    depth = np.maximum(skin_x - frame.origin[0] - axis, 0)
    floor = float(rng.uniform(0.02, 0.35))
    across = floor + (1 - floor) * np.exp(-depth / float(rng.uniform(*reach)))
    side = frame.size * frame.mm_per_px
    centre, spread = rng.uniform(0.4, 0.62) * side, rng.uniform(0.5, 1.0) * side
    along = np.exp(-0.5 * ((axis - centre) / spread) ** 2)
    return along[:, None].astype(np.float32), across[None, :].astype(np.float32)


def _saturate(signal: np.ndarray, anatomy: Anatomy, frame: Frame, rng: np.random.Generator) -> None:
    """Darken what a saturation band in front of the spine covers: straight, soft-edged; `signal` is changed."""
    fronts = np.array([b.upper[0] for b in anatomy.bodies[:-2]])
    slope, shift = np.polyfit(fronts[:, 1], fronts[:, 0], 1)
    slope = slope * rng.uniform(0.0, 1.0)
    shift = (fronts[:, 0] - slope * fronts[:, 1]).min() - rng.uniform(6, 30)
    axis = (np.arange(frame.size) + 0.5) * frame.mm_per_px
    edge = shift + slope * (axis + frame.origin[1]) - frame.origin[0]
    left, soft = float(rng.uniform(0.03, 0.25)), float(rng.uniform(4, 14))
    reach = int(np.clip((edge.max() + soft) / frame.mm_per_px + 1, 0, frame.size))
    passed = (axis[None, :reach] - edge[:, None]) / (2 * soft) + 0.5
    passed = np.clip(passed, 0, 1).astype(np.float32)
    passed *= passed * (3 - 2 * passed)  # no kink at either end
    signal[:, :reach] *= left + (1 - left) * passed


def _crop(grey: np.ndarray, anatomy: Anatomy, frame: Frame, rng: np.random.Generator) -> None:
    """Blacken what holds no data: often the field of view is narrower than the image, often its border is bent."""
    bend = float(rng.uniform(0.0, 0.16))
    spine = frame.to_px(np.concatenate([b.outline for b in (*anatomy.bodies[:-2], *anatomy.sacrum[:2])]))
    rear = frame.to_px(anatomy.canal.edge(anatomy.canal.wall))[:, 0].max()
    margin = _MARGIN_MM / frame.mm_per_px
    left = spine[:, 0].min() - margin - rng.exponential(45) / frame.mm_per_px
    right = rear + margin + (12 + rng.exponential(45)) / frame.mm_per_px
    if rng.random() < 0.5:
        grey[:, : int(np.clip(left, 0, frame.size))] = 0
        grey[:, int(np.clip(right, 0, frame.size)) :] = 0
    if rng.random() < 0.5:
        # Correcting the gradients' geometry pulls the far corners inwards; the middle of the border stays.
        columns = np.arange(frame.size) / frame.size
        lost = np.clip(((columns - spine[:, 0].mean() / frame.size) ** 2 * bend - 0.002) * frame.size, 0, None)
        rows = np.arange(frame.size)[:, None]
        grey[(rows < lost) | (rows >= frame.size - lost)] = 0


def _noise(size: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of one receiver channel, slightly correlated by interpolation, (size, size), deviation near 1."""
    return cv2.GaussianBlur(rng.standard_normal((size, size), dtype=np.float32), (0, 0), 0.55)


def render(anatomy: Anatomy, frame: Frame, sequence: str, rng: np.random.Generator) -> np.ndarray:
    """Render one slice.

    Args:
        anatomy: shapes of the slice.
        frame: where the image lies.
        sequence: one of `SEQUENCES`.
        rng: the acquisition: coil, band, noise, field of view and window.

    Returns:
        uint8 image (size, size), 0 black.
    """
    protocol = _PROTOCOLS[sequence]
    textures = Textures(anatomy.patient.texture_seed, anatomy.offset_mm)
    painted, skin_x = paint(anatomy, frame, sequence, textures)
    signal = _sampled(painted, frame, float(rng.uniform(*protocol.blur)), textures)
    np.maximum(signal, 0, out=signal)
    along, across = _coil(frame, skin_x, protocol.reach, rng)
    signal *= along
    signal *= across
    if rng.random() < protocol.band_chance:
        _saturate(signal, anatomy, frame, rng)
    level = np.float32(rng.uniform(*protocol.noise))
    noise = level * _noise(frame.size, rng)
    signal += noise
    # The other channel is the same noise upside down: at no pixel but the centre the two are the same draw.
    measured = cv2.magnitude(signal, np.ascontiguousarray(noise[::-1, ::-1]))
    if rng.random() < 0.6:  # the scanner evens the coil out, noise included
        evened = np.float32(rng.uniform(0.3, 0.8))
        measured /= np.maximum(along, 0.2) ** evened
        measured /= np.maximum(across, 0.05) ** evened
    if rng.random() < 0.5:  # the vendor's edge enhancement
        measured += np.float32(rng.uniform(0.2, 0.8)) * (measured - cv2.GaussianBlur(measured, (0, 0), 1.2))
    # The operator windows on the spine: the bodies end up mid-grey whatever the coil did to them.
    pixels = frame.to_px(np.array([body.centre for body in anatomy.bodies[:5]]))
    columns, rows = np.clip(pixels.round().astype(int), 0, frame.size - 1).T
    within = max(min(_WINDOWED[0], int(_WINDOWED[1] / frame.mm_per_px)), 1)
    bone = float(np.median(cv2.blur(measured, (within, within))[rows, columns]))
    measured *= np.float32(rng.uniform(*protocol.bone) / bone)
    grey = cv2.pow(np.clip(measured, 0, 1), float(rng.uniform(0.9, 1.2)))
    _crop(grey, anatomy, frame, rng)
    return cv2.convertScaleAbs(grey, alpha=255)
