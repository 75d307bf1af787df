"""The table "Nine trainings a model" of the README beside it, from the predictions that the three sweeps keep.

Unpack these first: `tar xJf predictions.tar.xz` in ../spider-lumbar-n256, its -gpu and its -earlier.
"""

from pathlib import Path

import numpy as np

from yolospine_ultra.benchmark.records import predictions_file, read_truth
from yolospine_ultra.benchmark.statistics import match, mean_precision, seed_weights
from yolospine_ultra.evaluate.findings import read_predictions
from yolospine_ultra.evaluate.intervals import percentile_bounds, resample_weights

RESULTS = Path(__file__).parents[1]
FIRST, OTHER_SEEDS, SAME_SEEDS = (RESULTS / f"spider-lumbar-n256{end}" for end in ("", "-gpu", "-earlier"))
STOCK = ("yolov8n", "yolo11n", "yolo12n", "yolov9t", "yolo26n")
NAMES = ["DDD", "IVDn", "SS", "SP", "LDB", "TDB"]

truth = read_truth(FIRST)
weights = resample_weights(truth.patients)


def curves(sweep: Path, model: str, seeds: range) -> np.ndarray:
    """mAP50-95 of all classes and of those with 20 boxes and more: (seeds, 1 + resamples, 2)."""
    files = [predictions_file(sweep, f"{model}_seed{seed}") for seed in seeds]
    found = [match(truth.images, read_predictions(f, truth.images, len(NAMES)), len(NAMES)) for f in files]
    return np.array([mean_precision([[m]], [weights])[:, ::2] for m in found])


def by_seed(model: str) -> np.ndarray:
    """Curves of six seeds; trainings of one seed are alike, so that their mean counts as one."""
    twice = (curves(FIRST, model, range(3)) + curves(SAME_SEEDS, model, range(3))) / 2
    return np.concatenate((twice, curves(OTHER_SEEDS, model, range(3, 6))))


def drawn(trainings: np.ndarray, stream: int) -> np.ndarray:
    """Mean over seeds (n, 1 + resamples, 2), drawn anew in each resample."""
    return np.einsum("nrk,rn->rk", trainings, seed_weights(len(trainings), len(weights) - 1, stream))


def shown(difference: np.ndarray) -> str:
    """Points and their 95% interval."""
    low, high = percentile_bounds(difference[1:])
    return f"{100 * difference[0]:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


for own in ("yolospine-n", "yolospine-n-undeclared"):
    ours = by_seed(own)
    print(f"{own}: {100 * ours[:, 0, 0].mean():.1f} {np.round(100 * ours[:, 0, 0], 1)}")
    for stream, rival in enumerate([f"{m}-{kind}" for kind in ("multilabel", "told") for m in STOCK], 1):
        lead = drawn(ours, 0) - drawn(by_seed(rival), stream)
        print(f"| {own} minus {rival} | {shown(lead[:, 0])} | {shown(lead[:, 1])} |")
