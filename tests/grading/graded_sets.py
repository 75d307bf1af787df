"""Two sets with grades, each written once: a small phantom, and slips that a forest can tell apart."""

import csv
import tempfile
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from yolospine_ultra.data.phantom.dataset import write_dataset

NAMES = ["DDD", "IVDn", "SS", "SP", "LDB", "TDB"]


@lru_cache(maxsize=1)
def phantom_set():
    """Folder of a phantom of 30 small slices."""
    folder = Path(tempfile.mkdtemp(prefix="yolospine-tests-")) / "set"
    write_dataset(folder, images=30, seed=3, size=160, workers=1, progress=False)
    return folder


@lru_cache(maxsize=1)
def slip_set(patients=12, size=96, seed=0):
    """Images of two blocks, the upper displaced by 1/8 (grade 1) or 5/8 (grade 2) of its width. Returns the YAML."""
    rng, root, rows = np.random.default_rng(seed), Path(tempfile.mkdtemp(prefix="yolospine-tests-")), []
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for k in range(patients):
            for part in range(2):
                grade = 1 + k % 2
                plane = rng.integers(0, 40, (size, size)).astype(np.uint8)
                x, shift = int(rng.integers(30, 36)), (4, 20)[grade - 1]
                plane[50:70, x : x + 32] = 200
                plane[24:44, x - shift : x - shift + 32] = 200
                name = f"{split}{k}_{part}.png"
                cv2.imwrite(str(root / "images" / split / name), plane)
                box = [x - 24, 20, x + 36, 74]
                centre = [(box[0] + box[2]) / 2 / size, (box[1] + box[3]) / 2 / size]
                extent = [(box[2] - box[0]) / size, (box[3] - box[1]) / size]
                line = " ".join(str(v) for v in (3, *centre, *extent))
                (root / "labels" / split / name).with_suffix(".txt").write_text(line + "\n")
                rows.append([name, split, f"{split}{k}", "t2", "L4/L5", "SP", *box, 3, grade])
    with (root / "annotations.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        shared = ["image", "split", "patient", "sequence", "level", "class"]
        writer.writerow([*shared, "x1", "y1", "x2", "y2", "pfirrmann", "meyerding"])
        writer.writerows(rows)
    file = root / "data.yaml"
    file.write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames: [{', '.join(NAMES)}]\n")
    return file
