"""Segmentation YOLOs of Ultralytics on data that has boxes: each box is its own polygon of four corners.

Their findings are the boxes they predict, as for every detector here; the masks are not used. Source: the rows
"YOLOv8m-Seg" and "YOLOv11m-Seg" of YOLOspine (Masood and Taj 2026), which does not say where its masks came from.
"""

from __future__ import annotations

from pathlib import Path

from ultralytics.data.utils import img2label_paths

from yolospine_ultra.benchmark.dataset import link_file
from yolospine_ultra.benchmark.families.ultralytics_family import UltralyticsFamily
from yolospine_ultra.benchmark.family import CellData, ModelEntry
from yolospine_ultra.data.labels import read_labels


class PolygonSegFamily(UltralyticsFamily):
    """Segmentation models of the facade `YOLO`, trained on boxes as polygons."""

    def training_data(self, data: CellData, folder: Path) -> tuple[list[Path], Path]:
        """Links to the training images with labels of polygons beside them.

        Raises:
            ValueError: labels of an image cannot be read.
        """
        place = folder / "polygons"
        root = data.yaml.parent / "images"
        images = []
        for file, label in zip(data.train, img2label_paths([str(f) for f in data.train]), strict=True):
            name = file.relative_to(root)
            image = place / "images" / name
            text = Path(img2label_paths([str(image)])[0])
            link_file(file, image)
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text(_polygons(Path(label), len(data.names)), encoding="utf-8")
            images.append(image)
        return images, place


def _polygons(label: Path, classes: int) -> str:
    """Rows of a label file as polygons, "" where there is no file."""
    if not label.is_file():
        return ""
    rows, problems = read_labels(label, classes)
    if rows is None:
        raise ValueError(f"{label} cannot be read: {problems[0]}")
    lines = []
    for c, x, y, w, h in rows:
        x1, y1, x2, y2 = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        corners = (x1, y1, x2, y1, x2, y2, x1, y2)
        lines.append(" ".join([f"{c:.0f}", *(f"{min(max(v, 0.0), 1.0):.6f}" for v in corners)]))
    return "".join(f"{line}\n" for line in lines)


FAMILY = PolygonSegFamily()

_PAPER = {"yolov8m": "YOLOv8m-Seg", "yolo11m": "YOLOv11m-Seg"}
ROWS = tuple(
    ModelEntry(
        f"{name}{s}-seg",
        "polygon_seg",
        {"yaml": f"{name}{s}-seg.yaml"},
        scale=s,
        paper=_PAPER.get(f"{name}{s}", ""),
        note="Masks made of the boxes; evaluated by its boxes.",
    )
    for name in ("yolov8", "yolo11", "yolo26")
    for s in "nsmlx"
)
