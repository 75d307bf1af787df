"""DICOM: single images, multi-frame objects, and folders with a series.

PS3.3 C.7.6 (image plane, pixel), C.11 (modality and VOI transformations), C.7.6.16 (functional groups). Not applied:
modality and VOI look-up tables (rare in MR; the window or the percentiles take their place), sigmoid VOI functions
(taken as linear), overlays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.utils import LOGGER

from yolospine_ultra.data.scans.dicom_file import is_dicom, read_file, reading
from yolospine_ultra.data.scans.dicom_pixels import decode
from yolospine_ultra.data.scans.scan import (
    SAGITTAL,
    Geometry,
    Scan,
    ScanError,
    check_size,
    plausible_spacing,
    unit_axes,
)

# by how much frames of one stack may differ in what `Frame.layout` gives: scanners write the same direction with other
# last digits
_ALIKE = np.array([0.0, 0.0, *[0.01] * 6, 0.001, 0.001])


def open_dicom(path: Path) -> Scan:
    """A DICOM file with one or several frames, ordered by their position where it is known.

    Raises:
        ScanError: the file is damaged, not an MR image, or of a size beyond the limits.
        ImportError: pydicom is missing.
    """
    with reading(path):
        ds, n = read_file(path)
        frames = [Frame(path, ds, i) for i in range(n)]
    return _stack(path, _best(path, frames), lambda f: decode(path, ds, f.number))


def open_series(folder: Path, files: list[Path] | None = None) -> Scan:
    """The series in a folder as one stack, ordered by position, not by file name.

    Of several stacks in one series (a localiser has one a plane) the sagittal one with the most planes is taken, else
    the one with the most planes. Planes of equal position (echoes) stand in the order of their instance numbers.

    Args:
        folder: where the files are.
        files: which of them; None: all with DICOM's mark.

    Raises:
        ScanError: no image that can be read, or images of several series.
        ImportError: pydicom is missing.
    """
    files = sorted(p for p in folder.iterdir() if p.is_file() and is_dicom(p)) if files is None else files
    series: dict[str, list[Frame]] = defaultdict(list)
    errors = []
    for path in files:
        try:
            for uid, found in read_headers(path).items():
                series[uid] += found
        except ScanError as e:
            errors.append(e)
    if not series:
        raise errors[0] if errors else ScanError(f"{folder}: holds no DICOM image; expected those of one series.")
    if len(series) > 1:
        raise ScanError(
            f"{folder}: holds {len(series)} series; expected one: predict on the folder reads each, or sort them into "
            "folders of their own."
        )
    return stack_series(folder, next(iter(series.values())))


def read_headers(path: Path) -> dict[str, list[Frame]]:
    """The frames of a file, without their pixels, by the UID of their series.

    Raises:
        ScanError: as for `open_dicom`.
    """
    with reading(path):
        ds, n = read_file(path, pixels=False)
        return {str(ds.get("SeriesInstanceUID", "")): [Frame(path, ds, i) for i in range(n)]}


def stack_series(path: Path, frames: list[Frame]) -> Scan:
    """One stack of the frames of a series, see `open_series`."""

    def read(f: Frame) -> np.ndarray:
        with reading(f.path):
            ds, _ = read_file(f.path)
        return decode(f.path, ds, f.number)

    return _stack(path, _best(path, frames), read)


def _best(path: Path, frames: list[Frame]) -> list[Frame]:
    """The sagittal stack with the most frames, else the one with the most."""
    best = max(_stacks(frames), key=lambda s: (s[0].plane == SAGITTAL, len(s)))
    if len(best) < len(frames):
        LOGGER.info(
            f"{path}: {len(best)} of {len(frames)} frames are used; the others are of another size, direction or pixel "
            "spacing."
        )
    return best


def _stacks(frames: list[Frame]) -> list[list[Frame]]:
    """Frames of equal size, direction and pixel spacing, compared with the first of each stack."""
    layouts, stacks = np.array([f.layout for f in frames]), []
    left = np.arange(len(frames))
    while len(left):
        alike = (np.abs(layouts[left] - layouts[left[0]]) <= _ALIKE).all(1)
        stacks.append([frames[i] for i in left[alike]])
        left = left[~alike]
    return stacks


class Frame:
    """What one frame's header says; numbers that make no sense count as not given."""

    def __init__(self, path: Path, ds: Any, number: int) -> None:
        self.path, self.number = path, number
        self.instance = _numbers(ds, "InstanceNumber", 1)[0] if _numbers(ds, "InstanceNumber", 1) else 0.0
        self.shape = (int(ds.Rows), int(ds.Columns))
        groups = _functional_groups(ds, number)

        def values(keyword: str, macro: str, n: int) -> tuple[float, ...] | None:
            for item in groups:
                inner = item.get(macro)
                found = _numbers(inner[0], keyword, n) if inner else None
                if found:
                    return found
            return _numbers(ds, keyword, n)

        transform = "PixelValueTransformationSequence"
        self.slope = (values("RescaleSlope", transform, 1) or (1.0,))[0]
        self.intercept = (values("RescaleIntercept", transform, 1) or (0.0,))[0]
        if self.slope == 0:
            raise ScanError(f"{path}: has a rescale slope of 0; expected one that keeps its pixels apart.")
        voi = "FrameVOILUTSequence"
        centre, width = values("WindowCenter", voi, 1), values("WindowWidth", voi, 1)
        self.window = (centre[0], width[0]) if centre and width and width[0] > 0 else None
        voi = [inner[0] for g in groups if (inner := g.get(voi))]
        if self.window and str((voi[0] if voi else ds).get("VOILUTFunction", "")) == "LINEAR_EXACT":
            self.window = self.window[0] + 0.5, self.window[1] + 1  # the same line in terms of LINEAR
        pixel = values("PixelSpacing", "PixelMeasuresSequence", 2)
        self.spacing = pixel if pixel and plausible_spacing(*pixel) else None
        between = values("SpacingBetweenSlices", "PixelMeasuresSequence", 1)
        between = between or values("SliceThickness", "PixelMeasuresSequence", 1)
        self.between = between[0] if between and plausible_spacing(between[0]) else 0.0
        axes = values("ImageOrientationPatient", "PlaneOrientationSequence", 6)
        # DICOM gives the direction along a row first
        self.axes = unit_axes(np.array(axes[3:]), np.array(axes[:3])) if axes else None
        position = values("ImagePositionPatient", "PlanePositionSequence", 3)
        self.origin = np.array(position) if position and max(map(abs, position)) < 1e5 else None
        known = self.axes is not None and self.origin is not None
        self.geometry = Geometry(self.origin[None], *self.axes) if known else None
        self.bits = (int(ds.get("BitsStored") or 16), int(ds.get("PixelRepresentation") or 0))
        self.inverted = str(ds.get("PhotometricInterpretation", "")) == "MONOCHROME1"

    @property
    def plane(self) -> str | None:
        """As of `Geometry`, or None where the geometry is unknown."""
        return self.geometry.plane if self.geometry else None

    @property
    def layout(self) -> np.ndarray:
        """Rows and columns, both directions, pixel spacing in mm (10,); what is unknown as numbers that none has."""
        axes = np.full(6, 9.0) if self.geometry is None else np.concatenate(self.axes)
        return np.array([*self.shape, *axes, *(self.spacing or (-1.0, -1.0))])

    def rescale(self, stored: np.ndarray) -> np.ndarray:
        """Float pixels of stored ones, brighter for more signal."""
        x = stored.astype(np.float32)
        if self.inverted:
            np.subtract(np.float32(self._mirror), x, out=x)
        if self.slope != 1:
            x *= np.float32(self.slope)
        if self.intercept != 0:
            x += np.float32(self.intercept)
        return x

    @property
    def _mirror(self) -> int:
        """Sum of the lowest and the highest stored value."""
        bits, signed = self.bits
        return -1 if signed else 2**bits - 1

    @property
    def shown_window(self) -> tuple[float, float] | None:
        """The window in units of `rescale`."""
        if self.window is None or not self.inverted:
            return self.window
        # LINEAR is not symmetric about its centre, but about half a unit below
        return self.slope * self._mirror + 2 * self.intercept - self.window[0] + 1, self.window[1]


