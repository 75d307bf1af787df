"""YOLO datasets to COCO JSON and back, and predictions as COCO results.

Written for this project from the COCO data format (https://cocodataset.org/#format-data). Boxes keep their full
precision in both directions, several classes on one box are several annotations, images without labels stay as images
without annotations. IDs depend on the file names alone: images are numbered from 1 in the order of their names, or
carry their own number where every stem is one, as in the host's `predictions.json`; categories are class index + 1, as
there; annotations start at 1, because COCO's evaluation takes 0 for "not matched".
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from ultralytics.data.utils import check_det_dataset, exif_size, img2label_paths

from yolospine_ultra.data.images import open_image
from yolospine_ultra.data.labels import IMAGE_SUFFIXES, Problem, read_labels
from yolospine_ultra.data.scans.view import suffix_kind


def yolo_to_coco(data: str | Path, split: str) -> tuple[dict[str, Any], list[Problem]]:
    """One split of a YOLO dataset as a COCO dataset.

    Args:
        data: dataset YAML of the host; nothing is downloaded.
        split: "train", "val" or "test".

    Returns:
        The COCO dictionary (boxes x, y, width, height in pixels), and what was left out of it: rows of `read_labels`,
        images that cannot be read (`unreadable`), scans (`scan`).

    Raises:
        FileNotFoundError: the YAML, its images or the split are not there.
    """
    content = check_det_dataset(str(data), autodownload=False)
    if not content.get(split):
        raise FileNotFoundError(f"{data} has no split '{split}'; expected a path of images under that key.")
    names = content["names"]
    problems: list[Problem] = []
    entries = []
    for name, file in _images_of(content[split]):
        if suffix_kind(file):
            problems.append(Problem(name, "scan", "of no size before a plane of it is chosen; left out"))
            continue
        try:
            with open_image(file) as image:
                size = exif_size(image)  # as the host and OpenCV turn it
        except (OSError, ValueError) as error:
            problems.append(Problem(name, "unreadable", f"not an image ({error.__class__.__name__}); left out"))
            continue
        label = Path(img2label_paths([str(file)])[0])
        rows: np.ndarray | None = np.zeros((0, 5))
        if label.is_file():
            rows, found = read_labels(label, len(names), name=label.name)
            problems += found
        else:
            problems.append(Problem(name, "missing", "no label file; taken as an image without boxes"))
        if rows is not None:
            entries.append((name, size, rows))
    return make_coco(entries, [names[i] for i in sorted(names)]), problems


def _images_of(places: str | list[str]) -> list[tuple[str, Path]]:
    """Name and path of each image or scan of a split, sorted by name.

    Names are relative to the folder, or where images of several places would have one name, to the folder of all.
    """
    found: list[tuple[str, Path]] = []
    for place in [places] if isinstance(places, str) else places:
        root = Path(place)
        if root.is_file():  # a list of images, relative ones beginning with ./
            lines = [line.strip() for line in root.read_text(encoding="utf-8").splitlines() if line.strip()]
            files = [root.parent / line if line.startswith("./") else Path(line) for line in lines]
            found += [(file.name, file) for file in files]
        else:
            files = [f for f in root.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES or suffix_kind(f)]
            found += [(file.relative_to(root).as_posix(), file) for file in files if file.is_file()]
    images = {file.resolve(): name for name, file in found}
    if len(set(images.values())) < len(images):
        shared = Path(os.path.commonpath([file.parent for file in images]))
        images = {file: file.relative_to(shared).as_posix() for file in images}
    return sorted((name, file) for file, name in images.items())


def make_coco(entries: Sequence[tuple[str, tuple[int, int], np.ndarray]], names: Sequence[str]) -> dict[str, Any]:
    """A COCO dictionary from labels.

    Args:
        entries: file name, (width, height) in pixels and labels (N, 5), normalised, of each image.
        names: class names in the order of their indices.
    """
    entries = sorted(entries, key=lambda e: e[0])
    stems = [PurePosixPath(name).stem for name, _, _ in entries]
    numbered = all(s.isdecimal() for s in stems) and len({int(s) for s in stems}) == len(stems)
    images, annotations = [], []
    for rank, (name, (width, height), rows) in enumerate(entries, 1):
        number = int(stems[rank - 1]) if numbered else rank
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for c, x, y, w, h in rows:
            box = _pixel_box(x, y, w, h, width, height)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(c) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "segmentation": [],
                }
            )
    categories = [{"id": i + 1, "name": name, "supercategory": "finding"} for i, name in enumerate(names)]
    info = {"description": "YOLO dataset as COCO", "version": "1.0"}
    return {"info": info, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def _pixel_box(x: float, y: float, w: float, h: float, width: int, height: int) -> list[float]:
    """A normalised centre box as x, y, width, height in pixels."""
    return [float((x - w / 2) * width), float((y - h / 2) * height), float(w * width), float(h * height)]


def _read_json(file: str | Path) -> Any:
    """The content of a JSON file; ValueError where it is none."""
    try:
        return json.loads(Path(file).read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON ({error.__class__.__name__}); expected a COCO file.") from None


def read_coco(file: str | Path) -> dict[str, Any]:
    """Read a COCO dataset file.

    Raises:
        ValueError: it is no JSON, or lacks the lists `images`, `annotations` and `categories`.
        OSError: it cannot be read.
    """
    content = _read_json(file)
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or any(not isinstance(content.get(k), list) for k in keys):
        raise ValueError(f"{file} is no COCO dataset; expected the lists {', '.join(keys)}.")
    return content


def coco_to_yolo(
    coco: dict[str, Any], classes: dict[str, int] | None = None
) -> tuple[dict[str, np.ndarray], list[str], list[Problem]]:
    """Labels of a COCO dataset.

    Args:
        coco: from `read_coco`.
        classes: category name to class index; by default the categories in the order of their ids.

    Returns:
        File name to labels (N, 5), normalised, for every image, also without annotations; class names by index; and
        what was left out: annotations without a usable box (`format`, `nan`, `empty-box`), of crowds (`crowd`), of
        categories (`class`) or images (`image`) that are not there, images with an unusable entry (`image`) or a
        file name that leads out of the folder (`path`), repeated boxes (`duplicate`); overhanging ones are clipped
        (`overhang`).
    """
    problems: list[Problem] = []
    chosen, names = _classes_of(coco, classes)
    images: dict[Any, Any] = {}
    taken: set[str] = set()
    for k, entry in enumerate(coco["images"]):
        problem = _image_problem(entry, k, images, taken)
        if problem:
            problems.append(problem)
        else:
            images[entry["id"]] = entry
            taken.add(entry["file_name"])
    rows: dict[Any, list[list[float]]] = {number: [] for number in images}
    for k, entry in enumerate(coco["annotations"]):
        row, problem = _row_of(entry, k, images, chosen)
        if row is not None and row in rows[entry["image_id"]]:
            row, problem = None, Problem(f"annotation {_id(entry, k)}", "duplicate", "the same box and class; left out")
        if problem:
            problems.append(problem)
        if row is not None:
            rows[entry["image_id"]].append(row)
    tables = {images[n]["file_name"]: np.array(r, dtype=np.float64).reshape(-1, 5) for n, r in rows.items()}
    return tables, names, problems


def _classes_of(coco: dict[str, Any], classes: dict[str, int] | None) -> tuple[dict[Any, int], list[str]]:
    """Category id to class index, and the names by index."""
    usable = [c for c in coco["categories"] if isinstance(c, dict) and isinstance(c.get("id"), (int, str))]
    categories = sorted({c["id"]: c for c in usable}.values(), key=lambda c: (isinstance(c["id"], str), c["id"]))
    if classes is None:
        return {c["id"]: i for i, c in enumerate(categories)}, [str(c.get("name", c["id"])) for c in categories]
    chosen = {
        c["id"]: classes[c["name"]] for c in categories if isinstance(c.get("name"), str) and c["name"] in classes
    }
    by_index: dict[int, str] = {}
    for name, index in classes.items():
        by_index.setdefault(index, name)
    return chosen, [by_index[i] for i in sorted(by_index)]


def _id(entry: Any, k: int) -> str:
    """What a message calls an entry: its id, or its place in the list."""
    return str(entry.get("id", f"#{k}")) if isinstance(entry, dict) else f"#{k}"


def _numbers(values: Any, count: int) -> list[float] | None:
    """`values` as floats where it is a list of `count` finite numbers."""
    if not isinstance(values, list) or len(values) != count:
        return None
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values):
        return None
    return [float(v) for v in values] if all(abs(v) < 1e9 for v in values) else None  # NaN and infinity fail this


def _image_problem(entry: Any, k: int, images: dict[Any, Any], taken: set[str]) -> Problem | None:
    """What is wrong with an image's entry, or None."""
    place = f"image {_id(entry, k)}"
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), (int, str)):
        return Problem(place, "image", "no usable id; left out")
    name = entry.get("file_name")
    size = _numbers([entry.get("width"), entry.get("height")], 2)
    if not isinstance(name, str) or not name or size is None or min(size) < 1:
        return Problem(place, "image", "file_name, width and height expected; left out")
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive or not path.name:
        return Problem(place, "path", f"file_name {name!r} leads out of the folder; left out")
    if entry["id"] in images:
        return Problem(place, "image", "the id is used twice; the second is left out")
    if name in taken:
        return Problem(place, "image", f"file_name {name!r} is used twice; the second is left out")
    return None


