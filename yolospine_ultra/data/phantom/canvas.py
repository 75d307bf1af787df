"""The drawing surface of the spine phantom: where an image lies on the anatomy, soft-edged shapes, patient textures.

Written for this project. Coarse tissue is painted at image size, the spine on a finer canvas; averaging that down gives
its boundaries the partial volume a real slice has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from yolospine_ultra.data.phantom.anatomy import Anatomy

_SHIFT = 4  # fractional bits of the coordinates handed to OpenCV
_TILE = 288  # side of the patient's noise, from which all textures are cut
_ANGLE = np.linspace(0, 2 * np.pi, 48, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], 1)
_HARMONICS = np.stack([np.sin((k + 2) * _ANGLE + 2.4 * k) for k in range(4)])


@dataclass(frozen=True)
class Frame:
    """Where the square image lies on the anatomy: `origin` (mm) of its top left corner, pixel size, side in pixels."""

    origin: np.ndarray
    mm_per_px: float
    size: int

    @classmethod
    def of(cls, anatomy: Anatomy, size: int) -> Frame:
        """Lay a frame of `size` pixels from the patient's uppermost visible vertebra to below the S1 end-plate."""
        patient = anatomy.patient
        body = anatomy.body(patient.fov_top_body)
        top = body.upper[:, 1].mean() + patient.fov_top * (body.lower[:, 1].mean() - body.upper[:, 1].mean())
        side = float(patient.fov_below_mm - top)
        line = anatomy.canal.line
        seen = line[(line[:, 1] > top) & (line[:, 1] < patient.fov_below_mm)]
        return cls(np.array([seen[:, 0].mean() - patient.fov_x * side, top]), side / size, size)

    def to_px(self, points: np.ndarray) -> np.ndarray:
        """Millimetres to pixels, (N, 2); the top left corner of the image is (0, 0)."""
        return (points - self.origin) / self.mm_per_px


class Textures:
    """Smooth random fields of one patient and slice, the same in every sequence.

    Args:
        seed: the patient's texture seed.
        offset_mm: slice offset; the fields drift into others over about a centimetre of it.
    """

    def __init__(self, seed: int, offset_mm: float) -> None:
        phase = offset_mm / 8.0
        tile = np.random.default_rng([seed, 0]).standard_normal((_TILE, _TILE), dtype=np.float32)
        tile = math.cos(phase) * tile + math.sin(phase) * tile[::-1, ::-1]
        # Two blurred cells a blob: a bare coarse grid would show as a weave.
        self._tile = cv2.GaussianBlur(tile, (0, 0), 1.0) * np.float32(3.6)
        self._seed = seed

    def field(self, key: int, side: int, mm: float, grain_mm: float, stretch: float = 1.0) -> np.ndarray:
        """A field (side, side) float32, mean near 0 and deviation near 1.

        Args:
            key: which field; the same key is the same field in every sequence.
            side: pixels.
            mm: size of one pixel.
            grain_mm: size of its blobs.
            stretch: their height over their width.
        """
        extent = 2 * side * mm
        height, width = (min(_TILE, max(8, round(extent / (grain_mm * f)))) for f in (stretch, 1.0))
        y, x = (np.random.default_rng([self._seed, 9, key]).random(2) * (_TILE - np.array([height, width]))).astype(int)
        return cv2.resize(self._tile[y : y + height, x : x + width], (side, side), interpolation=cv2.INTER_LINEAR)


