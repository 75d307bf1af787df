"""Splitting a dataset by patient, and finding what leaks from one split into another.

Written for this project. Slices of one patient are near-duplicates, so a split by image measures memory. Images of two
patient numbers that look the same (a patient who came twice, a copied file) are found by a difference hash [1] of 256
bits and kept together. On 409 real mid-sagittal slices no two patients came closer than 31 bits, while re-encoded,
rescaled or re-windowed copies stay below 20: the limit lies between.

[1] N. Krawetz, "Kind of Like That", hackerfactor.com (2013); 16 x 16 comparisons instead of 8 x 8.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

HASH_LIMIT = 24  # of 256 bits
_SIDE = 16
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1)


@dataclass(frozen=True)
class Leak:
    """Something that two splits share.

    Attributes:
        kind: "patient" or "image".
        splits: the splits, in alphabetical order.
        detail: who or what, with names.
    """

    kind: str
    splits: tuple[str, ...]
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} in {' and '.join(self.splits)}: {self.detail}"


def image_hash(image: np.ndarray) -> np.ndarray | None:
    """Difference hash of an image.

    Args:
        image: grey (H, W) or colour (H, W, C), any depth.

    Returns:
        256 bits as uint8 (32,); None for an image without structure, of which a hash says nothing.
    """
    grey = image.mean(-1) if image.ndim == 3 else image
    small = cv2.resize(grey.astype(np.float32), (_SIDE + 1, _SIDE), interpolation=cv2.INTER_AREA)
    span = float(np.ptp(small))
    if not np.isfinite(span) or span <= 0.01 * max(1.0, float(np.abs(small).max())):
        return None
    return np.packbits(small[:, 1:] > small[:, :-1])


def similar_pairs(hashes: Sequence[np.ndarray | None], limit: int = HASH_LIMIT) -> list[tuple[int, int, int]]:
    """Pairs of images that look the same.

    Args:
        hashes: from `image_hash`, one an image.
        limit: most bits, of 256, in which two hashes may differ.

    Returns:
        (i, j, bits), i < j, in order. Time grows with the square of the number of images (2,000: under a second).
    """
    known = np.array([i for i, h in enumerate(hashes) if h is not None], dtype=int)
    if len(known) < 2:
        return []
    table = np.stack([hashes[i] for i in known])
    pairs = []
    for k, i in enumerate(known[:-1]):
        bits = _BITS[table[k + 1 :] ^ table[k]].sum(1)
        pairs += [(int(i), int(known[k + 1 + j]), int(bits[j])) for j in np.flatnonzero(bits <= limit)]
    return pairs


def link_groups(groups: Sequence[Hashable], pairs: Sequence[tuple[int, int, int]]) -> list[Hashable]:
    """Join the groups (patients) that a pair of similar images connects.

    Args:
        groups: the group of each image.
        pairs: from `similar_pairs`.

    Returns:
        For each image the first group, in order of appearance, of all that are connected to its own.
    """
    parent: dict[Hashable, Hashable] = {g: g for g in groups}
    rank = {g: k for k, g in enumerate(parent)}

    def root(group: Hashable) -> Hashable:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    for i, j, _ in pairs:
        first, second = sorted((root(groups[i]), root(groups[j])), key=rank.__getitem__)
        parent[second] = first
    return [root(g) for g in groups]


def check_shares(shares: dict[str, float], seed: int) -> None:
    """Refuse what `split_groups` cannot draw by, before hours of work depend on it.

    Raises:
        ValueError: a share that is not above 0, shares that are not 1 together, a seed below 0.
    """
    if not shares or any(not 0 < s <= 1 for s in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"shares {shares}: each must be above 0, together 1")
    if seed < 0:
        raise ValueError(f"seed={seed}: expected 0 or more")


def split_groups(groups: Sequence[Hashable], counts: np.ndarray, shares: dict[str, float], seed: int = 0) -> list[str]:
    """Assign whole groups (patients) to splits so that images and every class come close to the wanted shares.

    Groups are drawn in random order, those with the rarest content first, and each goes where it brings the weighted
    sum of squared errors of all shares down most. No split stays empty while another has two groups or more.

    Args:
        groups: the group of each image.
        counts: labels (N images, C classes) of each image.
        shares: split name to share above 0; together 1.
        seed: the same seed gives the same splits.

    Returns:
        The split of each image.

    Raises:
        ValueError: as `check_shares`, or lengths that differ.
    """
    check_shares(shares, seed)
    counts = np.asarray(counts, dtype=np.float64)
    if counts.ndim != 2 or len(counts) != len(groups):
        raise ValueError(f"{len(groups)} images, but label counts of shape {counts.shape}: expected one row an image")
    names = list(dict.fromkeys(groups))
    index = {g: k for k, g in enumerate(names)}
    table = np.zeros((len(names), counts.shape[1] + 1))
    for group, row in zip(groups, counts, strict=True):
        table[index[group]] += [1, *row]
    table = table / np.maximum(table.sum(0), 1)  # shares of the whole, a column an amount: images, then the classes
    wanted = np.array(list(shares.values()))[:, None]
    have = np.zeros((len(shares), table.shape[1]))
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-table[order].max(1), kind="stable")]
    chosen = np.zeros(len(names), dtype=int)
    left = table.sum(0)
    weight = np.array([counts.shape[1], *np.ones(counts.shape[1])])  # images count as much as all classes together
    for k in order:
        # What is nearly used up weighs most: its balance cannot be mended by the groups that follow.
        change = (have + table[k] - wanted) ** 2 - (have - wanted) ** 2
        chosen[k] = int(np.argmin((weight * change / np.maximum(left, 1e-9) ** 2).sum(1)))
        have[chosen[k]] += table[k]
        left = left - table[k]
    for split in range(len(shares)):
        sizes = np.bincount(chosen, minlength=len(shares))
        if sizes[split] == 0 and sizes.max() > 1:
            members = np.flatnonzero(chosen == sizes.argmax())
            chosen[members[np.argmin(table[members, 0])]] = split
    labels = list(shares)
    return [labels[chosen[index[g]]] for g in groups]


def find_leaks(
    names: Sequence[str],
    splits: Sequence[str],
    patients: Sequence[str],
    hashes: Sequence[np.ndarray | None] | None = None,
    limit: int = HASH_LIMIT,
) -> list[Leak]:
    """What the splits share.

    Args:
        names: name of each image.
        splits: its split.
        patients: its patient.
        hashes: its `image_hash`, to find images that look the same under two patients.
        limit: as in `similar_pairs`.

    Returns:
        Patients that occur in several splits, then similar images of different patients in different splits.
    """
    seen: dict[str, dict[str, str]] = {}
    for name, split, patient in zip(names, splits, patients, strict=True):
        seen.setdefault(patient, {}).setdefault(split, name)
    leaks = []
    for patient, where in seen.items():
        if len(where) > 1:
            images = ", ".join(f"{where[s]} ({s})" for s in sorted(where))
            leaks.append(Leak("patient", tuple(sorted(where)), f"patient {patient}: {images}"))
    for i, j, bits in similar_pairs(hashes, limit) if hashes is not None else ():
        if splits[i] != splits[j] and patients[i] != patients[j]:
            detail = f"{names[i]} ({splits[i]}) and {names[j]} ({splits[j]}) differ in {bits} of 256 bits"
            leaks.append(Leak("image", tuple(sorted((splits[i], splits[j]))), detail))
    return leaks
