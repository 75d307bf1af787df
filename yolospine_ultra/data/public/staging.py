"""Writing a converted dataset: images as they come, then splits by patient, labels, tables, YAML and report at the end.

Written for this project. Layout: `images/SPLIT`, `labels/SPLIT`, `annotations.csv` (a row a box), `images.csv` (a row
an image, also without boxes), `dataset.yaml` (relative paths: the folder can be moved), `report.json`. Images are
written one by one, so that a dataset larger than memory can be converted; the splits are drawn when all are known.
"""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from yolospine_ultra.data.coco import label_text
from yolospine_ultra.data.folders import new_folder
from yolospine_ultra.data.labels import OVERHANG, Problem, printable
from yolospine_ultra.data.public.report import Report
from yolospine_ultra.data.splits import Leak, find_leaks, image_hash, link_groups, similar_pairs, split_groups

SHARES = {"train": 0.7, "val": 0.2, "test": 0.1}  # the paper's 726, 207 and 105 of 1,038 images
SPLITS = tuple(SHARES)

_UNSPLIT = "unsplit"


@dataclass(frozen=True)
class Box:
    """One label.

    Attributes:
        class_id: index of its class.
        xyxy: x1, y1, x2, y2 in pixels of the written image; clipped to it.
        level: disc level or vertebra, empty where unknown.
        grades: further columns of `annotations.csv`.
    """

    class_id: int
    xyxy: tuple[float, float, float, float]
    level: str = ""
    grades: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Image:
    """What is remembered of a written image."""

    name: str
    width: int
    height: int
    patient: str
    series: str
    sequence: str
    spacing_mm: float | None
    source: str
    source_split: str
    boxes: tuple[Box, ...]
    hash: np.ndarray | None


