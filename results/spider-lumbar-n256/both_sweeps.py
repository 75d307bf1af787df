"""The table "Both sweeps together" of the README beside it, from the predictions that both folders keep.

Unpack these first: `tar xJf predictions.tar.xz` in this folder and in ../spider-lumbar-n256-earlier.
"""

from pathlib import Path

import numpy as np

from yolospine_ultra.benchmark.records import predictions_file, read_truth
from yolospine_ultra.benchmark.statistics import match, mean_precision, seed_weights
from yolospine_ultra.evaluate.findings import read_predictions
from yolospine_ultra.evaluate.intervals import percentile_bounds, resample_weights

HERE = Path(__file__).parent
SWEEPS = (HERE, HERE.with_name("spider-lumbar-n256-earlier"))
STOCK = ("yolov8n", "yolo11n", "yolo12n", "yolov9t", "yolo26n")
NAMES = ["DDD", "IVDn", "SS", "SP", "LDB", "TDB"]

truth = read_truth(HERE)
weights = resample_weights(truth.patients)


def curves(model: str) -> np.ndarray:
    """mAP50-95 of all classes and of those with 20 boxes and more: (sweeps, seeds, 1 + resamples, 2)."""
    files = [[predictions_file(sweep, f"{model}_seed{seed}") for seed in range(3)] for sweep in SWEEPS]
    found = [[match(truth.images, read_predictions(f, truth.images, len(NAMES)), len(NAMES)) for f in s] for s in files]
    return np.array([[mean_precision([[m]], [weights])[:, ::2] for m in sweep] for sweep in found])


def drawn(trainings: np.ndarray, stream: int) -> np.ndarray:
    """Mean over trainings (n, 1 + resamples, 2), drawn anew in each resample."""
    return np.einsum("nrk,rn->rk", trainings, seed_weights(len(trainings), len(weights) - 1, stream))


def shown(difference: np.ndarray) -> str:
    """Points and their 95% interval."""
    low, high = percentile_bounds(difference[1:])
    return f"{100 * difference[0]:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


for own in ("yolospine-n", "yolospine-n-undeclared"):
    ours = curves(own)
    for stream, rival in enumerate([f"{m}-{kind}" for kind in ("multilabel", "told") for m in STOCK], 1):
        theirs = curves(rival)
        six = drawn(np.concatenate(ours), 0) - drawn(np.concatenate(theirs), stream)
        three = drawn(ours.mean(0), 0) - drawn(theirs.mean(0), stream)
        print(f"| {own} minus {rival} | {shown(six[:, 0])} | {shown(three[:, 0])} | {shown(three[:, 1])} |")