def _row_of(
    entry: Any, k: int, images: dict[Any, Any], classes: dict[Any, int]
) -> tuple[list[float] | None, Problem | None]:
    """The label row of one annotation, or None, and what is wrong with it, or None."""
    place = f"annotation {_id(entry, k)}"
    if not isinstance(entry, dict) or not isinstance(entry.get("image_id"), (int, str)):
        return None, Problem(place, "format", "no image_id; left out")
    if entry["image_id"] not in images:
        return None, Problem(place, "image", f"image {entry['image_id']} is not there; left out")
    if not isinstance(entry.get("category_id"), (int, str)) or entry["category_id"] not in classes:
        return None, Problem(place, "class", f"category {entry.get('category_id')!r} is none of the classes; left out")
    if entry.get("iscrowd"):
        return None, Problem(place, "crowd", "a crowd has no single box; left out")
    box = _numbers(entry.get("bbox"), 4)
    if box is None:
        return None, Problem(place, "format", f"bbox {entry.get('bbox')!r}, expected four finite numbers; left out")
    image = images[entry["image_id"]]
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return None, Problem(place, "empty-box", f"width {w:g}, height {h:g}; left out")
    width, height = image["width"], image["height"]
    over = max(-x, -y, x + w - width, y + h - height)
    problem = None
    if over > 1e-3 * max(width, height):
        problem = Problem(place, "overhang", f"the box overhangs the image by {over:.1f} px; clipped")
    if over > 0:
        x, y, w, h = max(x, 0), max(y, 0), min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0)
        if w <= 0 or h <= 0:
            return None, Problem(place, "outside", "the box lies outside the image; left out")
    return [
        float(classes[entry["category_id"]]),
        (x + w / 2) / width,
        (y + h / 2) / height,
        w / width,
        h / height,
    ], problem


