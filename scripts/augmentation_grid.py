"""Picture of every augmentation on one image, and the classes an epoch shows before and after `class_centric`.

Written for this project; a thin front of `yolospine_ultra.data.augment`. Without `--image` the picture shows the image
of the dataset that has most findings, and without `--data` the dataset is a small phantom made for it. Example:
`python scripts/augmentation_grid.py --data cfg/datasets/spine-phantom.yaml --out augmentation.png`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import yaml
from ultralytics.cfg import get_cfg
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils import DEFAULT_CFG
from ultralytics.utils.patches import imread

from yolospine_ultra.data.augment import class_table, extra_indices
from yolospine_ultra.data.augment.grid import grid_panels, save_grid
from yolospine_ultra.data.checks import resolve_data
from yolospine_ultra.data.dataset import build_dataset
from yolospine_ultra.data.phantom.dataset import write_dataset
from yolospine_ultra.data.phantom.slices import CLASS_NAMES
from yolospine_ultra.data.scans import read_view, scan_kind
from yolospine_ultra.plugin import register

PHANTOM_IMAGES = 60


def main() -> int:
    """Parse the command line, write the picture, print the table; 2 where the data or the image cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="dataset YAML (default: a phantom, made for the picture and removed)")
    parser.add_argument("--data-root", help="folder of the dataset, in place of the `path` in its YAML")
    parser.add_argument("--image", type=Path, help="image or scan to show, without boxes")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument(
        "--class-centric", type=float, default=0.5, help="extra samples, share of the set (default 0.5)"
    )
    parser.add_argument("--degrees", type=float, default=3.0, help="range of the rotation (default 3)")
    parser.add_argument("--hsv-v", type=float, default=0.4, help="range of the intensity (default 0.4)")
    parser.add_argument("--imgsz", type=int, default=384, help="long side of the image in pixels (default 384)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--credit", default="", help="line for the lower margin, such as the source of the image")
    args = parser.parse_args()
    register()
    try:
        if not 0 <= args.class_centric <= 10:
            raise ValueError(f"--class-centric {args.class_centric} is not usable; expected a number from 0 to 10.")
        if args.image and not args.data:
            image, boxes = read_image(args.image, args.imgsz), np.zeros((0, 4))
        else:
            with tempfile.TemporaryDirectory() as folder:
                data = args.data or phantom(Path(folder), args.seed)
                image, boxes = show_dataset(data, args)
        save_grid(grid_panels(image, boxes, args.degrees, args.hsv_v, args.seed), args.out, credit=args.credit)
    except (ValueError, OSError, RuntimeError, ImportError, cv2.error) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def phantom(folder: Path, seed: int) -> str:
    """YAML of a phantom in `folder`."""
    write_dataset(folder / "set", PHANTOM_IMAGES, seed)
    content = {"path": str(folder / "set"), "train": "images/train", "val": "images/val"}
    (folder / "phantom.yaml").write_text(yaml.safe_dump(content | {"names": dict(enumerate(CLASS_NAMES))}))
    return str(folder / "phantom.yaml")


def show_dataset(data: str, args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Print the table of a dataset's training split; returns its image with most findings, or `--image`, and boxes."""
    content = check_det_dataset(resolve_data(data, args.data_root))
    run = get_cfg(DEFAULT_CFG, {"imgsz": args.imgsz})
    dataset = build_dataset(run, content["train"], 1, content, 32)
    classes = [label["cls"] for label in dataset.labels]
    total = round(args.class_centric * len(classes))
    print(class_table(classes, extra_indices(classes, content["nc"], total, args.seed), content["names"]))
    if args.image:
        return read_image(args.image, args.imgsz), np.zeros((0, 4))
    label = dataset.get_image_and_label(int(np.argmax([len(c) for c in classes])))
    label["instances"].convert_bbox("xyxy")
    label["instances"].denormalize(*label["img"].shape[1::-1])
    return np.repeat(label["img"], 3 // label["img"].shape[2], axis=2), label["instances"].bboxes


def read_image(file: Path, imgsz: int) -> np.ndarray:
    """An image or a scan as training reads it: (h, w, 3) uint8, `imgsz` pixels on its long side."""
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist; expected an image or a scan.")
    image = read_view(file).channels(3) if scan_kind(file) else imread(str(file), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{file} cannot be read as an image; expected PNG, JPEG, TIFF, or a scan.")
    factor = imgsz / max(image.shape[:2])
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)


if __name__ == "__main__":
    raise SystemExit(main())
