"""What a slice of the spine phantom becomes on disk: YOLO label lines, rows of `annotations.csv`, COCO instances.

Written for this project. The COCO files hold what a YOLO label cannot: the outline of every finding (findings overlap,
so one label picture could not hold them) with its level and grades. Their `bbox` is the label's box, drawn a little
outside the outline; IDs follow `yolospine_ultra.data.coco`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from yolospine_ultra.data.phantom.slices import CLASS_NAMES, Finding

COLUMNS = (
    *("image", "split", "patient", "sequence", "offset_mm", "mm_per_px", "level", "class"),
    *("x1", "y1", "x2", "y2", "pfirrmann", "slip_mm", "meyerding"),
)


def label_line(finding: Finding, size: int) -> str:
    """One YOLO label line: class, centre x, centre y, width, height, normalised to 0..1 with six decimals."""
    x1, y1, x2, y2 = (v / size for v in finding.box)
    return f"{finding.class_id} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}"


def csv_row(finding: Finding, slice_columns: Sequence[str]) -> list[str]:
    """One line of `annotations.csv`; `slice_columns` are the first six, which all findings of a slice share."""
    box = [f"{v:.2f}" for v in finding.box]
    grades = [str(finding.pfirrmann), f"{finding.slip_mm:.2f}", str(finding.meyerding)]
    return [*slice_columns, finding.level, CLASS_NAMES[finding.class_id], *box, *grades]


def coco_instance(finding: Finding, size: int) -> dict[str, Any]:
    """A COCO annotation without its IDs: box and polygons in pixels, clipped to the image."""
    polygons = [np.clip(outline, 0, size).astype(np.float32) for outline in finding.outlines]
    area = sum(float(cv2.contourArea(p)) for p in polygons)
    x1, y1, x2, y2 = finding.box
    return {
        "category_id": finding.class_id + 1,
        "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
        "area": round(area, 2),
        "iscrowd": 0,
        "segmentation": [[round(float(v), 1) for v in p.ravel()] for p in polygons],
        "level": finding.level,
        "pfirrmann": finding.pfirrmann,
        "slip_mm": round(finding.slip_mm, 2),
        "meyerding": finding.meyerding,
    }


def coco_dataset(images: Sequence[tuple[str, list[dict[str, Any]]]], size: int) -> dict[str, Any]:
    """A COCO dataset of the images (file name, instances), numbered from 1 in the order of their names."""
    entries, annotations = [], []
    for number, (name, instances) in enumerate(sorted(images, key=lambda i: i[0]), 1):
        entries.append({"id": number, "file_name": name, "width": size, "height": size})
        for instance in instances:
            annotations.append({"id": len(annotations) + 1, "image_id": number, **instance})
    categories = [{"id": i + 1, "name": n, "supercategory": "finding"} for i, n in enumerate(CLASS_NAMES)]
    info = {"description": "spine-phantom", "version": "1.0"}
    return {"info": info, "licenses": [], "images": entries, "annotations": annotations, "categories": categories}
