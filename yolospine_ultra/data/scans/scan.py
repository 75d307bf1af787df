"""What a scan is: planes of float pixels with their place in the patient, read one by one; limits; the error.

Patient coordinates are DICOM's LPS in mm (PS3.3 C.7.6.2.1.1): x to the patient's left, y to the back, z to the head.
Nothing that names a patient is kept in a `Scan`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import permutations
from pathlib import Path

import numpy as np

MAX_FILE_BYTES = 2**30
MAX_PLANE_PIXELS = 2**26  # 8192 x 8192
MAX_VOXELS = 2**28  # 1 GiB of float32
MAX_PLANES = 4096
SPACING_RANGE = (0.01, 100.0)  # mm; anything else is a damaged header, and the spacing counts as unknown

SAGITTAL, CORONAL, AXIAL = "sagittal", "coronal", "axial"
_PLANES = (SAGITTAL, CORONAL, AXIAL)  # by the axis of LPS that their normal follows
# directions of (slices, rows, columns) as a reader expects them: head or front up, anterior or right on the left
_UPRIGHT = {
    SAGITTAL: np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    CORONAL: np.array([[0.0, 1, 0], [0, 0, -1], [1, 0, 0]]),
    AXIAL: np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]]),
}
LEAST_GAP = 0.01  # mm; planes that are closer lie at one place
UNEVEN = 0.1  # slice distances may differ by this share before a stack cannot be cut in another direction


class ScanError(ValueError):
    """A file that cannot be read as a scan; one sentence with the file, what was found and what was expected."""


@dataclass(frozen=True)
class Geometry:
    """Where the pixels of a stack of S parallel planes lie in the patient (LPS, mm).

    Attributes:
        origins: centres of the first pixel of each plane (S, 3).
        down: unit vector from one row to the next (3,).
        right: unit vector from one column to the next (3,).
    """

    origins: np.ndarray
    down: np.ndarray
    right: np.ndarray

    @cached_property
    def normal(self) -> np.ndarray:
        """Unit vector (3,) across the planes, pointing left, to the back or to the head, whichever is closest."""
        n = np.cross(self.right, self.down)
        n = n / np.linalg.norm(n)
        return n * np.sign(n[np.abs(n).argmax()])

    @property
    def plane(self) -> str:
        """``sagittal``, ``coronal`` or ``axial``: the closest one."""
        return _PLANES[int(np.abs(self.normal).argmax())]

    @property
    def positions(self) -> np.ndarray:
        """Position of each plane along the normal (S,) in mm."""
        return self.origins @ self.normal


@dataclass(frozen=True, eq=False)
class Scan:
    """A stack of S planes of H x W pixels.

    Attributes:
        path: file or folder it was read from.
        shape: (S, H, W).
        read: gives plane i as float32 (H, W), after rescale slope and photometric interpretation. Raises `ScanError`.
        files: of each plane the file that holds it (S,).
        frames: of each plane its number in that file, from 0 (S,).
        spacing_mm: distances of (slices, rows, columns) in mm, or None where unknown; 0 where only the first is.
        windows: of each plane (centre, width) in units of the pixels, or None (S,).
        geometry: place in the patient, or None where unknown.
    """

    path: Path
    shape: tuple[int, int, int]
    read: Callable[[int], np.ndarray] = field(repr=False)
    files: tuple[Path, ...] = field(repr=False)
    frames: tuple[int, ...] = field(repr=False)
    spacing_mm: tuple[float, float, float] | None = None
    windows: tuple[tuple[float, float] | None, ...] = field(default=(), repr=False)
    geometry: Geometry | None = field(default=None, repr=False)

    @cached_property
    def pixels(self) -> np.ndarray:
        """All planes (S, H, W) as float32."""
        return np.stack([self.read(i) for i in range(self.shape[0])])

    @property
    def window(self) -> tuple[float, float] | None:
        """(centre, width) of the middle plane, or None."""
        return self.windows[self.shape[0] // 2] if self.windows else None

    @property
    def plane(self) -> str | None:
        """``sagittal``, ``coronal``, ``axial``, or None where the geometry is unknown."""
        return self.geometry.plane if self.geometry else None

    @property
    def positions(self) -> np.ndarray | None:
        """Position of each plane across the planes (S,) in mm, or None where the geometry is unknown."""
        return self.geometry.positions if self.geometry else None


def check_size(path: Path, planes: int, height: int, width: int) -> None:
    """Refuse sizes that are empty, or too large to be a scan, before anything is allocated.

    Raises:
        ScanError: a size is not positive, or beyond the limits of this module.
    """
    found = f"{planes} x {height} x {width} pixels"
    if min(planes, height, width) < 1:
        raise ScanError(f"{path}: holds no pixels ({found}); expected an image.")
    if planes > MAX_PLANES or height * width > MAX_PLANE_PIXELS or planes * height * width > MAX_VOXELS:
        raise ScanError(
            f"{path}: declares {found}; expected at most {MAX_PLANES} planes of {MAX_PLANE_PIXELS} pixels, "
            f"{MAX_VOXELS} together."
        )


def check_file(path: Path) -> None:
    """Refuse what is no file, empty, or too large.

    Raises:
        ScanError: says which.
    """
    if not path.is_file():
        raise ScanError(f"{path}: is not a file; expected a scan.")
    size = path.stat().st_size
    if not 0 < size <= MAX_FILE_BYTES:
        raise ScanError(f"{path}: has {size} bytes; expected 1 to {MAX_FILE_BYTES}.")


def plausible_spacing(*mm: float) -> bool:
    """Whether distances can be those of a scan."""
    return all(np.isfinite(x) and SPACING_RANGE[0] <= x <= SPACING_RANGE[1] for x in mm)


def unit_axes(down: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Both directions at length 1, or None where they are no two perpendicular directions (to 1%)."""
    axes = np.array([down, right], dtype=float)
    lengths = np.linalg.norm(axes, axis=1)
    if not np.isfinite(axes).all() or (np.abs(lengths - 1) > 0.01).any() or abs(axes[0] @ axes[1]) > 0.01:
        return None
    return axes[0] / lengths[0], axes[1] / lengths[1]