def label_text(rows: np.ndarray) -> str:
    """Labels (N, 5 or 6) as the text of a label file; twelve decimals, so that no box moves by 1e-6 pixels."""
    return "".join(f"{int(row[0])} " + " ".join(f"{v:.12f}" for v in row[1:]) + "\n" for row in np.asarray(rows))


def predictions_to_coco(source: str | Path, coco: dict[str, Any]) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Predictions as COCO results, with the image ids of a COCO dataset.

    Args:
        source: the host's `predictions.json` (`yolo val ... save_json=True`), or a folder of label files with
            confidences (`yolo predict ... save_txt=True save_conf=True`).
        coco: the dataset that they belong to, from `yolo_to_coco` or `read_coco`.

    Returns:
        `image_id`, `category_id`, `bbox` (x, y, width, height in pixels) and `score` of each, and what was left out.

    Raises:
        FileNotFoundError, ValueError: `source` is neither, or no JSON list.
    """
    source = Path(source)
    by_stem = _unambiguous((PurePosixPath(i["file_name"]).stem, i) for i in coco["images"])
    categories = sorted(c["id"] for c in coco["categories"])
    results: list[dict[str, Any]] = []
    problems: list[Problem] = []
    if source.is_dir():
        for file in sorted(source.glob("*.txt")):
            image = by_stem.get(file.stem)
            if image is None:
                problems.append(Problem(file.name, "image", "the name of no image, or of two images; left out"))
                continue
            rows, found = read_labels(file, len(categories), scores=True, name=file.name)
            problems += found
            for c, x, y, w, h, score in () if rows is None else rows.tolist():
                box = _pixel_box(x, y, w, h, image["width"], image["height"])
                entry = {"image_id": image["id"], "category_id": categories[int(c)], "bbox": box, "score": score}
                results.append(entry)
        return results, problems
    if not source.is_file():
        raise FileNotFoundError(f"{source} is not there; expected predictions.json or a folder of label files.")
    entries = _read_json(source)
    if not isinstance(entries, list):
        raise ValueError(f"{source} holds a {type(entries).__name__}; expected a list of predictions.")
    # The host gives the stem, as a number where it is one.
    by_id = {int(stem) if stem.isdecimal() else stem: image for stem, image in by_stem.items()}
    by_id |= {image["id"]: image for image in coco["images"] if image["id"] not in by_id}
    by_id |= _unambiguous((PurePosixPath(image["file_name"]).name, image) for image in coco["images"])
    for k, entry in enumerate(entries):
        result, problem = _result_of(entry, k, by_id, set(categories))
        results += [result] if result else []
        problems += [problem] if problem else []
    return results, problems


def _unambiguous(images: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Names to images, None for a name that is that of several: the host writes no folders."""
    found: dict[str, Any] = {}
    for name, image in images:
        found[name] = None if name in found else image
    return found


