"""Which images and label files a dataset YAML means, found as the host's loader finds them; nothing is written.

Written for this project. The host's own `check_det_dataset` is not used because it downloads fonts and missing data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ultralytics.data.utils import IMG_FORMATS, check_class_names
from ultralytics.utils import DATASETS_DIR, YAML

from yolospine_ultra.data.labels import Problem
from yolospine_ultra.data.scan_dataset import label_paths, series_folders
from yolospine_ultra.data.scans import suffix_kind
from yolospine_ultra.plugin import cfg_dir

SPLITS = ("train", "val", "test")
ALL = "all"  # stands in the column `class` for what is of no single one


@dataclass(frozen=True)
class DatasetFiles:
    """The files of a split.

    Attributes:
        names: class names in the order of their indices.
        base: folder that the YAML's paths are relative to.
        images: images, scans, and folders of a DICOM series, absolute, sorted, each once.
        labels: the label file of each of them, which need not be there.
    """

    names: list[str]
    base: Path
    images: list[Path]
    labels: list[Path]

    def shown(self, file: Path) -> str:
        """The file's name for messages: relative to `base` where it lies below it."""
        return str(file.relative_to(self.base)) if file.is_relative_to(self.base) else str(file)

    def image_names(self) -> list[str]:
        """A name for each image: its file name, with as many folders as tell all images of the split apart."""
        shared = os.path.commonpath([f.parent for f in self.images])
        return [f.relative_to(shared).as_posix() for f in self.images]

    def strays(self) -> list[Problem]:
        """Label files that belong to no image, kind `extra`, and images that share one, kind `same-stem`."""
        problems, owner = [], {}
        for image, label in zip(self.images, self.labels, strict=True):
            if label in owner:
                detail = f"shares its label file with {owner[label].name}"
                problems.append(Problem(self.shown(image), "same-stem", detail))
            owner.setdefault(label, image)
        for folder in sorted({x.parent for x in self.labels}):
            for file in sorted(folder.glob("*.txt")):
                if file not in owner and file.name != "classes.txt":
                    problems.append(Problem(self.shown(file), "extra", "no image of this name; left alone"))
        return problems


def find_files(data: str | Path, split: str, root: str | Path | None = None) -> DatasetFiles:
    """Find the files of a dataset's split.

    Args:
        data: a dataset YAML of the host's form, or the name of one of the plugin's own.
        split: "train", "val", "test", or "all" for every one that the YAML has.
        root: folder in place of the YAML's `path`.

    Raises:
        FileNotFoundError: no such YAML, no such folder, or no image in the split.
        ValueError: the YAML has no class names, no such split, or is no dataset YAML.
    """
    file = _yaml_file(data)
    content = YAML.load(file)
    if root is not None and not Path(root).is_dir():
        raise FileNotFoundError(f"{root} is not a folder; expected the folder that holds the dataset's images.")
    base = Path(root or content.get("path") or file.parent)
    base = (base if root or base.exists() or base.is_absolute() else DATASETS_DIR / base).absolute()
    present = [s for s in SPLITS if content.get(s)]
    if split != "all" and split not in present:
        raise ValueError(f"{file} has no split {split!r}; it has {', '.join(present) or 'none'}.")
    images: set[Path] = set()
    for part in present if split == "all" else [split]:
        for entry in content[part] if isinstance(content[part], list) else [content[part]]:
            images |= _images_of(base, str(entry), f"the {part} images of {file}")
    if not images:
        raise FileNotFoundError(f"no images in split {split!r} of {file} under {base}.")
    ordered = sorted(images)
    labels = [Path(x) for x in label_paths(map(str, ordered))]
    return DatasetFiles(_class_names(content, file), base, ordered, labels)


def _yaml_file(data: str | Path) -> Path:
    """The file that `data` means."""
    file = Path(data)
    own = cfg_dir() / "datasets" / file.with_suffix(".yaml").name
    if len(file.parts) == 1 and not file.exists() and own.is_file():
        return own
    if not file.is_file() or file.suffix.lower() not in {".yaml", ".yml"}:
        raise FileNotFoundError(f"{data} is not a YAML file; expected a dataset YAML with path, train, val and names.")
    return file


def check_names(names: Iterable[str], data: str | Path) -> None:
    """Refuse a class name that tables need.

    Raises:
        ValueError: a class is called as the mean.
    """
    if ALL in names:
        raise ValueError(f"{data} has a class called {ALL!r}, which is what tables call the mean; rename it.")


def _class_names(content: dict, file: Path) -> list[str]:
    """Class names in the order of their indices, as the host checks them."""
    if not content.get("names"):
        raise ValueError(f"{file} has no `names`; expected the names of its classes.")
    try:
        names = check_class_names(content["names"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"`names` of {file} cannot be used: {error}") from error
    check_names(names.values(), file)
    return [names[i] for i in range(len(names))]


def _images_of(base: Path, entry: str, what: str) -> set[Path]:
    """Images of one entry of a split: a folder, or a text file that lists images."""
    place = base / entry
    if not place.exists() and entry.startswith("../"):  # as the host: a YAML inside its dataset's folder
        place = base / entry[3:]
    if place.is_dir():
        found: Iterable[Path] = list(place.rglob("*"))
        series = {Path(d) for d in series_folders(str(d) for d in [place, *found] if d.is_dir())}
        found = [f for f in found if f.parent not in series and f not in series]
    elif place.is_file():
        lines = map(str.strip, place.read_text(encoding="utf-8-sig").split("\n"))
        found, series = [place.parent / x[2:] if x.startswith("./") else Path(x) for x in lines], set()
    else:
        raise FileNotFoundError(f"{place}, {what}, is not there; give the folder that the YAML's paths start from.")
    images = {f for f in found if f.suffix[1:].lower() in IMG_FORMATS or suffix_kind(f)}
    return {f.absolute() for f in images | series}