def upright(scan: Scan) -> Scan:
    """The same planes as a reader expects them: sagittal and coronal ones head up, anterior or the right side left.

    Planes are turned and mirrored by whole pixels and ordered from right to left, front to back or feet to head. A
    scan without geometry comes back as it is.
    """
    return scan if scan.geometry is None else _reorient(scan, scan.geometry.plane)


def sagittal(scan: Scan) -> Scan:
    """The scan as upright sagittal planes, ordered from the patient's right to the left.

    A stack of other planes is cut along its pixels, without interpolation.

    Raises:
        ScanError: a single plane that is not sagittal, unknown geometry, or a stack to be cut across without pixel
            spacing or with slice distances too uneven.
    """
    if scan.geometry is None:
        raise ScanError(f"{scan.path}: has no position in the patient; expected one, to find its sagittal planes.")
    if scan.shape[0] == 1 and scan.plane != SAGITTAL:
        raise ScanError(f"{scan.path}: is a single {scan.plane} image; expected a sagittal one, or a stack.")
    return _reorient(scan, SAGITTAL)


def _reorient(scan: Scan, plane: str) -> Scan:
    """The scan's axes permuted and mirrored to the upright directions of `plane`."""
    g = scan.geometry
    steps = np.array([g.normal, g.down, g.right])
    ascending = scan.shape[0] == 1 or g.positions[-1] >= g.positions[0]
    match = _UPRIGHT[plane] @ (steps * [[1 if ascending else -1], [1], [1]]).T  # wanted x stored
    order = max(permutations(range(3)), key=lambda p: sum(abs(match[i, p[i]]) for i in range(3)))
    if scan.shape[0] == 1:  # one plane stays that plane
        order = (0, *max(((1, 2), (2, 1)), key=lambda p: abs(match[1, p[0]]) + abs(match[2, p[1]])))
    mirrored = [match[i, order[i]] < 0 for i in range(3)]
    if scan.shape[0] == 1:
        mirrored[0] = False
    if order == (0, 1, 2) and not any(mirrored):
        return scan
    if order[0] == 0:
        return _turn_planes(scan, order, mirrored)
    return _cut_across(scan, order, mirrored)


