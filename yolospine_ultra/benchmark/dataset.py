"""The data of a sweep: which images, whose, in which fold; their fingerprint; and a cell's own view of them.

Patients and folds come from `annotations.csv` beside the images (columns image, patient and, for folds, fold), as
spider-lumbar and the phantom have it; without one the patient is read from the file name and the folds are
scikit-learn's `GroupKFold` by patient. Slices of one patient are near-duplicates, so that nothing here ever splits by
image. Written for this project.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from ultralytics.data.utils import IMG_FORMATS, check_det_dataset, img2label_paths

from yolospine_ultra.benchmark.family import CellData
from yolospine_ultra.data.checks import resolve_data
from yolospine_ultra.data.relations import KEYS, read_relations
from yolospine_ultra.evaluate.dataset_files import check_names
from yolospine_ultra.evaluate.findings import ImageFindings, Problem, read_dataset
from yolospine_ultra.evaluate.image_names import ImageNames
from yolospine_ultra.evaluate.intervals import PATIENT

LEAST_TRAINING = 2  # images; the batch norm of a smaller training has nothing to average


@dataclass(frozen=True)
class BenchmarkImage:
    """An image of the data.

    Attributes:
        name: path below the folder that all images share, with forward slashes.
        file, label: where they are; the label file may be missing, which means an image without findings.
        split: "train" or "val".
        patient: whose it is.
        fold: 0 to K - 1, None without folds.
    """

    name: str
    file: str
    label: str
    split: str
    patient: str
    fold: int | None = None


@dataclass(frozen=True)
class BenchmarkData:
    """All images of a sweep.

    Attributes:
        name: stem of the dataset's YAML.
        names: class names by index.
        channels: of the images, 1 or 3.
        images: sorted by name.
        folds: how many, None for train and val as they are.
        declared: what the dataset's YAML declares about its classes, by the keys of `data.relations`.
    """

    name: str
    names: dict[int, str]
    channels: int
    images: tuple[BenchmarkImage, ...]
    folds: int | None
    declared: dict[str, Any] = field(default_factory=dict)

    def split(self, fold: int | None) -> tuple[list[BenchmarkImage], list[BenchmarkImage]]:
        """Images to train on and to evaluate on: all patients but the fold's and the fold's, or train and val."""
        val = [x.split == "val" if fold is None else x.fold == fold for x in self.images]
        pairs = list(zip(self.images, val, strict=True))
        return [x for x, v in pairs if not v], [x for x, v in pairs if v]

    def evaluated(self) -> list[BenchmarkImage]:
        """Every image that some cell evaluates."""
        return [x for x in self.images if self.folds is not None or x.split == "val"]

    def fingerprint(self) -> str:
        """SHA-256 of classes, splits, patients, and the bytes of every image and label; not of where they lie."""
        said = [sorted(self.names.items()), self.channels, self.folds, *sorted(self.declared.items())]
        digest = hashlib.sha256(json.dumps(said).encode())
        for x in self.images:
            digest.update(json.dumps([x.name, x.split, x.patient, x.fold]).encode())
            digest.update(hashlib.sha256(Path(x.file).read_bytes()).digest())
            label = Path(x.label)
            digest.update(hashlib.sha256(label.read_bytes()).digest() if label.is_file() else b"none")
        return digest.hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for the processes that run the cells."""
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> BenchmarkData:
        """The inverse of `to_json`."""
        images = tuple(BenchmarkImage(**x) for x in content["images"])
        names = {int(k): v for k, v in content["names"].items()}
        return BenchmarkData(**{**content, "names": names, "images": images})


