"""A family for the tests: it "trains" in no time, and finds the labelled boxes, moved a little by its seed.

`TOY_SECONDS` makes its trainings last. `TOY_FAIL`, such as "bad:kill,good:raise", makes them fail, or end as the system
ends what takes too much memory. Each training adds a line to `TOY_LOG`.
"""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
from torch import nn
from ultralytics.data.utils import img2label_paths

from yolospine_ultra.benchmark.family import ModelEntry
from yolospine_ultra.evaluate.findings import ImageFindings


def write_patients(root):
    """A dataset of 8 and 4 images with names of their own, each its own patient; its YAML."""
    from conftest import write_dataset  # which cells, that import this module too, do not find

    file = write_dataset(root, images=8)
    for i in range(4):
        for kind, end in (("images", "png"), ("labels", "txt")):
            (root / kind / "val" / f"{i}.{end}").rename(root / kind / "val" / f"v{i}.{end}")
    return str(file)


def options(data, out, **changes):
    """Options of a sweep of toys."""
    from yolospine_ultra.benchmark.runner import Options

    return Options(
        **{"data": data, "out": out, "models": ["toy:GOOD", "toy:BAD"], "seeds": [0, 1], "rounds": 0, **changes}
    )


class ToyDetector:
    def __init__(self, noise, seed, threshold):
        self.module = nn.Linear(3, 4)
        self.noise, self.seed, self.threshold = noise, seed, threshold

    def detect(self, images):
        from PIL import Image

        found = []
        for file in images:
            rng = np.random.default_rng([self.seed, len(file.name)])
            with Image.open(file) as image:
                w, h = image.size
            rows = np.loadtxt(img2label_paths([str(file)])[0], ndmin=2)
            centre, size = rows[:, 1:3] * (w, h), rows[:, 3:] * (w, h)
            boxes = np.concatenate([centre - size / 2, centre + size / 2], 1) + rng.normal(
                0, self.noise, (len(rows), 1)
            )
            scores = np.sort(rng.uniform(0.3, 1, len(rows)))[::-1]
            keep = scores > self.threshold
            found.append(ImageFindings(file.name, boxes[keep], rows[keep, 0].astype(int), scores[keep]))
        return found


class ToyFamily:
    extra = ""
    packages = ()
    begins_with_weights = True

    def train(self, entry, data, budget, folder):
        if log := os.environ.get("TOY_LOG"):
            with open(log, "a") as f:
                f.write(f"{entry.name} {budget.seed} {len(data.train)} {len(data.val)} {os.getpid()}\n")
        time.sleep(float(os.environ.get("TOY_SECONDS", 0)))
        fails = os.environ.get("TOY_FAIL", "").split(",")
        if f"{entry.name}:raise" in fails:
            raise RuntimeError("the toy\nis broken")
        if f"{entry.name}:kill" in fails:
            os.kill(os.getpid(), signal.SIGKILL)
        weights = folder / "weights.json"
        begun = json.loads(budget.init.read_text()) if budget.init else 0
        weights.write_text(json.dumps(budget.seed + 100 * begun))
        return weights

    def load(self, entry, weights, data, budget):
        seed = json.loads(Path(weights).read_text()) if weights else 0
        return ToyDetector(entry.build["noise"], seed, entry.predict.get("threshold", 0))


class NeedyFamily(ToyFamily):
    extra = "bench"
    packages = ("a_package_that_is_not_there",)


class ScratchFamily(ToyFamily):
    begins_with_weights = False


FAMILY, NEEDY, SCRATCH = ToyFamily(), NeedyFamily(), ScratchFamily()
GOOD = ModelEntry("good", "toy:FAMILY", {"noise": 0.5}, scale="n")
STRICT = ModelEntry("good-strict", "toy:FAMILY", {"noise": 0.5}, scale="n", predict={"threshold": 0.8})
OTHER = ModelEntry("other", "toy:FAMILY", {"noise": 1.0})
BAD = ModelEntry("bad", "toy:FAMILY", {"noise": 5.0}, scale="n")
ALONE = ModelEntry("alone", "toy:SCRATCH", {"noise": 1.0})
ABSENT = ModelEntry("absent", "toy:NEEDY", {})