class Canvas:
    """A float picture painted back to front in millimetres, in 0..1 and a little above for bright fluid.

    Args:
        frame: where the image lies.
        oversampling: canvas pixels an image pixel.
        textures: the patient's fields.
    """

    def __init__(self, frame: Frame, oversampling: float, textures: Textures) -> None:
        self.frame = frame
        self.side = round(frame.size * oversampling)
        self.mm = frame.mm_per_px * frame.size / self.side
        self.pixels = np.zeros((self.side, self.side), np.float32)
        self._textures = textures
        self._corner = frame.origin + self.mm / 2  # the middle of the first pixel

    def rows(self) -> np.ndarray:
        """Height of every canvas row, (side,) mm."""
        return self.frame.origin[1] + (np.arange(self.side) + 0.5) * self.mm

    def columns(self) -> np.ndarray:
        """Position of every canvas column, (side,) mm."""
        return self.frame.origin[0] + (np.arange(self.side) + 0.5) * self.mm

    def texture(self, key: int, grain_mm: float, stretch: float = 1.0) -> np.ndarray:
        """The patient's field of this key on the whole canvas, see `Textures.field`."""
        return self._textures.field(key, self.side, self.mm, grain_mm, stretch)

    def enlarged(self, oversampling: float) -> Canvas:
        """The same picture on a finer canvas."""
        finer = Canvas(self.frame, oversampling, self._textures)
        finer.pixels = cv2.resize(self.pixels, (finer.side, finer.side), interpolation=cv2.INTER_LINEAR)
        return finer

    def _mix(
        self,
        mask: np.ndarray,
        x: int,
        y: int,
        value: float | np.ndarray,
        grain: np.ndarray | None,
        feather_mm: float,
        alpha: float,
    ) -> None:
        """Blend `value`, plus a canvas-sized `grain`, into the window at (x, y) through an 8-bit mask."""
        if feather_mm > self.mm:  # finer edges than a canvas pixel are left to the drawing's own smoothing
            # A stack blur of this radius has the feather as its deviation, at a third of a Gaussian's cost.
            radius = max(1, round(math.sqrt(6) * feather_mm / self.mm - 1))
            mask = cv2.stackBlur(mask, (2 * radius + 1, 2 * radius + 1))
        weight = mask * np.float32(alpha / 255)
        box = slice(y, y + mask.shape[0]), slice(x, x + mask.shape[1])
        target = np.float32(value) if grain is None else grain[box] + np.float32(value)
        window = self.pixels[box]
        window += weight * (target - window)

    def _window(self, points: np.ndarray, pad_mm: float) -> tuple[np.ndarray, int, int, int, int] | None:
        """Canvas coordinates of the points and the window around them, None where they miss the canvas."""
        unit = 2**_SHIFT
        fixed = np.rint((points - self._corner) * (unit / self.mm)).astype(np.int32)
        x, y, width, height = cv2.boundingRect(fixed)
        pad = int(pad_mm / self.mm) + 2
        x0, y0 = max(x // unit - pad, 0), max(y // unit - pad, 0)
        x1, y1 = (min((v + w) // unit + 2 + pad, self.side) for v, w in ((x, width), (y, height)))
        if x1 <= x0 or y1 <= y0:
            return None
        return fixed - np.array([x0 * unit, y0 * unit], np.int32), x0, y0, x1 - x0, y1 - y0

    def fill(
        self,
        outline: np.ndarray,
        value: float,
        feather_mm: float = 0.35,
        alpha: float = 1.0,
        grain: np.ndarray | None = None,
    ) -> None:
        """Fill a closed outline (mm), its edge feathered by `feather_mm`; `grain` is a field added to `value`."""
        found = self._window(outline, 3 * feather_mm)
        if found is None:
            return
        fixed, x, y, width, height = found
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, _SHIFT)
        self._mix(mask, x, y, value, grain, feather_mm, alpha)

    def stroke(
        self, points: np.ndarray, width_mm: float, value: float, closed: bool = False, alpha: float = 1.0
    ) -> None:
        """Draw a line (mm) of a given width; thinner than a canvas pixel it is drawn fainter."""
        self.strokes([(points, alpha)], width_mm, value, closed)

    def strokes(
        self, lines: Sequence[tuple[np.ndarray, float]], width_mm: float, value: float, closed: bool = False
    ) -> None:
        """Draw several lines (mm) of one width and brightness, each with its own alpha; the last one lies on top."""
        found = self._window(np.concatenate([points for points, _ in lines]), width_mm)
        if found is None:
            return
        fixed, x, y, width, height = found
        mask = np.zeros((height, width), np.uint8)
        pixels = max(1, round(width_mm / self.mm))
        ends = np.cumsum([len(points) for points, _ in lines])[:-1]
        for line, (_, alpha) in zip(np.split(fixed, ends), lines, strict=True):
            cv2.polylines(mask, [line], closed, round(255 * alpha), pixels, cv2.LINE_AA, _SHIFT)
        self._mix(mask, x, y, value, None, 0.0, min(1.0, width_mm / self.mm / pixels))

    def fill_behind(self, edge: np.ndarray, value: float | np.ndarray, soft_mm: float = 0.7) -> None:
        """Fill everything behind (right of) an edge given per canvas row in mm."""
        first = int(np.clip((edge.min() - soft_mm - self.frame.origin[0]) / self.mm, 0, self.side))
        x = self.columns()[first:].astype(np.float32)
        weight = np.clip((x - edge[:, None].astype(np.float32)) * np.float32(1 / soft_mm) + np.float32(0.5), 0, 1)
        window = self.pixels[:, first:]
        window += weight * ((value[:, first:] if isinstance(value, np.ndarray) else value) - window)

    def fill_before(self, edge: np.ndarray, value: float | np.ndarray, soft_mm: float = 1.2) -> None:
        """Fill everything in front of (left of) an edge given per canvas row in mm."""
        last = int(np.clip((edge.max() + soft_mm - self.frame.origin[0]) / self.mm + 1, 0, self.side))
        x = self.columns()[:last].astype(np.float32)
        weight = np.clip((edge[:, None].astype(np.float32) - x) * np.float32(1 / soft_mm) + np.float32(0.5), 0, 1)
        window = self.pixels[:, :last]
        window += weight * ((value[:, :last] if isinstance(value, np.ndarray) else np.float32(value)) - window)


def ellipse(centre: np.ndarray, radii: tuple[float, float], degrees: float, wobble: np.ndarray) -> np.ndarray:
    """Closed outline of a wobbly ellipse (mm); `wobble` holds up to 4 strengths of its 2nd, 3rd... harmonics."""
    local = (1 + np.asarray(wobble) @ _HARMONICS[: len(wobble)])[:, None] * _CIRCLE * radii
    a = np.deg2rad(degrees)
    return centre + local @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
