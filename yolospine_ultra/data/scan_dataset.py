"""The host's dataset, which also takes scans: DICOM, NIfTI, MetaImage, and grey PNG or TIFF of more than 8 bits.

A scan counts as one image, the plane that `read_view` gives, and its labels are in that upright plane. Labels lie where
the host expects them: ``images/train/NAME.dcm`` (``.nii.gz``, ...) has ``labels/train/NAME.txt``. A folder of a DICOM
series, ``images/train/NAME/*`` with ``labels/train/NAME.txt``, is one image, without that file a background; see
`series_folders`. Images of 8 bits are read by the host.
"""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import IMG_FORMATS, img2label_paths, verify_image_label
from ultralytics.utils import LOGGER

from yolospine_ultra.data.scans import ScanError, View, is_dicom, read_view, scan_kind, suffix_kind
from yolospine_ultra.data.scans.dicom import read_headers
from yolospine_ultra.data.scans.view import known_to_host

COARSE_MM = 2.0  # planes cut across slices that are further apart are named: a sagittal series would show more


def label_paths(images: Iterable[str]) -> list[str]:
    """The label file of each image, scan or series folder."""

    def name(image: str) -> str:  # the host drops what follows the last dot
        if os.path.isdir(image):
            return f"{image}.series"
        return image[:-3] if image.lower().endswith(".nii.gz") else image

    return img2label_paths([name(f) for f in images])


def series_folders(folders: Iterable[str]) -> set[str]:
    """Those of `folders` that are one DICOM series, and so one image.

    A folder with DICOM files is one where it has a label file of its own. Without, it is where it holds at least two
    DICOM files whose headers can be read, all of one SeriesInstanceUID, and no file of it has a label file.

    Raises:
        ImportError: pydicom is missing, and headers have to be read.
    """
    folders = list(folders)
    labels = label_paths(folders)
    return {d for d, x in zip(folders, labels, strict=True) if _is_series(Path(d), os.path.isfile(x))}


def _is_series(folder: Path, labelled: bool) -> bool:
    files = [f for f in folder.iterdir() if f.is_file()]
    if labelled:
        return any(map(is_dicom, files))
    if any(map(os.path.isfile, label_paths(map(str, files)))):
        return False
    found = [uid for f in files if not known_to_host(f) and is_dicom(f) for uid in _series_of(f)]
    return len(found) > 1 and len(set(found)) == 1 and found[0] != ""


def _series_of(file: Path) -> list[str]:
    """The SeriesInstanceUID of a DICOM file; none where its header cannot be read."""
    try:
        return list(read_headers(file))
    except ScanError:
        return []


class ScanDataset(YOLODataset):
    """`YOLODataset` over images and scans.

    Scans that cannot be read are named, counted as corrupt and left out, as the host does with images. With
    ``cache="disk"`` a scan's pixels go to ``NAME.dcm.npy`` beside it; nothing else is written there.
    """

    def get_img_files(self, img_path: str | list[str]) -> list[str]:
        """The host's list, with the scans; a series folder stands in place of its files."""
        found, folders = _list_files(img_path)
        series = series_folders(folders)
        if not series and not any(map(suffix_kind, found)):
            return super().get_img_files(img_path)
        files = [f for f in found if f.rpartition(".")[-1].lower() in IMG_FORMATS or suffix_kind(f)]
        files = sorted({f for f in files if os.path.dirname(f) not in series} | series)
        count = self.fraction if isinstance(self.fraction, int) else max(1, round(len(files) * self.fraction))
        return files[:count]

    def get_label_files(self) -> list[str]:
        """The label files of images, scans and series folders."""
        self.label_files = label_paths(self.im_files)
        return self.label_files

    def get_labels(self) -> list[dict]:
        """The host's; the images that are scans are noted for `load_image`."""
        labels = super().get_labels()
        self.scan_files = {f for f in self.im_files if _is_scan(f)}
        return labels

    def verify_args(self) -> tuple:
        """The host's verification, which for scans sees a picture of their size."""
        _, arguments = super().verify_args()
        return verify_scan_label, arguments

    def load_image(
        self, i: int, rect_mode: bool = True, resize_short: bool = False
    ) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
        """As the host's: image i at the input size, its original and its new height and width."""
        if self.ims[i] is not None or self.im_files[i] not in self.scan_files:
            return super().load_image(i, rect_mode, resize_short)
        im = self._scan_pixels(i)
        h0, w0 = im.shape[:2]
        im = _resize(im, self.imgsz, rect_mode, resize_short)
        if self.augment and self.cache != "ram":  # the host's buffer of images for mosaic
            self.ims[i], self.im_hw0[i], self.im_hw[i] = im, (h0, w0), im.shape[:2]
            self.buffer.append(i)
            if 1 < len(self.buffer) >= self.max_buffer_length:
                j = self.buffer.pop(0)
                self.ims[j], self.im_hw0[j], self.im_hw[j] = None, None, None
        return im, (h0, w0), im.shape[:2]

    def _scan_pixels(self, i: int) -> np.ndarray:
        """Plane of scan i at its own size (H, W, channels), from the disk cache where there is one."""
        file = self._scan_cache(i)
        if self.cache == "disk" and file.exists():
            try:
                im = np.load(file, allow_pickle=False)
                if im.dtype == np.uint8 and im.ndim == 3 and im.shape[2] == self.channels:
                    return im
            except (OSError, ValueError, EOFError):
                LOGGER.warning(f"{self.prefix}{file} is damaged, the scan is read again")
        return read_view(self.im_files[i]).channels(self.channels)

    def _scan_cache(self, i: int) -> Path:
        """Where the disk cache of scan i is: its whole name, so that NAME.dcm and NAME.png do not share one."""
        return Path(f"{self.im_files[i]}.npy")

    def cache_images_to_disk(self, i: int) -> None:
        """As the host's, for scans too."""
        if self.im_files[i] not in self.scan_files:
            return super().cache_images_to_disk(i)
        file = self._scan_cache(i)
        if file.exists() and file.stat().st_mtime >= Path(self.im_files[i]).stat().st_mtime:
            return None
        try:
            np.save(file, read_view(self.im_files[i]).channels(self.channels), allow_pickle=False)
        except OSError as e:
            file.unlink(missing_ok=True)
            LOGGER.warning(f"{self.prefix}Failed to cache scan {file}: {e}")
        return None

    def check_cache_disk(self, safety_margin: float = 0.1) -> bool:
        """As the host's, after the folders of the scans, which it does not look at."""
        closed = next((f for f in self.scan_files if not os.access(Path(f).parent, os.W_OK)), None)
        if closed:
            self.cache = None
            LOGGER.warning(f"{self.prefix}Skipping caching images to disk, {Path(closed).parent} is not writable")
            return False
        return super().check_cache_disk(safety_margin)


