"""Findings of an image, labelled or predicted: the one object model of every study in this package, and its readers.

Written for this project. Labels are YOLO label files beside the images of a dataset YAML; predictions are the COCO
detection JSON that Ultralytics 8.4 writes for `save_json=True` (`DetectionValidator.pred_to_json`). Nothing is written.
An image's header gives its size, a scan is read for it. What cannot be used is reported one by one and left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ultralytics.data.utils import exif_size
from ultralytics.utils import LOGGER

from yolospine_ultra.data.images import open_image
from yolospine_ultra.data.labels import Problem, read_labels
from yolospine_ultra.data.scans import read_view, suffix_kind
from yolospine_ultra.evaluate.dataset_files import find_files
from yolospine_ultra.evaluate.image_names import ImageNames


@dataclass(frozen=True, eq=False)
class ImageFindings:
    """The findings of one image.

    Attributes:
        name: the image's file name, with as many folders as make it unique in its dataset.
        boxes: (N, 4) float64, x1 y1 x2 y2 in pixels of the original image.
        classes: (N,) int64, class indices from 0.
        scores: (N,) float64 in 0..1 for predictions, None for ground truth.

    Raises:
        ValueError: shapes that disagree, a non-finite box, x2 < x1 or y2 < y1, a negative class, a score outside 0..1.
    """

    name: str
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        boxes = np.array(self.boxes, dtype=np.float64)  # its own, whatever becomes of what was given
        boxes, given = boxes.reshape(-1, 4) if boxes.size == 0 else boxes, np.asarray(self.classes)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or given.shape != (len(boxes),):
            raise ValueError(f"{self.name}: expected boxes (N, 4) and classes (N,), got {boxes.shape}, {given.shape}")
        if not (np.isfinite(boxes).all() and (boxes[:, 2:] >= boxes[:, :2]).all()):
            raise ValueError(f"{self.name}: expected finite boxes with x1 <= x2 and y1 <= y2")
        if not (np.isfinite(given) & (given >= 0) & (given == np.floor(given))).all():
            raise ValueError(f"{self.name}: expected whole class indices from 0, got {given}")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "classes", given.astype(np.int64))
        if self.scores is not None:
            scores = np.array(self.scores, dtype=np.float64)
            if scores.shape != given.shape or not ((scores >= 0) & (scores <= 1)).all():
                raise ValueError(f"{self.name}: expected {len(boxes)} scores within 0..1, got {scores}")
            object.__setattr__(self, "scores", scores)

    def __len__(self) -> int:
        return len(self.boxes)

    def above(self, conf: float) -> ImageFindings:
        """The findings with a score of at least `conf`; ground truth, which has no scores, as it is."""
        if self.scores is None:
            return self
        keep = self.scores >= conf
        return ImageFindings(self.name, self.boxes[keep], self.classes[keep], self.scores[keep])


Reporter = Callable[[Problem], None]


def log_problem(problem: Problem) -> None:
    """Report a problem as a warning in the host's log."""
    LOGGER.warning(str(problem))


def read_dataset(
    data: str | Path, split: str = "val", root: str | Path | None = None, report: Reporter = log_problem
) -> tuple[list[ImageFindings], list[str]]:
    """Read the ground truth of a dataset.

    Args:
        data: a dataset YAML of the host's form, or the name of one of the plugin's own.
        split: "train", "val", "test", or "all" for every one that the YAML has.
        root: folder in place of the YAML's `path`.
        report: called with every `Problem`; a list's `append` collects them.

    Returns:
        One `ImageFindings` an image, sorted by name, empty where nothing is labelled; and the class names. An image
        whose size or labels cannot be read is left out, as is a label row that is not a box of a known class.

    Raises:
        FileNotFoundError: no such YAML, no such folder, or no image in the split.
        ValueError: the YAML has no class names, no such split, or is no dataset YAML; or no image can be used.
        ImportError: an optional package that a scan needs is missing.
    """
    files = find_files(data, split, root)
    for problem in files.strays():
        report(problem)
    images = []
    for name, image, label in zip(files.image_names(), files.images, files.labels, strict=True):
        rows, problems = np.zeros((0, 5)), []
        if label.is_file():
            rows, problems = read_labels(label, len(files.names), name=files.shown(label))
        else:
            report(Problem(files.shown(image), "missing", "no label file; taken as an image without boxes"))
        for problem in problems:
            report(problem)
        try:
            size = _image_size(image)
        except (OSError, ValueError) as error:
            report(Problem(files.shown(image), "unreadable", f"image left out, its size cannot be read ({error})"))
            continue
        if rows is None:  # an image whose labels are unknown is not a negative
            continue
        corners = np.concatenate([rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2], 1).clip(0, 1)
        images.append(ImageFindings(name, corners * np.tile(size, 2), rows[:, 0].astype(np.int64)))
    if not images:
        raise ValueError(f"none of the {len(files.images)} images in split {split!r} of {data} can be used.")
    return images, files.names


def _image_size(file: Path) -> tuple[int, int]:
    """Width and height of the picture that a detector sees, in pixels."""
    if file.is_dir() or suffix_kind(file):
        height, width = read_view(file).image.shape
        return width, height
    with open_image(file) as image:
        return exif_size(image)


