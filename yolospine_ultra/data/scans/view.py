"""From a file or a series folder to the one upright 8-bit plane that a detector sees."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ultralytics.utils import LOGGER

from yolospine_ultra.data.scans.deep import is_deep, open_deep
from yolospine_ultra.data.scans.dicom import open_dicom, open_series
from yolospine_ultra.data.scans.dicom_file import is_dicom
from yolospine_ultra.data.scans.scan import MAX_PLANE_PIXELS, SAGITTAL, Scan, ScanError, mid_sagittal, sagittal, upright
from yolospine_ultra.data.scans.volume import open_metaimage, open_nifti
from yolospine_ultra.data.scans.window import hides_all, to_uint8

_OPENERS = {"dicom": open_dicom, "nifti": open_nifti, "metaimage": open_metaimage, "deep": open_deep}
_SUFFIXES = {
    ".dcm": "dicom",
    ".dicom": "dicom",
    ".ima": "dicom",
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".mha": "metaimage",
    ".mhd": "metaimage",
}
SQUARE = 0.01  # pixels count as square when their sides differ by less than this share


@dataclass(frozen=True, eq=False)
class Place:
    """Where in a scan, and in the patient, an image of H x W pixels lies.

    Attributes:
        file: file that holds the plane; of a series folder one of its files.
        index: number of the plane in its upright stack, from 0.
        planes: how many the stack has.
        spacing_mm: size of a pixel (rows, columns) in mm, or None where unknown.
        plane: ``sagittal``, ``coronal``, ``axial``, or None where unknown.
        cut_mm: distance of the stored slices, where the plane was cut across them, else None.
        corner: patient position (LPS, mm) of the image's upper left corner (3,), or None where unknown.
        axes: unit vectors down and right in the patient (2, 3), or None where unknown.
        saved_as: of a series in a folder the name, without suffix, that results are saved under; else empty, for that
            of the file.
    """

    file: Path
    index: int = 0
    planes: int = 1
    spacing_mm: tuple[float, float] | None = None
    plane: str | None = None
    cut_mm: float | None = None
    corner: np.ndarray | None = field(default=None, repr=False)
    axes: np.ndarray | None = field(default=None, repr=False)
    saved_as: str = ""

    def patient_mm(self, xy: np.ndarray) -> np.ndarray | None:
        """Patient positions (..., 3), LPS in mm, of image points (..., 2), x and y in pixels from the corner."""
        if self.corner is None or self.spacing_mm is None:
            return None
        xy = np.asarray(xy, dtype=float)
        return self.corner + xy[..., ::-1] * self.spacing_mm @ self.axes


@dataclass(frozen=True, eq=False)
class View:
    """The plane of a scan that a detector sees.

    Attributes:
        image: uint8 (H, W), head or front up, anterior or the right side left where the place in the patient is known.
        place: where it lies.
    """

    image: np.ndarray = field(repr=False)
    place: Place

    def channels(self, n: int = 3) -> np.ndarray:
        """The image as a detector of `n` channels takes it: uint8 (H, W, n), all channels equal."""
        return np.repeat(self.image[..., None], n, axis=2)


def suffix_kind(path: str | Path) -> str | None:
    """As `scan_kind`, by the name alone: None for what the host knows, and for what only its content would tell."""
    name = os.path.basename(path).lower()
    return next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), None)


def scan_kind(path: str | Path) -> str | None:
    """What reads a file: ``dicom``, ``nifti``, ``metaimage``, ``deep`` (grey image above 8 bits), None for the host.

    By its suffix; PNG and TIFF by their header; a file without a suffix that the host knows by DICOM's mark.
    """
    path = Path(path)
    kind = suffix_kind(path)
    if kind is not None or not path.is_file():
        return kind
    if is_deep(path):
        return "deep"
    return "dicom" if not known_to_host(path) and is_dicom(path) else None


def known_to_host(path: Path) -> bool:
    """Whether the host takes a file for an image or a video, by its suffix."""
    from ultralytics.data.utils import IMG_FORMATS, VID_FORMATS

    return path.suffix[1:].lower() in IMG_FORMATS | VID_FORMATS


def open_scan(path: str | Path) -> Scan:
    """A scan whose headers are read and checked; pixels follow when `read` or `pixels` asks for them.

    Args:
        path: a DICOM, NIfTI, MetaImage or 16-bit PNG or TIFF file, or a folder with the DICOM files of one series.

    Raises:
        ScanError: one sentence with the file, what was found and what was expected.
        ImportError: an optional package is missing; names the extra.
    """
    path = Path(path)
    if path.is_dir():
        return open_series(path)
    kind = scan_kind(path)
    if kind is None:
        raise ScanError(
            f"{path}: is no scan; expected DICOM, NIfTI (.nii, .nii.gz), MetaImage (.mha, .mhd), or a grey PNG or TIFF "
            "of more than 8 bits."
        )
    return _OPENERS[kind](path)


def read_scan(path: str | Path) -> Scan:
    """As `open_scan`, with all `pixels` (S, H, W) read, as they are stored; `sagittal` gives upright planes."""
    scan = open_scan(path)
    scan.pixels  # noqa: B018  (reads, and keeps)
    return scan


def read_view(path: str | Path) -> View:
    """The plane of a file or series folder that a detector sees: of a stack the mid-sagittal one.

    Raises:
        ScanError: as for `open_scan`, also for a stack that has no sagittal plane.
    """
    return view_of(open_scan(path))


def view_of(scan: Scan) -> View:
    """The mid-sagittal plane of a stack, or the one plane there is: upright, windowed, with square pixels."""
    cut_mm = None
    if scan.geometry is not None and scan.shape[0] > 1:
        cut_mm = scan.spacing_mm[0] if scan.plane != SAGITTAL and scan.spacing_mm else None
        scan = sagittal(scan)
    else:
        scan = upright(scan)
    index = mid_sagittal(scan) if scan.shape[0] > 1 else 0
    plane, window = scan.read(index), scan.windows[index] if scan.windows else None
    if hides_all(plane, window):
        LOGGER.warning(f"{scan.path}: its window {window} shows none of its grey values; their percentiles are taken.")
        window = None
    image = to_uint8(plane, window)
    spacing = scan.spacing_mm and scan.spacing_mm[1:]
    image, spacing = _square(scan, image, spacing)
    corner = axes = None
    if scan.geometry is not None and spacing is not None:
        g = scan.geometry
        corner = g.origins[index] - g.down * scan.spacing_mm[1] / 2 - g.right * scan.spacing_mm[2] / 2
        axes = np.stack([g.down, g.right])
    return View(image, Place(scan.files[index], index, scan.shape[0], spacing, scan.plane, cut_mm, corner, axes))


def _square(
    scan: Scan, image: np.ndarray, spacing: tuple[float, float] | None
) -> tuple[np.ndarray, tuple[float, float] | None]:
    """The image enlarged along its coarser side, where its pixels are not square."""
    if spacing is None or abs(spacing[0] - spacing[1]) <= SQUARE * min(spacing):
        return image, spacing
    import cv2

    fine = min(spacing)
    h, w = (max(round(n * mm / fine), 1) for n, mm in zip(image.shape, spacing, strict=True))
    if h * w > MAX_PLANE_PIXELS:
        raise ScanError(
            f"{scan.path}: has pixels of {spacing[0]:.4g} by {spacing[1]:.4g} mm; expected nearly square ones."
        )
    resized = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    return resized, (image.shape[0] * spacing[0] / h, image.shape[1] * spacing[1] / w)