class Staging:
    """A dataset that is being written; see `staging`."""

    def __init__(self, folder: Path, names: Sequence[str], report: Report) -> None:
        self.folder = folder
        self.names = tuple(names)
        self.report = report
        self.images: list[_Image] = []
        self._taken: dict[str, tuple[str, str]] = {}  # stem in lower case: name and split of the source
        (folder / "images" / _UNSPLIT).mkdir(parents=True)

    def add(
        self,
        name: str,
        image: np.ndarray,
        boxes: Sequence[Box],
        patient: str,
        source: str,
        original: Path | None = None,
        series: str = "",
        sequence: str = "",
        spacing_mm: float | None = None,
        source_split: str = "",
    ) -> None:
        """Write an image and remember its labels.

        Args:
            name: stem of the files; characters other than letters, digits, `_`, `-` and `.` become `_`, and where two
                names become one, the second gets a hash of its own. A name that is taken is a problem of the report,
                and the image is left out.
            image: uint8 grey (H, W) or colour (H, W, 3, BGR).
            boxes: its labels; what lies outside the image is clipped away, and named.
            patient: whom it shows; images of one patient stay in one split.
            source: the file it came from, as the user knows it.
            original: PNG or JPEG file with exactly these pixels, copied instead of writing the image anew.
            series: name of the series.
            sequence: t1, t2 and so on.
            spacing_mm: size of a (square) pixel.
            source_split: split that the source has it in.
        """
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", name.strip()).lstrip(".") or "image"
        taken = self._taken.get(stem.lower())  # some file systems do not tell cases apart
        if taken and taken[0] != name:
            stem = f"{stem}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
            taken = self._taken.get(stem.lower())
        if taken:
            self.report.problems.append(Problem(source, "same-name", f"another image is already {stem}; left out"))
            if taken[1] != source_split:
                leak = Leak("image", tuple(sorted((taken[1], source_split))), f"two files are called {name}")
                self.report.source_leaks.append(str(leak))
            return
        self._taken[stem.lower()] = name, source_split
        suffix = original.suffix.lower() if original else ".png"
        target = self.folder / "images" / _UNSPLIT / f"{stem}{suffix}"
        if original:
            shutil.copyfile(original, target)
        else:
            done, png = cv2.imencode(".png", image)
            if not done:
                raise OSError(f"{source} cannot be encoded as PNG")
            target.write_bytes(png.tobytes())
        height, width = image.shape[:2]
        kept = tuple(b for b in (self._clip(box, width, height, source) for box in boxes) if b)
        who, place = printable(patient), printable(source)
        fields = (target.name, width, height, who, series, sequence, spacing_mm, place, source_split, kept)
        self.images.append(_Image(*fields, image_hash(image)))

    def _clip(self, box: Box, width: int, height: int, source: str) -> Box | None:
        """The part of a box inside the image, None where there is none."""
        x1, y1, x2, y2 = box.xyxy
        over = max(-x1 / width, -y1 / height, x2 / width - 1, y2 / height - 1)
        x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        what = f"the {self.names[box.class_id]} box {', '.join(f'{v:g}' for v in box.xyxy)}"
        if not (x2 > x1 and y2 > y1):
            self.report.problems.append(Problem(source, "outside", f"{what} has nothing inside the image; left out"))
            return None
        if over > OVERHANG:
            self.report.problems.append(Problem(source, "overhang", f"{what} overhangs the image; clipped"))
        return replace(box, xyxy=(x1, y1, x2, y2))

    def finish(
        self, splits: Sequence[str], split_names: Sequence[str], head: str, declared: Mapping[str, Any] | None = None
    ) -> None:
        """Move the images into their splits and write everything else.

        Args:
            splits: the split of each image, in the order in which they were added.
            split_names: all splits, also those that stay empty.
            head: comment at the top of `dataset.yaml`.
            declared: what it says about its classes, by the keys of `data.relations`.
        """
        for split in split_names:
            for kind in ("images", "labels"):
                (self.folder / kind / split).mkdir(parents=True, exist_ok=True)
        for image, split in zip(self.images, splits, strict=True):
            source = self.folder / "images" / _UNSPLIT / image.name
            source.rename(self.folder / "images" / split / image.name)
            rows = np.array([_row(box, image) for box in image.boxes]).reshape(-1, 5)
            label = self.folder / "labels" / split / f"{Path(image.name).stem}.txt"
            label.write_text(label_text(rows), encoding="utf-8", newline="\n")
        (self.folder / "images" / _UNSPLIT).rmdir()
        self._write_tables(splits)
        self._write_yaml(split_names, head, declared or {})
        self._count(splits, split_names)
        self.report.write(self.folder / "report.json")

    def _write_tables(self, splits: Sequence[str]) -> None:
        """`images.csv` and `annotations.csv`."""
        grades = list(dict.fromkeys(g for image in self.images for box in image.boxes for g in box.grades))
        with (
            (self.folder / "images.csv").open("w", newline="", encoding="utf-8") as first,
            (self.folder / "annotations.csv").open("w", newline="", encoding="utf-8") as second,
        ):
            images, boxes = csv.writer(first, lineterminator="\n"), csv.writer(second, lineterminator="\n")
            shared = ["image", "split", "patient", "series", "sequence", "width", "height"]
            images.writerow([*shared, "mm_per_px", "boxes", "source_split", "source"])
            boxes.writerow([*shared, "level", "class", "x1", "y1", "x2", "y2", *grades])
            for image, split in zip(self.images, splits, strict=True):
                same = [image.name, split, image.patient, image.series, image.sequence, image.width, image.height]
                spacing = "" if image.spacing_mm is None else f"{image.spacing_mm:.5f}"
                images.writerow([*same, spacing, len(image.boxes), image.source_split, image.source])
                for box in image.boxes:
                    place = [f"{v:.3f}" for v in box.xyxy]
                    extra = [box.grades.get(g, "") for g in grades]
                    boxes.writerow([*same, box.level, self.names[box.class_id], *place, *extra])

    def _write_yaml(self, split_names: Sequence[str], head: str, declared: Mapping[str, Any]) -> None:
        """`dataset.yaml`; without a `path`, the host takes the YAML's own folder. The host needs `train` and `val`."""
        places = {s: f"images/{s}" for s in split_names}
        val = next((s for s in ("val", "test") if s in places), split_names[0])
        if val != "val":
            self.report.notes.append(f"val of dataset.yaml are the images of {val} too.")
        content = {
            "train": places.get("train", "images/train"),
            "val": places[val],
            **({"test": places["test"]} if "test" in places else {}),
            "names": dict(enumerate(self.names)),
            **declared,
        }
        text = "".join(f"# {line}\n" for line in head.splitlines()) + yaml.safe_dump(content, sort_keys=False)
        (self.folder / "dataset.yaml").write_text(text, encoding="utf-8")

    def _count(self, splits: Sequence[str], split_names: Sequence[str]) -> None:
        """Fill in the report's counts and leaks."""
        for split in split_names:
            members = [i for i, s in zip(self.images, splits, strict=True) if s == split]
            counted = Counter(self.names[box.class_id] for i in members for box in i.boxes)
            self.report.images[split] = len(members)
            self.report.patients[split] = len({i.patient for i in members})
            self.report.labels[split] = {name: counted[name] for name in self.names}
        self.report.leaks = self.leaks(splits)

    def leaks(self, splits: Sequence[str]) -> list[str]:
        """What these splits of the images would share."""
        images = self.images
        found = find_leaks(
            [i.name for i in images], list(splits), [i.patient for i in images], [i.hash for i in images]
        )
        return [str(leak) for leak in found]

    def split_by_patient(self, shares: dict[str, float], seed: int) -> list[str]:
        """Splits by patient; patients with look-alike images are kept together, and a note says so."""
        patients = [i.patient for i in self.images]
        pairs = similar_pairs([i.hash for i in self.images])
        pairs = [p for p in pairs if patients[p[0]] != patients[p[1]]]
        for i, j, bits in pairs:
            first, second = self.images[i], self.images[j]
            detail = f"looks like {second.name} of patient {second.patient} ({bits} of 256 bits); kept in one split"
            self.report.problems.append(Problem(first.name, "look-alike", detail))
        for image in self.images:
            if image.hash is None:
                detail = "an image without structure; it takes no part in the search for look-alikes"
                self.report.problems.append(Problem(image.source, "blank", detail))
        counts = np.zeros((len(self.images), len(self.names)))
        for row, image in zip(counts, self.images, strict=True):
            for box in image.boxes:
                row[box.class_id] += 1
        return split_groups(link_groups(patients, pairs), counts, shares, seed)


@contextmanager
def staging(out: str | Path, names: Sequence[str], report: Report) -> Iterator[Staging]:
    """A dataset folder that appears under its name when the block has ended well, and not at all otherwise.

    Args:
        out: destination; must not exist, or be an empty folder.
        names: class names.
        report: filled in; its problems are added to while images are.

    Raises:
        FileExistsError: `out` is taken.
        ValueError: no image was added.
    """
    with new_folder(out) as folder:
        yield Staging(folder, names, report)


def require_images(stage: Staging) -> None:
    """Refuse a dataset without images.

    Raises:
        ValueError: says what was wrong with the first of those that were left out.
    """
    if not stage.images:
        problems = stage.report.problems
        why = f" {len(problems)} problems, the first: {problems[0]}." if problems else ""
        raise ValueError(f"{stage.report.source} gave no image that can be used.{why}")


def _row(box: Box, image: _Image) -> list[float]:
    """Class, centre, width and height, normalised."""
    x1, y1, x2, y2 = box.xyxy
    w, h = image.width, image.height
    return [box.class_id, (x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h]