def _result_of(
    entry: Any, k: int, by_id: dict[Any, Any], categories: set[Any]
) -> tuple[dict[str, Any] | None, Problem | None]:
    """One prediction with the dataset's image id, or what is wrong with it."""
    place = f"prediction #{k}"
    if not isinstance(entry, dict) or not isinstance(entry.get("image_id"), (int, str)):
        return None, Problem(place, "format", "no image_id; left out")
    name = entry.get("file_name")  # the host gives it too
    image = by_id.get(name) if isinstance(name, str) else None
    image = image or by_id.get(entry["image_id"])
    if image is None:
        why = "is not in the dataset" if entry["image_id"] not in by_id else "is the name of two images"
        return None, Problem(place, "image", f"image {entry['image_id']!r} {why}; left out")
    if not isinstance(entry.get("category_id"), (int, str)) or entry["category_id"] not in categories:
        return None, Problem(place, "class", f"category {entry.get('category_id')!r} is not in the dataset; left out")
    box, score = _numbers(entry.get("bbox"), 4), entry.get("score")
    if box is None or not isinstance(score, (int, float)) or not math.isfinite(score):
        return None, Problem(place, "format", "bbox of four finite numbers and a score expected; left out")
    result = {"image_id": image["id"], "category_id": entry["category_id"], "bbox": box, "score": float(score)}
    return result, None
