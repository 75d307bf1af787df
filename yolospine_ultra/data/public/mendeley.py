"""The paper's dataset: "Multi-disorder annotations for lumbar spine mid-sagittal images", Mendeley Data 9j9hmy8kbn.

Format: the paper's README gives `images/{train,val,test}` and `labels/{train,val,test}` in YOLO layout; the labels that
were published beside the code lie in `{train,val,test}/{images,labels}`. Both are read, and a folder of `images` and
`labels` without splits. 1,038 images of 384 px, 8,991 labels; the counts by split are those of the published training
logs, and add up to the README's table.

Class order: the README (and the data.yaml beside the published labels) has DDD, IVDn, SS, SP, LDB, TDB; the
configuration of the published code has DDD, LDB, Normal_IVD, SS, TDB, Spondylolisthesis. A download is recognised by
its class counts: IVDn is 46% of all labels, and stands second in one order and third in the other.

Patients: the images come from the 515 patients of Mendeley k57fr854j2. T2 files are named
`INDEX_T2_TSE_SAG_384_SERIES_PATIENT_SLICE_R`, T1 files `T1_PATIENT_SSLICE`. That the number of a T1 file is a patient
number is an inference: numbers that the T2 names skip (28, 189, 330) are skipped there too. With it, the published
splits have patients whose T1 image is in one split and whose T2 image is in another, so the default is to draw new
splits by patient; `published` keeps those of the source and reports who is in two.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import yaml
from PIL import ImageOps
from ultralytics.utils import TQDM

from yolospine_ultra.data.images import open_image
from yolospine_ultra.data.labels import FolderLabels, Problem, printable, read_label_folder
from yolospine_ultra.data.public.classes import DISORDERS, ORDERS, class_index
from yolospine_ultra.data.public.report import Comparison, Report, compare
from yolospine_ultra.data.public.staging import SHARES, SPLITS, Box, Staging, require_images, staging
from yolospine_ultra.data.splits import check_shares

PUBLISHED_IMAGES = {"train": 726, "val": 207, "test": 105}
PUBLISHED_LABELS = {
    "train": dict(zip(DISORDERS, (432, 2902, 1319, 85, 1416, 103), strict=True)),
    "val": dict(zip(DISORDERS, (128, 815, 407, 20, 417, 25), strict=True)),
    "test": dict(zip(DISORDERS, (73, 414, 195, 17, 200, 23), strict=True)),
}
PUBLISHED_TOTAL = {name: sum(row[name] for row in PUBLISHED_LABELS.values()) for name in DISORDERS}

_FOLDERS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
_T2 = re.compile(r"^\d+_(T[12])_\w+_SAG_\d+_(\d+)_(\d+)_(\d+)(?:_[A-Z])?$", re.IGNORECASE)
_T1 = re.compile(r"^(T[12])_(\d+)_S(\d+)$", re.IGNORECASE)
_CLEAR, _APART = 0.15, 0.10  # distance of class shares at which an order is recognised, and how far the next must be
_DECODED = {"L", "RGB", "RGBA", "P", "1", "LA"}  # modes of 8 bits and less


def prepare_mendeley(
    source: str | Path,
    out: str | Path,
    split: str = "patient",
    shares: dict[str, float] | None = None,
    seed: int = 0,
    class_order: str = "auto",
    progress: bool = False,
) -> Report:
    """Convert the Mendeley download.

    Args:
        source: the unpacked download, see the top of this file.
        out: folder to write; must not exist, or be empty.
        split: "patient" draws splits by patient, "published" keeps those of the source.
        shares: of the splits "train", "val", "test" where they are drawn; by default the paper's 0.7, 0.2, 0.1.
        seed: of the splits.
        class_order: "auto", or one of `ORDERS`: "readme", "config", "pfirrmann".
        progress: show a progress bar.

    Returns:
        The report, also in `out/report.json`.

    Raises:
        FileNotFoundError: `source` does not have the layout.
        FileExistsError: `out` is taken.
        ValueError: an argument is out of range, or no image can be used.
    """
    if split not in ("patient", "published"):
        raise ValueError(f"split={split}: choose patient or published")
    if class_order != "auto" and class_order not in ORDERS:
        raise ValueError(f"class_order={class_order}: choose auto, {', '.join(ORDERS)}")
    check_shares(shares or SHARES, seed)
    source = Path(source)
    report = Report("Mendeley 9j9hmy8kbn", str(source), str(out), reference="README and training logs of the paper")
    with staging(out, DISORDERS, report) as stage:
        root, folders = _layout(source)
        if split == "published" and "all" in folders:
            raise ValueError(f"{root} has no splits of its own; use split=patient.")
        found = {s: read_label_folder(*places, classes=13, base=root) for s, places in folders.items()}
        report.problems += [p for labels in found.values() for p in labels.problems if p.kind != "missing"]
        order = _class_order(class_order, found, _names_of(root), report)
        _add_images(stage, found, ORDERS[order], root, progress)
        require_images(stage)
        _compare(stage)
        given = [i.source_split for i in stage.images]
        if "all" not in folders:
            report.source_leaks += stage.leaks(given)
        chosen = given if split == "published" else stage.split_by_patient(shares or SHARES, seed)
        names = SPLITS if split == "published" else tuple(shares or SHARES)
        head = "Mendeley Data 9j9hmy8kbn (doi 10.17632/9j9hmy8kbn.1, CC BY 4.0), converted; see report.json."
        stage.finish(chosen, names, head)
    return report


def _layout(source: Path) -> tuple[Path, dict[str, tuple[Path, Path]]]:
    """The folder with the dataset, and image and label folder of each split ("all" where there are none)."""
    if not source.is_dir():
        hint = "; unpack it first" if source.is_file() else ""
        raise FileNotFoundError(
            f"{source} is not a folder{hint}. Expected images/ and labels/ of the Mendeley download."
        )
    for root in _folders_in(source, depth=3):
        found = {}
        for split, names in _FOLDERS.items():
            for name in names:
                for places in (
                    (root / "images" / name, root / "labels" / name),
                    (root / name / "images", root / name / "labels"),
                ):
                    if all(p.is_dir() for p in places):
                        found.setdefault(split, places)
        if found:
            return root, found
        places = (root / "images", root / "labels")
        if all(p.is_dir() for p in places):
            return root, {"all": places}
    raise FileNotFoundError(
        f"{source} has no images/train and labels/train (nor train/images and train/labels, nor images and labels); "
        "expected the Mendeley download in YOLO format. A COCO file is converted by scripts/convert_coco.py first."
    )


def _folders_in(root: Path, depth: int) -> Iterator[Path]:
    """`root` and the folders below it, nearest first."""
    level = [root]
    for _ in range(depth + 1):
        yield from level
        level = [f for folder in level for f in sorted(folder.iterdir()) if f.is_dir() and not f.is_symlink()]


def _names_of(root: Path) -> list[int | None] | None:
    """Our class index of each name in a data YAML of the download, None where it has none."""
    for file in [*sorted(root.glob("*.yaml")), *sorted(root.glob("*.yml"))]:
        try:
            names = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("names")
            names = [names[k] for k in sorted(names, key=int)] if isinstance(names, dict) else names
        except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, ValueError, TypeError):
            continue
        if isinstance(names, list) and names:
            return [class_index(str(n)) for n in names]
    return None


def _class_order(asked: str, found: dict[str, FolderLabels], named: list[int | None] | None, report: Report) -> str:
    """The class order of the labels, and notes on how it is known."""
    counts = Counter(int(c) for f in found.values() for rows in f.rows.values() if rows is not None for c in rows[:, 0])
    distances = {name: _distance(counts, order) for name, order in ORDERS.items()}
    best, second = sorted(distances, key=distances.__getitem__)[:2]
    clear = distances[best] <= _CLEAR and distances[second] - distances[best] >= _APART
    by_name = next((o for o, m in ORDERS.items() if named and named == [m.get(i) for i in range(len(named))]), None)
    shown = ", ".join(f"{name} {d:.2f}" for name, d in distances.items())
    measured = f"distance of its class shares from the published ones (0 the same, 1 disjoint): {shown}"
    report.facts["class_order_distances"] = {k: round(v, 4) for k, v in distances.items()}
    if asked != "auto":
        chosen, why = asked, "as asked for"
        if clear and best != asked:
            why += f", although the counts speak for '{best}'"
    elif clear:
        chosen, why = best, "recognised by the class counts"
        if by_name and by_name != best:
            why += f", against the names in the download's YAML, which are in the order '{by_name}'"
    elif by_name:
        chosen, why = by_name, "taken from the names in the download's YAML; the class counts do not decide"
    else:
        chosen, why = "readme", "ASSUMED: neither the class counts nor a YAML decide; pass class_order if it is wrong"
    report.facts["class_order"] = chosen
    mapping = ", ".join(f"{i}={DISORDERS[j]}" for i, j in ORDERS[chosen].items() if j < len(DISORDERS))
    report.notes.append(f"Class order '{chosen}' ({mapping}): {why}; {measured}.")
    return chosen


def _distance(counts: Counter[int], order: dict[int, int]) -> float:
    """Total variation between the class shares, read in this order, and the published ones; 0 to 1."""
    total, published = sum(counts.values()), sum(PUBLISHED_TOTAL.values())
    if not total:
        return 1.0
    ours = {order[c]: n for c, n in counts.items() if c in order}
    disorders = sum(n for c, n in ours.items() if c < len(DISORDERS))  # anatomy has no published counts
    if not disorders:
        return 1.0
    lost = total - sum(ours.values())
    known = [ours.get(i, 0) / (disorders + lost) for i in range(len(DISORDERS))]
    wanted = [n / published for n in PUBLISHED_TOTAL.values()]
    return 0.5 * (sum(abs(a - b) for a, b in zip(known, wanted, strict=True)) + lost / (disorders + lost))


def _add_images(
    stage: Staging, found: dict[str, FolderLabels], order: dict[int, int], root: Path, progress: bool
) -> None:
    """Add every image whose labels are known."""
    problems, unknown = stage.report.problems, 0
    missing = {p.file for f in found.values() for p in f.problems if p.kind == "missing"}
    todo = [(s, file, rows) for s, labels in found.items() for file, rows in labels.rows.items()]
    for split, file, rows in TQDM(todo, desc="mendeley", unit="img", disable=not progress):
        name = printable(str(file.relative_to(root)))
        if rows is None:
            continue  # the label file was named as unreadable
        if name in missing:
            problems.append(
                Problem(name, "missing", "no label file, although every published image has labels; left out")
            )
            continue
        image = _read_image(file, name, problems)
        if image is None:
            continue
        boxes = _boxes(rows, order, *image.shape[:2], name, problems)
        patient, series, sequence = _identity(file.stem)
        unknown += not patient
        original = file if file.suffix.lower() in {".png", ".jpg", ".jpeg"} else None
        given = "" if split == "all" else split
        stage.add(file.stem, image, boxes, patient or f"unknown-{file.stem.strip()}", name, original, series, sequence,
                  source_split=given)  # fmt: skip
    stage.report.unknown_patients = unknown
    if unknown:
        stage.report.notes.append(
            f"{unknown} image names do not tell a patient; each such image is taken as a patient of its own, so only "
            "look-alike images are kept together."
        )


def _boxes(
    rows: np.ndarray, order: dict[int, int], height: int, width: int, name: str, problems: list[Problem]
) -> list[Box]:
    """Labels (N, 5) in their order of classes as boxes in pixels."""
    boxes = []
    for c, x, y, w, h in rows.tolist():
        class_id = order.get(int(c))
        if class_id is None or class_id >= len(DISORDERS):
            kind = "class" if class_id is None else "anatomy"
            problems.append(Problem(name, kind, f"class {int(c)} is no disorder in this order; left out"))
            continue
        corners = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        boxes.append(Box(class_id, corners))
    return boxes


def _read_image(file: Path, name: str, problems: list[Problem]) -> np.ndarray | None:
    """Pixels (H, W) or (H, W, 3), BGR, uint8, turned as EXIF says; None and a problem where they cannot be had."""
    try:
        with open_image(file) as stored:
            image = ImageOps.exif_transpose(stored)  # as the host and OpenCV turn it
            if image.mode not in _DECODED:
                problems.append(Problem(name, "depth", f"pixels of mode {image.mode}, expected 8 bits; left out"))
                return None
            grey = image.mode in {"L", "1", "LA"}
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        problems.append(Problem(name, "unreadable", f"damaged or no image ({error.__class__.__name__}); left out"))
        return None
    return pixels if grey else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)


def _identity(stem: str) -> tuple[str, str, str]:
    """Patient, series and sequence that a file name tells; empty where it tells none."""
    stem = stem.strip()
    if match := _T2.match(stem):
        return match[3].zfill(4), f"{match[3].zfill(4)}-{match[2]}", match[1].lower()
    if match := _T1.match(stem):
        return match[2].zfill(4), f"{match[2].zfill(4)}-{match[1].lower()}", match[1].lower()
    return "", "", ""


def _compare(stage: Staging) -> None:
    """Published numbers beside those found, by split where the source has them."""
    report, images = stage.report, stage.images
    splits = Counter(i.source_split for i in images if i.source_split)
    if splits:
        report.comparisons += compare("images in", PUBLISHED_IMAGES, splits)
        for split, published in PUBLISHED_LABELS.items():
            rows = Counter(DISORDERS[b.class_id] for i in images if i.source_split == split for b in i.boxes)
            report.comparisons += compare(f"{split} labels of", published, rows)
    report.comparisons.append(Comparison("images", sum(PUBLISHED_IMAGES.values()), len(images)))
    total = Counter(DISORDERS[b.class_id] for i in images for b in i.boxes)
    report.comparisons += compare("labels of", PUBLISHED_TOTAL, total)