def read_data(
    data: str, root: str | None = None, folds: int | None = None, patient: str = PATIENT, seal_val: bool = False
) -> BenchmarkData:
    """Read which images a dataset has, whose they are, and share them out into folds.

    Args:
        data: dataset YAML of the host, or the name of one of the plugin's; one that makes itself is made.
        root: folder in place of the YAML's `path`.
        folds: number of folds over the patients of train and val, None to train on train and evaluate on val.
        patient: regular expression whose first group, searched in a file's stem, is the patient, where no
            `annotations.csv` tells.
        seal_val: folds over train alone; val is not read. For what is chosen and will be reported on val.

    Raises:
        FileNotFoundError: no such YAML, folder or images.
        ValueError: val sealed without folds, patients that stand in both splits or cannot be told, folds that cannot
            be made.
    """
    if seal_val and folds is None:
        raise ValueError("--seal-val needs --folds: with val sealed, only folds of train can be evaluated.")
    try:
        content = check_det_dataset(resolve_data(data, root))
    except (SyntaxError, TypeError) as error:  # the host's words for a YAML that is no dataset
        raise ValueError(f"{data} cannot be used: {error}") from error
    check_names(content["names"].values(), data)
    read_relations(content)  # refuses what cannot be meant
    declared = {k: content[k] for k in KEYS if content.get(k)}
    files = {"train": _list_images(content["train"]), "val": [] if seal_val else _list_images(content["val"])}
    both = set(files["train"]) & set(files["val"])
    if both:
        raise ValueError(
            f"{len(both)} images are in train and in val, such as {min(both)}; every image needs one split."
        )
    every = sorted(files["train"] + files["val"])
    shared = Path(os.path.commonpath([f.parent for f in every]))
    labels = img2label_paths([str(f) for f in every])
    names = [f.relative_to(shared).as_posix() for f in every]
    table = _read_annotations(Path(content["path"]) / "annotations.csv", names)
    # one row a box: images without findings do not stand in the table, but their patient's other images do
    listed = [(f, n) for f, n in zip(every, names, strict=True) if n in table]
    same = {_patient(f, patient): table[n] for f, n in listed} if len(listed) < len(every) else {}
    train, images = set(files["train"]), []
    for file, name, label in zip(every, names, labels, strict=True):
        split = "train" if file in train else "val"
        who, fold = table.get(name) or same.get(_patient(file, patient)) or (_patient(file, patient), None)
        images.append(BenchmarkImage(name, str(file), label, split, who, fold))
    named = replace(
        BenchmarkData(Path(data).stem, content["names"], content["channels"], tuple(images), folds, declared),
        images=tuple(_share_out(images, folds, bool(table)) if folds is not None else _without_folds(images)),
    )
    if folds is None:
        _check_patients(named.images)
    return named


def _list_images(places: str | list[str]) -> list[Path]:
    """Image files in folders and lists, as the host finds them, sorted.

    Raises:
        FileNotFoundError: a place that is not there, or no image in any.
    """
    found: set[Path] = set()
    for place in map(Path, [places] if isinstance(places, str) else places):
        if place.is_dir():
            files: Iterable[Path] = place.rglob("*.*")
        elif place.is_file():
            lines = [x.strip() for x in place.read_text(encoding="utf-8-sig").splitlines()]
            files = [place.parent / x[2:] if x.startswith("./") else Path(x) for x in lines if x]
        else:
            raise FileNotFoundError(f"{place} is not there; expected images, give the data's folder with --data-root.")
        found |= {f.absolute() for f in files if f.suffix[1:].lower() in IMG_FORMATS}
    missing = [f for f in sorted(found) if not f.is_file()]
    if missing or not found:
        raise FileNotFoundError(f"{missing[0]} is not there." if missing else f"No images in {places}.")
    return sorted(found)


def _read_annotations(file: Path, names: Sequence[str]) -> dict[str, tuple[str, int | None]]:
    """Patient and fold of each image that it lists; empty without a file or without the column `patient`.

    Args:
        file: of columns image (a path, file name or stem), patient and, for folds, fold.
        names: of the images; the file may list others too.

    Raises:
        ValueError: an image that stands in it with two patients or folds, a name that two images have, a fold that is
            no number, or none of the images in it.
    """
    if not file.is_file():
        return {}
    known, found = ImageNames(names), {}
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines)
        if not {"image", "patient"} <= set(rows.fieldnames or ()):
            return {}
        for row in rows:
            fold = row.get("fold") or None
            if fold is not None and not fold.isdecimal():
                raise ValueError(f"{file}: fold {fold!r} of {row['image']}, expected a whole number from 0.")
            here = (row["patient"], int(fold) if fold is not None else None)
            meant = known.find(row["image"])
            if len(meant) > 1:
                both = " and ".join(names[i] for i in meant[:2])
                raise ValueError(f"{file}: {row['image']} may be {both}; give its folder too.")
            if any(found.setdefault(names[i], here) != here for i in meant):
                raise ValueError(f"{file}: {row['image']} stands in it with two patients or folds; correct the file.")
    if not found:
        raise ValueError(f"{file} lists none of the images, such as {names[0]}; correct its column `image`.")
    return found


def _patient(file: Path, pattern: str) -> str:
    """The patient that a file's name tells."""
    match = re.search(pattern, file.stem)
    if not match or not match.groups() or not match[1]:
        raise ValueError(f"{file.name} tells no patient by {pattern!r}; give --patient an expression with one group.")
    return match[1]


def _without_folds(images: Sequence[BenchmarkImage]) -> list[BenchmarkImage]:
    """The images, without the folds that a file may have given them."""
    return [replace(x, fold=None) for x in images]