def _turn_planes(scan: Scan, order: tuple[int, ...], mirrored: list[bool]) -> Scan:
    """Planes stay planes: each is transposed and mirrored when it is read."""
    g, swap = scan.geometry, order[1] == 2
    index = range(scan.shape[0])[:: -1 if mirrored[0] else 1]

    def read(i: int) -> np.ndarray:
        x = scan.read(index[i])
        x = x.T if swap else x
        return np.ascontiguousarray(x[:: -1 if mirrored[1] else 1, :: -1 if mirrored[2] else 1])

    pixel = scan.spacing_mm[1:] if scan.spacing_mm else (0.0, 0.0)
    axes = [(g.down, pixel[0], scan.shape[1]), (g.right, pixel[1], scan.shape[2])][:: -1 if swap else 1]
    corner = sum(((n - 1) * mm * v for (v, mm, n), flip in zip(axes, mirrored[1:], strict=True) if flip), np.zeros(3))
    down, right = (v * (-1 if flip else 1) for (v, _, _), flip in zip(axes, mirrored[1:], strict=True))
    shape = (scan.shape[0], axes[0][2], axes[1][2])
    return replace(
        scan,
        shape=shape,
        read=read,
        files=tuple(scan.files[i] for i in index),
        frames=tuple(scan.frames[i] for i in index),
        spacing_mm=scan.spacing_mm and (scan.spacing_mm[0], axes[0][1], axes[1][1]),
        windows=tuple(scan.windows[i] for i in index) if scan.windows else (),
        geometry=Geometry(g.origins[list(index)] + corner, down, right),
    )


def _cut_across(scan: Scan, order: tuple[int, ...], mirrored: list[bool]) -> Scan:
    """New planes across the stored ones, from all pixels."""
    g = scan.geometry
    gaps = np.diff(g.positions)
    if scan.spacing_mm is None:
        raise ScanError(
            f"{scan.path}: its {scan.plane} slices have no pixel spacing; expected sagittal ones, or one in mm to cut "
            "across."
        )
    if len(gaps) and (np.ptp(gaps) > UNEVEN * abs(gaps.mean()) or abs(gaps.mean()) < LEAST_GAP):
        raise ScanError(
            f"{scan.path}: its {scan.plane} slices are unevenly spaced or lie at one place; expected sagittal ones, or "
            "even ones to cut across."
        )
    across = (g.origins[-1] - g.origins[0]) / max(len(gaps), 1) if len(gaps) else g.normal * scan.spacing_mm[0]
    steps = [across, g.down * scan.spacing_mm[1], g.right * scan.spacing_mm[2]]
    shape = tuple(scan.shape[i] for i in order)
    origin = g.origins[0] + sum((scan.shape[a] - 1) * steps[a] for a, f in zip(order, mirrored, strict=True) if f)
    s, d, r = (steps[a] * (-1 if f else 1) for a, f in zip(order, mirrored, strict=True))
    volume = scan.pixels.transpose(order)[tuple(slice(None, None, -1 if f else 1) for f in mirrored)]
    return replace(
        scan,
        shape=shape,
        read=lambda i: np.ascontiguousarray(volume[i]),
        files=(scan.files[scan.shape[0] // 2],) * shape[0],
        frames=tuple(range(shape[0])),
        spacing_mm=tuple(float(np.linalg.norm(x)) for x in (s, d, r)),
        windows=(scan.window,) * shape[0],
        geometry=Geometry(origin + np.arange(shape[0])[:, None] * s, d / np.linalg.norm(d), r / np.linalg.norm(r)),
    )


def mid_sagittal(scan: Scan) -> int:
    """Index of the plane in the middle of a sagittal stack, by position in the patient.

    A stack without geometry has its middle plane there; of an even number of planes it is the one after the middle.

    Raises:
        ScanError: the planes are not sagittal; `sagittal` cuts them so.
    """
    if scan.plane not in (None, SAGITTAL):
        raise ScanError(f"{scan.path}: its planes are {scan.plane}; expected sagittal ones, as `sagittal(scan)` gives.")
    if scan.positions is None:
        return scan.shape[0] // 2
    middle = (scan.positions.min() + scan.positions.max()) / 2
    # the last of those equally near in ascending order, up to rounding
    distance = np.abs(scan.positions - middle)
    nearest = np.flatnonzero(distance <= distance.min() + 1e-3)
    return int(nearest[scan.positions[nearest].argmax()])
