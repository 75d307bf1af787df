"""The images of a study: those of a dataset's split with their labels, or a folder's without.

Written for this project. Images are read as `predict` reads them: 8 bits, scans as the upright plane that a detector
sees. What cannot be read is reported and left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from ultralytics.data.utils import IMG_FORMATS
from ultralytics.utils.patches import imread

from yolospine_ultra.data.images import open_image
from yolospine_ultra.data.labels import Problem
from yolospine_ultra.data.scans import read_view, scan_kind, suffix_kind
from yolospine_ultra.evaluate.dataset_files import find_files
from yolospine_ultra.evaluate.findings import ImageFindings, Reporter, log_problem, read_dataset
from yolospine_ultra.evaluate.intervals import PATIENT, patients_of


@dataclass(frozen=True, eq=False)
class StudyImages:
    """The images of a study.

    Attributes:
        names: of each, unique.
        files: where each is, a folder for a DICOM series.
        fingerprint: SHA-256 of names, pixels and labels.
        truth: labelled findings of each, None without labels.
        classes: class names, None without labels.
        patients: whose each is, None without labels.
    """

    names: list[str]
    files: list[Path]
    fingerprint: str
    truth: list[ImageFindings] | None = None
    classes: list[str] | None = None
    patients: list[str] | None = None

    def __len__(self) -> int:
        return len(self.files)


def read_labelled(
    data: str | Path,
    split: str = "val",
    root: str | Path | None = None,
    pattern: str = PATIENT,
    report: Reporter = log_problem,
) -> StudyImages:
    """The images of a dataset's split; arguments and errors as `evaluate.findings.read_dataset`.

    Args:
        data: dataset YAML, or the name of one of the plugin's.
        split: "train", "val", "test" or "all".
        root: folder in place of the YAML's `path`.
        pattern: as in `evaluate.intervals.patients_of`.
        report: called with every problem.
    """
    truth, classes = read_dataset(data, split, root, report)
    found = find_files(data, split, root)
    files = dict(zip(found.image_names(), found.images, strict=True))
    kept, fingerprint = _readable([x.name for x in truth], [files[x.name] for x in truth], report, truth)
    truth = [truth[i] for i in kept]
    names = [x.name for x in truth]
    return StudyImages(names, [files[n] for n in names], fingerprint, truth, classes, patients_of(names, pattern))


def read_folder(folder: str | Path, report: Reporter = log_problem) -> StudyImages:
    """The images and scans in a folder and the folders below it, without labels.

    Raises:
        FileNotFoundError: no such folder, or no image in it.
        ValueError: none of its images can be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; expected one with images.")
    files = [f for f in sorted(folder.rglob("*")) if f.is_file() and _is_image(f)]
    if not files:
        raise FileNotFoundError(f"no images in {folder}; expected PNG, JPEG, BMP, TIFF, WebP or scans.")
    names = [f.relative_to(folder).as_posix() for f in files]
    kept, fingerprint = _readable(names, files, report)
    return StudyImages([names[i] for i in kept], [files[i].absolute() for i in kept], fingerprint)


def _is_image(file: Path) -> bool:
    return file.suffix[1:].lower() in IMG_FORMATS or suffix_kind(file) is not None


def _readable(
    names: Sequence[str], files: Sequence[Path], report: Reporter, truth: Sequence[ImageFindings] = ()
) -> tuple[list[int], str]:
    """Indices of the images that can be read, and their fingerprint."""
    digest, kept = hashlib.sha256(), []
    for i, (name, file) in enumerate(zip(names, files, strict=True)):
        try:
            _check_whole(file)
            image = read_image(file)
        except (OSError, ValueError) as error:
            report(Problem(name, "unreadable", f"image left out ({error})"))
            continue
        kept.append(i)
        parts = [name.encode(), str(image.shape).encode(), image.tobytes()]
        parts += [truth[i].boxes.tobytes(), truth[i].classes.tobytes()] if truth else []
        for part in parts:
            digest.update(hashlib.sha256(part).digest())
    if not kept:
        raise ValueError(f"none of {len(files)} images can be read.")
    return kept, digest.hexdigest()


def _check_whole(file: Path) -> None:
    """Refuse an image that is damaged or cut short; scans are checked when they are read."""
    if not (file.is_dir() or scan_kind(file)):
        with open_image(file) as image:
            image.load()


def read_image(file: Path) -> np.ndarray:
    """An image or scan in 8 bits: (h, w, 3) BGR, or (h, w) of a scan.

    Raises:
        OSError, ValueError: it cannot be read. OpenCV returns half a picture for a file that was cut short; such files
            are found when a study begins.
        ImportError: an optional package that a scan needs is missing.
    """
    if file.is_dir() or scan_kind(file):
        return read_view(file).image
    pixels = imread(str(file), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f"{file} cannot be decoded")
    return pixels