def _check_patients(images: Sequence[BenchmarkImage]) -> None:
    """Refuse patients that stand in both splits."""
    sides = [{x.patient for x in images if x.split == s} for s in ("train", "val")]
    both = sorted(sides[0] & sides[1])
    if both:
        raise ValueError(
            f"{len(both)} patients have images in train and in val, such as {both[0]!r}; split by patient, or, if that "
            "is no patient, give --patient an expression that finds one in a file's name, '(.*)' for one an image."
        )


def _share_out(images: Sequence[BenchmarkImage], folds: int, listed: bool) -> list[BenchmarkImage]:
    """The images with their folds: those of `annotations.csv` where it has as many, else `GroupKFold` by patient.

    Raises:
        ValueError: fewer patients than folds, or folds of the file that divide a patient.
    """
    patients = sorted({x.patient for x in images})
    if not 2 <= folds <= len(patients):
        raise ValueError(f"{folds} folds of {len(patients)} patients; expected 2 to {len(patients)}.")
    given: dict[str, set[int]] = {
        p: {x.fold for x in images if x.patient == p and x.fold is not None} for p in patients
    }
    if listed and {f for found in given.values() for f in found} == set(range(folds)):
        torn = [p for p in patients if len(given[p]) != 1]
        if torn:
            raise ValueError(f"annotations.csv gives patient {torn[0]} {len(given[torn[0]])} folds, expected one.")
        return [replace(x, fold=min(given[x.patient])) for x in images]
    from sklearn.model_selection import GroupKFold  # seconds to import, which every cell would pay

    groups = [x.patient for x in images]
    made = [replace(x, fold=None) for x in images]
    for fold, (_, inside) in enumerate(GroupKFold(folds).split(images, groups=groups)):
        for i in inside:
            made[i] = replace(made[i], fold=fold)
    return made


def make_view(data: BenchmarkData, fold: int | None, folder: Path) -> CellData:
    """Links to a cell's images and labels in a folder of its own, with lists and a YAML for the host.

    Args:
        data: the sweep's data.
        fold: as in `BenchmarkData.split`.
        folder: where to; what is there is replaced.

    Raises:
        ValueError: too few images on one side.
    """
    train, val = data.split(fold)
    if len(train) < LEAST_TRAINING or not val:
        found = f"{len(train)} images to train on, {len(val)} to evaluate on"
        raise ValueError(f"{found}; expected {LEAST_TRAINING} and 1 or more.")
    return _write_view(data, train, val, folder)


def _write_view(
    data: BenchmarkData, train: Sequence[BenchmarkImage], val: Sequence[BenchmarkImage], folder: Path
) -> CellData:
    """A view of these images."""
    shutil.rmtree(folder, ignore_errors=True)
    lists = {part: [_link(x, folder) for x in images] for part, images in (("train", train), ("val", val))}
    for part, files in lists.items():
        (folder / f"{part}.txt").write_text("".join(f"{f}\n" for f in files), encoding="utf-8")
    content = {"path": str(folder), "train": "train.txt", "val": "val.txt", "channels": data.channels}
    content |= {"names": data.names, **data.declared}
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return CellData(file, tuple(lists["train"]), tuple(lists["val"]), data.names, data.channels)


def _link(image: BenchmarkImage, folder: Path) -> Path:
    """Links to an image and its label, where the host looks for it, under a folder; the image's."""
    here = folder / "images" / image.name
    link_file(Path(image.file), here)
    if Path(image.label).is_file():
        link_file(Path(image.label), Path(img2label_paths([str(here)])[0]))
    return here


def link_file(source: Path, link: Path) -> None:
    """Make `link` the same file as `source`; a copy where the system has no links."""
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(source)
    except OSError:  # systems where links need a privilege
        shutil.copyfile(source, link)


def read_truth(data: BenchmarkData, folder: Path) -> list[ImageFindings]:
    """Ground truth of every image that some cell evaluates, in their order, under their names.

    Args:
        data: the sweep's data.
        folder: for a view of these images; removed at the end.

    Raises:
        ValueError: an image or its labels cannot be read.
    """
    images = data.evaluated()
    cell = _write_view(data, images, images, folder)
    problems: list[Problem] = []
    found, _ = read_dataset(cell.yaml, "val", report=problems.append)
    shared = Path(os.path.commonpath([f.parent for f in cell.val]))
    by_file = {shared / x.name: x for x in found}
    shutil.rmtree(folder)
    missing = [f for f in cell.val if f not in by_file]
    if missing:
        why = "; ".join(str(p) for p in problems[:3])
        raise ValueError(f"{len(missing)} evaluated images cannot be used, such as {missing[0].name}: {why}")
    pairs = zip(images, cell.val, strict=True)
    return [ImageFindings(x.name, by_file[f].boxes, by_file[f].classes) for x, f in pairs]