class _StandIn(BytesIO):
    """A blank picture of a scan's size under the scan's name: what the host's checks of size and labels need."""

    def __init__(self, name: str, shape: tuple[int, int]) -> None:
        super().__init__(cv2.imencode(".png", np.zeros(shape, np.uint8))[1].tobytes())
        self.name = name

    def __str__(self) -> str:
        return self.name


def verify_scan_label(args: tuple) -> tuple | list:
    """The host's `verify_image_label`, for scans too: arguments and result are the same.

    Raises:
        ImportError: an optional package that a scan needs is missing.
    """
    file, prefix = args[0], args[2]
    if not _is_scan(file):
        return verify_image_label(args)
    try:
        view = read_view(file)
    except ScanError as e:
        return [None, None, None, None, None, 0, 0, 0, 1, f"{prefix}{e}"]
    result = verify_image_label((_StandIn(file, view.image.shape), *args[1:]))
    if result[0] is None:
        return result
    coarse = f"{prefix}{file}: cut across slices {view.place.cut_mm:.3g} mm apart" if _is_coarse(view) else ""
    return (file, *result[1:-1], "\n".join(filter(None, (result[-1], coarse))))


def _is_coarse(view: View) -> bool:
    return view.place.cut_mm is not None and view.place.cut_mm > COARSE_MM


def _is_scan(file: str) -> bool:
    return os.path.isdir(file) or scan_kind(file) is not None


def _list_files(img_path: str | list[str]) -> tuple[list[str], list[str]]:
    """All files and all folders that folders hold, at any depth, and files that text files list; the host's rules."""
    files: list[str] = []
    folders: list[str] = []
    for p in map(Path, img_path if isinstance(img_path, list) else [img_path]):
        if p.is_dir():
            inside = glob.escape(str(p))
            files += glob.glob(os.path.join(inside, "**", "*.*"), recursive=True)
            folders += [d.rstrip(os.sep) for d in glob.glob(os.path.join(inside, "**", ""), recursive=True)]
        elif p.is_file():
            lines = p.read_text(encoding="utf-8-sig").strip().splitlines()
            files += [x.replace("./", f"{p.parent}{os.sep}", 1) if x.startswith("./") else x for x in lines]
    return files, folders


def _resize(im: np.ndarray, imgsz: Any, rect_mode: bool, resize_short: bool) -> np.ndarray:
    """An image (H, W, C) at the input size, by the host's rules (`BaseDataset.load_image`)."""
    h0, w0, channels = im.shape
    shape = tuple(imgsz) if isinstance(imgsz, (tuple, list)) else (imgsz, imgsz)
    size = max(shape)
    h, w = shape
    if rect_mode:
        r = size / (min(h0, w0) if resize_short else max(h0, w0))
        h, w = math.ceil(h0 * r), math.ceil(w0 * r)
        if not resize_short:
            h, w = min(h, size), min(w, size)
    if (h, w) != (h0, w0):
        im = cv2.resize(im, (w, h), interpolation=cv2.INTER_LINEAR)
    return im.reshape(h, w, channels)
