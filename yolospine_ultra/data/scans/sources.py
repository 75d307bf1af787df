"""What a prediction's source consists of, where it has scans: files, series of a folder, and the host's images.

Folders, globs and lists in text files are expanded by the host's rules (`LoadImagesAndVideos`). In a folder DICOM files
are put together by series, one item each; files that are named one by one, or by a glob, are one item each. A folder in
a glob or in a list stands for the scans in it.
"""

from __future__ import annotations

import csv
import glob
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ultralytics.data.utils import IMG_FORMATS, VID_FORMATS
from ultralytics.utils import LOGGER

from yolospine_ultra.data.scans.dicom import read_headers, stack_series
from yolospine_ultra.data.scans.dicom_file import is_dicom
from yolospine_ultra.data.scans.scan import ScanError
from yolospine_ultra.data.scans.view import Place, View, read_view, scan_kind, suffix_kind, view_of

SHOWN = 5  # files that a line names; the count says how many there are
_BESIDE = {".raw", ".zraw"}  # pixels of MetaImage headers


@dataclass(frozen=True)
class Item:
    """One image or video of a source.

    Attributes:
        name: path, or what the host calls an image in memory.
        view: reads a scan; None for what the host reads.
        memory: an element of a list that the host turns into an image: an array, a PIL image, a path or a URL.
    """

    name: str
    view: Callable[[], View] | None = None
    memory: Any = None

    @property
    def video(self) -> bool:
        """Whether the host takes it for a video."""
        return self.view is None and self.memory is None and _suffix(self.name) in VID_FORMATS


@dataclass
class Sources:
    """The items of a source in order, and why others were left out."""

    items: list[Item] = field(default_factory=list)
    errors: list[ScanError] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    @property
    def has_scans(self) -> bool:
        """Whether there is anything that the host would not read as it should be."""
        return bool(self.errors) or any(i.view for i in self.items)


def find_sources(source: Any) -> Sources | None:
    """The items of a source that has scans, or None for one that is the host's alone.

    Args:
        source: what `predict` takes.

    Raises:
        ScanError: scans were found, and none of them can be read.
        ImportError: an optional package that a scan needs is missing.
    """
    found = Sources()
    if isinstance(source, (str, Path)) and _is_path(str(source)):
        _add_path(found, str(source))
    elif isinstance(source, (list, tuple)) and any(_is_scan(x) for x in source):
        for i, element in enumerate(source):
            if _is_scan(element):
                _add_file(found, str(Path(element).absolute()))
            else:
                found.items.append(Item(getattr(element, "filename", "") or f"image{i}.jpg", memory=element))
    if not found.has_scans:
        return None
    for e in found.errors:
        LOGGER.warning(str(e))
    if found.ignored:
        names = ", ".join(os.path.basename(f) for f in found.ignored[:SHOWN])
        more = ", ..." if len(found.ignored) > SHOWN else ""
        LOGGER.info(f"{len(found.ignored)} other files are no images or scans: {names}{more}")
    if not found.items:
        raise none_left(found.errors)
    return found


def none_left(errors: list[ScanError]) -> ScanError:
    """The error for a source of which nothing could be read."""
    if len(errors) == 1:
        return errors[0]
    return ScanError(f"None of {len(errors)} scans could be read; the first: {errors[0]}")


def _is_path(source: str) -> bool:
    """Whether the host takes a string for a file, folder, glob or list of them."""
    return not ("://" in source or source.isnumeric() or source.lower().endswith(".streams")) and (
        "*" in source or os.path.exists(source)
    )


def _is_scan(element: Any) -> bool:
    return isinstance(element, (str, Path)) and (os.path.isdir(element) or scan_kind(element) is not None)


def _suffix(name: str) -> str:
    return name.rpartition(".")[-1].lower()


