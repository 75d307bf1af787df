"""A tiny cell for the tests of the families."""

import cv2
import numpy as np
from conftest import write_dataset

from yolospine_ultra.benchmark.family import CellData


def make_cell(root, images=4, size=96, channels=3, classes=3):
    """Generated images of `conftest.write_dataset`; the first has no label file, the second an empty one."""
    yaml = write_dataset(root, images=images, size=size, channels=channels, classes=classes)
    (root / "labels" / "train" / "0.txt").unlink()
    (root / "labels" / "train" / "1.txt").write_text("")
    cv2.imwrite(str(root / "images" / "val" / "black.png"), np.zeros((60, 100), np.uint8))
    train, val = (tuple(sorted((root / "images" / split).glob("*.png"))) for split in ("train", "val"))
    return CellData(yaml, train, val, {i: f"class{i}" for i in range(classes)}, channels)
