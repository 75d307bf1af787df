"""Throughput of the training images with our augmentation against the stock pipeline's, and what each artefact costs.

Written for this project. Both pipelines load the same images in turn, one process, no workers; the ratio is the median
over the rounds. Times are of the processor, so that other programs matter less. Example:
`python scripts/benchmark_loader.py --data cfg/datasets/spine-phantom.yaml --imgsz 320 384`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
import torch
from ultralytics.cfg import get_cfg
from ultralytics.data import build_yolo_dataset
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils import DEFAULT_CFG

from yolospine_ultra.data.augment import mri
from yolospine_ultra.data.checks import resolve_data
from yolospine_ultra.data.dataset import build_dataset
from yolospine_ultra.engine.arguments import RECIPE
from yolospine_ultra.plugin import register

OURS = ("mri_augment", "class_centric", "degrees")  # what the recipe adds to the stock pipeline


def main() -> int:
    """Parse the command line, print the figures as JSON; 2 where the dataset cannot be read."""
    recipe = {key: RECIPE[key] for key in OURS if key in RECIPE}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="dataset YAML")
    parser.add_argument("--data-root", help="folder of the dataset, in place of the `path` in its YAML")
    parser.add_argument("--imgsz", type=int, nargs="+", default=[320, 384], help="input sizes (default 320 384)")
    parser.add_argument(
        "--mosaic", type=float, nargs="+", default=[1.0, 0.0], help="mosaic, both pipelines (default 1 0)"
    )
    parser.add_argument(
        "--batch", type=int, default=RECIPE["batch"], help="the host keeps 8 batches decoded (default 32)"
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often each pipeline loads the images (default 7)")
    for key in OURS:
        parser.add_argument(
            f"--{key.replace('_', '-')}", type=float, default=recipe.get(key, 0.0), help="default: recipe"
        )
    args = parser.parse_args()
    register()
    cv2.setNumThreads(0)  # as in the host's loaders
    torch.set_num_threads(1)
    settings = {key: getattr(args, key) for key in OURS}
    try:
        data = check_det_dataset(resolve_data(args.data, args.data_root))
        loaders = [compare(data, s, m, args.batch, settings, args.rounds) for s in args.imgsz for m in args.mosaic]
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    artefacts = {str(s): artefact_costs(s, args.rounds) for s in args.imgsz}
    print(json.dumps({"settings": settings, "loaders": loaders, "artefacts_ms": artefacts}, indent=2))
    return 0


def compare(
    data: dict[str, Any], imgsz: int, mosaic: float, batch: int, ours: dict[str, float], rounds: int
) -> dict[str, Any]:
    """Milliseconds an image of both pipelines and the ratio of their throughputs."""
    words = {"imgsz": imgsz, "mosaic": mosaic}
    stock = build_yolo_dataset(get_cfg(DEFAULT_CFG, words), data["train"], batch, data, mode="train")
    full = build_dataset(get_cfg(DEFAULT_CFG, words | ours), data["train"], batch, data, 32)
    random.seed(0), np.random.seed(0)
    times: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        pair = []
        for dataset in (stock, full):
            order = np.random.permutation(len(dataset)).tolist()
            start = time.process_time()
            for i in order:
                dataset[i]
            pair.append((time.process_time() - start) / len(dataset) * 1e3)
        times.append((pair[0], pair[1]))
    times = times[1:]  # the first round reads the files
    return {
        "imgsz": imgsz,
        "mosaic": mosaic,
        "images": len(stock),
        "stock_ms": round(statistics.median(t[0] for t in times), 2),
        "ours_ms": round(statistics.median(t[1] for t in times), 2),
        "throughput_ratio": round(statistics.median(t[0] / t[1] for t in times), 3),
    }


def artefact_costs(imgsz: int, rounds: int) -> dict[str, float]:
    """Milliseconds of each artefact on one grey image, strongest, beside MONAI's transform where it is installed."""
    plane = np.random.default_rng(0).integers(0, 256, (imgsz, imgsz), dtype=np.uint8)
    coefficients = np.random.default_rng(0).uniform(-1, 1, (mri.BIAS_DEGREE + 1, mri.BIAS_DEGREE + 1))
    calls: dict[str, Callable[[], Any]] = {
        "blur": lambda: mri.gaussian_blur(plane, mri.BLUR_SIGMA[1] * imgsz),
        "noise": lambda: mri.rician_noise(plane, 10.0, 0),
        "motion": lambda: mri.motion_blur(plane, mri.MOTION_LENGTH[1] * imgsz, 30.0),
        "bias": lambda: mri.bias_field(plane, mri.BIAS_GAIN[1], coefficients),
    }
    if find_spec("monai"):
        from monai.transforms.intensity.array import GaussianSmooth, RandBiasField, RandRicianNoise

        image = plane[None].astype(np.float32)
        smooth, noise = GaussianSmooth(mri.BLUR_SIGMA[1] * imgsz), RandRicianNoise(prob=1, std=10.0)
        bias = RandBiasField(prob=1, degree=mri.BIAS_DEGREE)
        theirs = {"blur": smooth, "noise": noise, "bias": bias}
        calls |= {f"monai_{name}": lambda transform=transform: transform(image) for name, transform in theirs.items()}
    return {name: round(_milliseconds(call, 10 * rounds), 2) for name, call in calls.items()}


def _milliseconds(call: Callable[[], Any], times: int) -> float:
    """Median processor time of a call."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        call()
        taken.append((time.process_time() - start) * 1e3)
    return statistics.median(taken)


if __name__ == "__main__":
    raise SystemExit(main())