def _stack(path: Path, frames: list[Frame], decode: Callable[[Frame], np.ndarray]) -> Scan:
    """The frames of one stack ordered by position, as a scan."""
    first = frames[0]
    geometry, between = None, first.between
    if first.geometry is None:
        frames = sorted(frames, key=lambda f: (f.instance, f.path.name, f.number))
    else:
        normal = first.geometry.normal
        frames = sorted(frames, key=lambda f: (round(float(f.origin @ normal), 2), f.instance, f.number))
        geometry = Geometry(np.stack([f.origin for f in frames]), *first.axes)
        gaps = np.diff(geometry.positions)
        between = float(np.median(gaps[gaps > 0.01])) if (gaps > 0.01).any() else between
    check_size(path, len(frames), *first.shape)

    def read(i: int) -> np.ndarray:
        frame = frames[i]
        stored = decode(frame)
        if stored.shape != frame.shape:
            raise ScanError(f"{frame.path}: decodes to {stored.shape} pixels; expected {frame.shape}, as it declares.")
        x = frame.rescale(stored)
        if not np.isfinite(x).all():
            raise ScanError(f"{frame.path}: has pixels that are not finite; expected numbers.")
        return x

    return Scan(
        path=path,
        shape=(len(frames), *first.shape),
        read=read,
        files=tuple(f.path for f in frames),
        frames=tuple(f.number for f in frames),
        spacing_mm=first.spacing and (between, *first.spacing),
        windows=tuple(f.shown_window for f in frames),
        geometry=geometry,
    )


def _functional_groups(ds: Any, number: int) -> list[Any]:
    """The functional groups of a frame: its own, then the shared ones."""
    own, shared = ds.get("PerFrameFunctionalGroupsSequence"), ds.get("SharedFunctionalGroupsSequence")
    groups = [own[number]] if own and number < len(own) else []
    return groups + ([shared[0]] if shared else [])


def _numbers(ds: Any, keyword: str, n: int) -> tuple[float, ...] | None:
    """The first `n` finite numbers of an element, or None where it has not so many."""
    try:
        value = ds.get(keyword)
        values = [value] if isinstance(value, (int, float, str)) else list(value or [])
        found = tuple(float(x) for x in values[:n])
    except (TypeError, ValueError):
        return None
    return found if len(found) == n and np.isfinite(found).all() else None