def read_predictions(
    file: str | Path, images: Sequence[ImageFindings], nc: int, report: Reporter = log_problem, first_category: int = 1
) -> list[ImageFindings]:
    """Read predictions for the images of a dataset.

    Args:
        file: COCO detection JSON as the host's `save_json=True` writes it: a list of image_id, file_name (may be
            missing), category_id, bbox (x, y, width, height in pixels) and score.
        images: the dataset's images, which the entries are matched to by file name, else by stem or image_id.
        nc: number of classes.
        report: called with every `Problem`: entries that are none, of other images, or twice there, all left out, and
            once with the number of images that have no prediction.
        first_category: category_id of class 0. The host writes 1; some tools count from 0.

    Returns:
        One `ImageFindings` with scores for each of `images`, in their order; empty where nothing was predicted.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such JSON; a category that the classes do not have (all may be off by one); an entry whose name
            fits several images; or entries of other images only.
    """
    entries = _load_json(Path(file))
    known = ImageNames([x.name for x in images])
    # of each image its rows, the keys of a dictionary, which has each once
    rows: list[dict[tuple[int, float, tuple[float, ...]], None]] = [{} for _ in images]
    strangers = []
    for number, entry in enumerate(entries):
        where = f"{file}, entry {number}"
        parsed = _parse_entry(entry)
        if isinstance(parsed, str):
            report(Problem(where, "prediction", f"{parsed}; left out"))
            continue
        name, category, score, box = parsed
        _check_category(category, first_category, nc, where)
        found = known.find(name)
        if len(found) > 1:
            both = " and ".join(images[i].name for i in found[:2])
            raise ValueError(f"{where}: {name!r} may be {both}; evaluate their splits one by one.")
        row = (category - first_category, score, box)
        if not found:
            strangers.append(name)
            report(Problem(where, "unknown-image", f"the data set has no image {name!r}; left out"))
        elif row in rows[found[0]]:
            report(Problem(where, "duplicate", f"says the same of {name!r} as an entry above; counted once"))
        else:
            rows[found[0]][row] = None
    _check_images(file, images, [len(r) for r in rows], strangers, report)
    return [
        ImageFindings(
            image.name,
            np.array([r[2] for r in found], dtype=np.float64).reshape(-1, 4),
            np.array([r[0] for r in found], dtype=np.int64),
            np.array([r[1] for r in found], dtype=np.float64),
        )
        for image, found in zip(images, rows, strict=True)
    ]


def _check_category(category: int, first: int, nc: int, where: str) -> None:
    """Refuse a class that the dataset does not have: the file may count from another number, so that all are moved."""
    if first <= category < nc + first:
        return
    low = f"category ids that count from {category} need first_category={category}"
    high = f"the file is of other classes, or does not count from {first}"
    expected = f"expected {first} to {nc + first - 1}"
    raise ValueError(f"{where}: category_id {category}, {expected}; {low if category < first else high}.")


def _check_images(
    file: str | Path, images: Sequence[ImageFindings], rows: Sequence[int], strangers: Sequence[str], report: Reporter
) -> None:
    """Refuse predictions of other images, and say how many images have none.

    Args:
        file: for messages.
        images: of the dataset.
        rows: predictions of each of them.
        strangers: names of other images that the file has predictions of.
        report: called with a `Problem`.
    """
    if strangers and not any(rows):
        raise ValueError(
            f"{file} has predictions of {strangers[0]!r} and others, and of none of the {len(images)} images such as "
            f"{images[0].name!r}; give the data and the split that they are of."
        )
    without = [x.name for x, n in zip(images, rows, strict=True) if not n]
    if without:
        text = f"{len(without)} of {len(images)} images have no prediction, such as {without[0]}; nothing found there"
        report(Problem(str(file), "no-prediction", text))


def _load_json(file: Path) -> list:
    """The entries of a COCO detection JSON."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not a file; expected the predictions.json of `yolo val save_json=True`.")
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise ValueError(f"{file} holds a {type(entries).__name__}; expected the list of a COCO detection JSON.")
    return entries


def _parse_entry(entry: object) -> tuple[str, int, float, tuple[float, ...]] | str:
    """Name of the image, category, score and x1 y1 x2 y2 of an entry, or what is wrong with it."""
    if not isinstance(entry, dict):
        return f"expected an object, got {type(entry).__name__}"
    missing = [k for k in ("category_id", "bbox", "score") if k not in entry]
    if missing or not ("file_name" in entry or "image_id" in entry):
        return f"{', '.join(missing) or 'file_name or image_id'} missing"
    try:
        x, y, w, h = (float(v) for v in entry["bbox"])
        score, category = float(entry["score"]), float(entry["category_id"])
    except (TypeError, ValueError, OverflowError):
        return f"bbox, score or category_id is no number: {str(entry)[:120]}"
    if not category.is_integer() or category < 0:
        return f"category_id {str(entry['category_id'])[:40]}, expected a whole number"
    if not all(map(math.isfinite, (x, y, x + w, y + h))) or w < 0 or h < 0:
        return f"bbox {entry['bbox']}, expected finite x, y and a size of at least 0"
    if not 0 <= score <= 1:
        return f"score {score}, expected 0..1"
    name = str(entry["file_name"] if "file_name" in entry else entry["image_id"])
    return name, int(category), score, (x, y, x + w, y + h)
