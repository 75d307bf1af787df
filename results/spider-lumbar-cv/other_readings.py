"""The tables of "Read in other ways" in the README beside it, from the predictions that both sweeps keep.

Unpack these first: `tar xJf predictions.tar.xz` in seed0 and in seed1.
"""

from pathlib import Path

import numpy as np

from yolospine_ultra.benchmark.equal_positives import drawn_recall, find_recalled
from yolospine_ultra.benchmark.records import predictions_file, read_record, read_sweep, read_truth
from yolospine_ultra.benchmark.statistics import match, seed_weights, t_interval, weighted_precision
from yolospine_ultra.evaluate.findings import ImageFindings, read_predictions
from yolospine_ultra.evaluate.intervals import percentile_bounds, resample_weights

HERE = Path(__file__).parent
SEEDS = (0, 1)
OURS, UNTOLD = "yolospine-n", "yolospine-n-undeclared"
STOCK = ("yolov8n", "yolo11n", "yolo12n", "yolov9t")
# rows that share a training draw the same seeds: the number of a training's random stream
STREAMS = {f"{m}{kind}": i for kind in ("-multilabel", "-told") for i, m in enumerate(STOCK, 1)} | {OURS: 0}
RIVALS = [m for m in STREAMS if m != OURS]
LABELLED = ("DDD", "IVDn", "SP", "LDB", "TDB")
OFTEN = ("DDD", "IVDn", "LDB")

sweep, truth = read_sweep(HERE / "seed1"), read_truth(HERE / "seed1")  # that of seed 0 has the same folds
names = sweep.class_names
weights = resample_weights(truth.patients)
evaluated = set(read_truth(HERE.with_name("spider-lumbar-n256")).patients)  # of the sweep of the targets
apart = np.array([p in evaluated for p in truth.patients])


def trained(model: str, seed: int) -> list[int]:
    """Folds of which a model has a training."""
    cells = HERE / f"seed{seed}" / "cells"
    return [f for f in range(sweep.folds) if (cells / f"{model}_seed{seed}_fold{f}" / "record.json").is_file()]


def found_by(model: str, seed: int) -> list[ImageFindings]:
    """Findings in every image, each by the training that had not seen its patient."""
    found: dict[int, ImageFindings] = {}
    for fold in range(sweep.folds):
        own = truth.of(fold)
        file = predictions_file(HERE / f"seed{seed}", f"{model}_seed{seed}_fold{fold}")
        found |= zip(own, read_predictions(file, [truth.images[i] for i in own], len(names)), strict=True)
    return [found[i] for i in range(len(truth.images))]


def one_list(model: str, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """AP50-95 (classes, 1 + resamples) of all patients, of the 20 and of the 52; both labels of a disc, percent."""
    found = found_by(model, seed)
    matches, recalled = match(truth.images, found, len(names)), find_recalled(truth.images, found, names)
    parts = [weighted_precision(matches, w)[..., 0] for w in (weights, weights * apart, weights * ~apart)]
    return parts, 100 * drawn_recall(recalled, weights)[:, 2]


def by_fold(model: str, seed: int, folds: list[int], name: str | None = None) -> np.ndarray:
    """mAP50-95 of folds, of all classes or the AP50-95 of one, points."""
    records = [read_record(HERE / f"seed{seed}", f"{model}_seed{seed}_fold{f}") for f in folds]
    return np.array([100 * (r.classes[name] if name else r.metrics)["map50_95"] for r in records])


def drawn(model: str, seeds: list[int], classes: tuple[str, ...], part: int) -> np.ndarray:
    """Mean AP50-95 of classes in one list (1 + resamples,), over the seeds that each resample draws."""
    index = [names.index(c) for c in classes]
    values = np.array([lists[model][s][0][part][index].mean(0) for s in seeds])
    return np.einsum("sr,rs->r", values, seed_weights(len(seeds), len(weights) - 1, STREAMS[model]))


def shown(difference: np.ndarray) -> str:
    """Points and the 95% interval over patients and seeds of what resamples say, the data first."""
    low, high = percentile_bounds(difference[1:])
    return f"{100 * difference[0]:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def over_folds(difference: np.ndarray) -> str:
    """Points and Student's 95% interval over folds, each with patients and trainings of its own."""
    made = t_interval(difference)
    return f"{made.mean:+.1f} ({made.low:+.1f} to {made.high:+.1f})"


def listed(values: np.ndarray) -> str:
    """Differences one after the other."""
    return ", ".join(f"{v:+.1f}" for v in values)


seeds_of = {m: [s for s in SEEDS if len(trained(m, s)) == sweep.folds] for m in (OURS, *RIVALS)}
lists = {m: {s: one_list(m, s) for s in seeds} for m, seeds in seeds_of.items()}

print("| ours minus | five folds | each fold of seed 0 | of seed 1 | without fold 0 |\n|" + "---|" * 5)
for rival in RIVALS:
    both, folds = seeds_of[rival], list(range(sweep.folds))
    each = {s: by_fold(OURS, s, folds) - by_fold(rival, s, folds) for s in both}
    mean = np.mean(list(each.values()), 0)
    of_seed = [listed(each[s]) if s in each else "" for s in SEEDS]
    print(f"| {rival} | {over_folds(mean)} | {' | '.join(of_seed)} | {over_folds(mean[1:])} |")

print("\n| ours minus | one list | DDD, IVDn, LDB of it | 20 patients of it | 52 of it |\n|" + "---|" * 5)
for rival in RIVALS:
    kinds = ((LABELLED, 0), (OFTEN, 0), (LABELLED, 1), (LABELLED, 2))
    cells = [shown(drawn(OURS, seeds_of[rival], *k) - drawn(rival, seeds_of[rival], *k)) for k in kinds]
    print(f"| {rival} | {' | '.join(cells)} |")

print("\n| in one list | mAP50-95 | " + " | ".join(LABELLED) + " | both labels of a disc |\n|" + "---|" * 8)
for model, seeds in lists.items():
    values = [np.mean([whole[0][names.index(c), 0] for whole, _ in seeds.values()]) for c in LABELLED]
    cells = " | ".join(f"{100 * v:.1f}" for v in (np.mean(values), *values))
    print(f"| {model} | {cells} | {np.mean([recalled[0] for _, recalled in seeds.values()]):.0f} |")

print("\nTDB in fold 0, and in the mean of the others:")
for model, seeds in seeds_of.items():
    each = np.mean([by_fold(model, s, list(range(sweep.folds)), "TDB") for s in seeds], 0)
    print(f"    {model}: {each[0]:.1f}, {each[1:].mean():.1f}")

folds = trained(UNTOLD, 1)
print(f"\n{UNTOLD}, seed 1, folds {folds}: {by_fold(UNTOLD, 1, folds).mean():.1f}")
for model in (OURS, *RIVALS):
    print(f"    minus {model}: {over_folds(by_fold(UNTOLD, 1, folds) - by_fold(model, 1, folds))}")
