"""Class-centric augmentation: more samples an epoch of the images that show rare classes.

Source: YOLOspine (Masood and Taj 2026), "Augmentation Strategy": w_c = 1 / (f_c + eps), normalised over the classes,
A_c = w_c A_total. Taken here: f_c is the class's share of all instances; A_c counts images that contain class c, each
a sample of its own that the random augmentations change like any other; a class without an instance has no such image,
so the weights are normalised over the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

EPS = 1e-6  # small beside the share of any class that occurs: it guards the division and changes nothing


def class_weights(counts: np.ndarray) -> np.ndarray:
    """Share of the extra samples that each class gets.

    Args:
        counts: (nc,) instances of each class.

    Returns:
        (nc,) weights of sum 1, 0 where a class has no instance; all 0 where none has.
    """
    counts = np.asarray(counts, float)
    occurs = counts > 0
    if not occurs.any():
        return np.zeros_like(counts)
    weights = np.where(occurs, 1 / (counts / counts.sum() + EPS), 0.0)
    return weights / weights.sum()


def extra_counts(counts: np.ndarray, total: int) -> np.ndarray:
    """A_c in whole samples: (nc,) integers of sum `total` (0 where no class occurs), by largest remainders."""
    exact = class_weights(counts) * total
    whole = np.floor(exact).astype(int)
    left = round(exact.sum()) - whole.sum()
    whole[np.argsort(whole - exact, kind="stable")[:left]] += 1
    return whole


def instance_counts(classes: Sequence[np.ndarray], nc: int) -> np.ndarray:
    """Instances of each class, (nc,), given the class indices of every image's instances."""
    return np.bincount(np.concatenate([np.ravel(c) for c in classes] or [[]]).astype(int), minlength=nc)


def extra_indices(classes: Sequence[np.ndarray], nc: int, total: int, seed: int) -> list[int]:
    """Which images to show again in an epoch.

    Each class's A_c samples go round its images in a random order, so that none is shown twice more often than another.

    Args:
        classes: class indices of the instances of every image; an image may have several classes, or none.
        nc: number of classes.
        total: A_total, the number of extra samples.
        seed: of the order.

    Returns:
        `total` indices into `classes`, the samples of class 0 first; none where no image has an instance.
    """
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for c, n in enumerate(extra_counts(instance_counts(classes, nc), total)):
        images = [i for i, found in enumerate(classes) if np.any(np.asarray(found) == c)]
        if n:
            chosen += np.resize(rng.permutation(images), n).tolist()
    return chosen


def class_table(classes: Sequence[np.ndarray], extra: Sequence[int], names: Mapping[int, str]) -> str:
    """What an epoch shows of each class before and after, as text.

    Args:
        classes: as `extra_indices` takes them.
        extra: what it gave.
        names: of the classes, by index.
    """
    nc = len(names)
    before, after = instance_counts(classes, nc), instance_counts([*classes, *(classes[i] for i in extra)], nc)
    weights, added = class_weights(before), extra_counts(before, len(extra))
    width = max(5, *(len(name) for name in names.values()))
    rows = [f"{'class':<{width}}  instances  share    w_c    A_c  instances after  share"]
    rows += [
        f"{names[c]:<{width}}  {before[c]:9d}  {_share(before, c)}  {weights[c]:5.3f}  {added[c]:5d}"
        f"  {after[c]:15d}  {_share(after, c)}"
        for c in range(nc)
    ]
    rows.append(f"images: {len(classes)} + {len(extra)} extra = {len(classes) + len(extra)} samples an epoch")
    return "\n".join(rows)


def _share(counts: np.ndarray, c: int) -> str:
    return f"{counts[c] / max(counts.sum(), 1):5.1%}"
