"""Both tables of "Read in three ways" in the README beside it, from the predictions that this folder keeps.

Unpack these first: `tar xJf predictions.tar.xz` in this folder.
"""

from pathlib import Path

import numpy as np

from yolospine_ultra.benchmark.equal_positives import drawn_recall, find_recalled
from yolospine_ultra.benchmark.records import predictions_file, read_record, read_sweep, read_truth
from yolospine_ultra.benchmark.statistics import match, t_interval, weighted_precision
from yolospine_ultra.evaluate.findings import ImageFindings, read_predictions
from yolospine_ultra.evaluate.intervals import percentile_bounds, resample_weights

HERE = Path(__file__).parent
OURS = "yolospine-n"
LABELLED = ("DDD", "IVDn", "SP", "LDB", "TDB")
OFTEN = ("DDD", "IVDn", "LDB")

sweep, truth = read_sweep(HERE), read_truth(HERE)
names, folds = sweep.class_names, range(sweep.folds)
weights = resample_weights(truth.patients)
evaluated = set(read_truth(HERE.with_name("spider-lumbar-n256")).patients)  # of the sweep of the targets
apart = np.array([p in evaluated for p in truth.patients])


def found_by(model: str) -> list[ImageFindings]:
    """Findings in every image, each by the training that had not seen its patient."""
    found: dict[int, ImageFindings] = {}
    for fold in folds:
        own = truth.of(fold)
        file = predictions_file(HERE, f"{model}_seed0_fold{fold}")
        found |= zip(own, read_predictions(file, [truth.images[i] for i in own], len(names)), strict=True)
    return [found[i] for i in range(len(truth.images))]


def by_fold(model: str) -> np.ndarray:
    """mAP50-95 of each fold."""
    return np.array([read_record(HERE, f"{model}_seed0_fold{f}").metrics["map50_95"] for f in folds])


def shown(difference: np.ndarray) -> str:
    """Points and the 95% interval over patients of what resamples say, the data first."""
    low, high = percentile_bounds(difference[1:])
    return f"{100 * difference[0]:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def over_folds(difference: np.ndarray) -> str:
    """Points and Student's 95% interval over the folds, each with patients and trainings of its own."""
    made = t_interval(100 * difference)
    return f"{made.mean:+.1f} ({made.low:+.1f} to {made.high:+.1f})"


curves, recalls = {}, {}
for model in sweep.models:
    found = found_by(model)
    matches, recalled = match(truth.images, found, len(names)), find_recalled(truth.images, found, names)
    of_part = [weights, weights * apart, weights * ~apart]
    curves[model] = [weighted_precision(matches, w)[..., 0] for w in of_part]
    recalls[model] = [100 * drawn_recall(recalled, w)[:, 2] for w in of_part]

columns = ["ours minus", "five folds", "each fold", "without fold 0"]
columns += ["one list", "DDD, IVDn, LDB of it", "20 patients of it", "52 of it"]
print(f"| {' | '.join(columns)} |\n|" + "---|" * len(columns))
for model in sweep.models:
    if model == OURS:
        continue

    def ahead(classes: tuple[str, ...], part: int, rival: str = model) -> str:
        """By how much, in one list of all findings."""
        index = [names.index(c) for c in classes]
        return shown(curves[OURS][part][index].mean(0) - curves[rival][part][index].mean(0))

    difference = by_fold(OURS) - by_fold(model)
    each = ", ".join(f"{100 * d:+.1f}" for d in difference)
    print(f"| {model} | {over_folds(difference)} | {each} | {over_folds(difference[1:])} | ", end="")
    print(" | ".join((ahead(LABELLED, 0), ahead(OFTEN, 0), ahead(LABELLED, 1), ahead(LABELLED, 2))), "|")

print("\n| in one list | mAP50-95 | " + " | ".join(LABELLED) + " | both labels of a disc |\n|" + "---|" * 8)
for model, (whole, *_) in curves.items():
    values = [whole[names.index(c), 0] for c in LABELLED]
    cells = " | ".join(f"{100 * v:.1f}" for v in (np.mean(values), *values))
    print(f"| {model} | {cells} | {recalls[model][0][0]:.0f} |")