def _add_path(found: Sources, source: str) -> None:
    """Expand a file, folder, glob or text file, by the host's rules."""
    parent, lines = None, [source]
    if Path(source).suffix.lower() in {".txt", ".csv"}:
        parent, lines = Path(source).parent, sorted(_lines(source))
    for line in lines:
        path = str(Path(line).absolute())
        if parent and not (glob.glob(path, recursive=True) if "*" in path else os.path.exists(path)):
            path = str((parent / line).absolute())
        if "*" in path:
            for f in sorted(glob.glob(path, recursive=True)):
                _add_file(found, f)
        elif os.path.isdir(path):
            _add_folder(found, path, images=True)
        elif os.path.exists(path):
            _add_file(found, path)
        else:
            raise FileNotFoundError(f"{line} does not exist")


def _lines(file: str) -> list[str]:
    """Sources that a text or CSV file names."""
    text = Path(file).read_text(encoding="utf-8-sig")
    rows = list(csv.reader(text.splitlines())) if file.lower().endswith(".csv") else [[x] for x in text.splitlines()]
    rows = rows[1:] if rows[:1] == [["source"]] else rows
    return [p.strip() for row in rows for p in row if p.strip()]


def _add_file(found: Sources, path: str) -> None:
    """One item for one file; a folder's scans for a folder."""
    if os.path.isdir(path):
        _add_folder(found, path, images=False)
    elif scan_kind(path):
        found.items.append(Item(path, lambda: read_view(path)))
    elif _suffix(path) in IMG_FORMATS | VID_FORMATS:
        found.items.append(Item(path))
    else:
        found.ignored.append(path)


def _add_folder(found: Sources, folder: str, images: bool) -> None:
    """The scans of a folder, DICOM files by series, in the order of their first names, with its images and videos."""
    series: dict[str, list[Any]] = defaultdict(list)
    items: dict[str, Item] = {}
    refused = len(found.errors)
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*"))):
        if os.path.isdir(path) or Path(path).suffix.lower() in _BESIDE:
            continue
        kind = scan_kind(path)
        if kind == "dicom" and is_dicom(Path(path)) and os.path.basename(path).upper() != "DICOMDIR":
            try:
                for uid, frames in read_headers(Path(path)).items():
                    key = uid or path  # without a UID nothing says that files belong together
                    series[key] += frames
                    items.setdefault(key, _series_item(path, folder, key, series))
            except ScanError as e:
                found.errors.append(e)
        elif (kind and suffix_kind(path) == kind) or kind == "deep":
            items[path] = Item(path, lambda path=path: read_view(path))
        elif images and "." in os.path.basename(path) and _suffix(path) in IMG_FORMATS | VID_FORMATS:
            items[path] = Item(path)
        else:
            found.ignored.append(path)
    found.items += items.values()
    if not items and len(found.errors) == refused and _holds_scans_below(folder):
        found.errors.append(
            ScanError(
                f"{folder}: has scans in its sub-folders alone; expected them in the folder: give {folder}/* for each "
                "sub-folder."
            )
        )


def _holds_scans_below(folder: str) -> bool:
    """Whether a folder in a folder has scans."""
    return any(map(scan_kind, glob.iglob(os.path.join(glob.escape(folder), "*", "*"))))


def _series_item(path: str, folder: str, key: str, series: dict[str, list[Any]]) -> Item:
    """A series of a folder, of which more frames may still be found."""

    def view() -> View:
        found = view_of(stack_series(Path(folder), series[key]))
        return replace(found, place=replace(found.place, saved_as=_saved_as(found.place, folder, key, series)))

    return Item(path, view)


def _saved_as(place: Place, folder: str, key: str, series: dict[str, list[Any]]) -> str:
    """The folder's name for its one series of several files, of several such series with the slice's; else none."""
    several = [k for k, frames in series.items() if len({f.path for f in frames}) > 1]
    if key not in several:
        return ""
    name = os.path.basename(os.path.abspath(folder))  # slices have the same names in the folders of all patients
    stem = place.file.stem if suffix_kind(place.file) else place.file.name
    return name if len(several) == 1 else f"{name}-{stem}"
