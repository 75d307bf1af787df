"""Whether a map depends on the class it is for; one that does not is no explanation of the class.

Source: own; the published YOLOspine code shows maps that no class enters. What is asked is exact: not that the maps of
two classes look unlike, which findings that occur together need not, but that they are different numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from yolospine_ultra.explain.cam import ClassIndependentError, NoEvidenceError, Patch, flatten, signed_maps

SAME = 1e-4  # of the largest value; equal maps differ by less through rounding


@dataclass(frozen=True)
class Specificity:
    """How a finding's map differs from those of the other classes at the same place.

    Attributes:
        difference: largest difference of a cell, maps scaled to a largest value of 1; of the class that is closest.
            None where the model has one class.
        correlation: Spearman's rank correlation with that class's map; None as above, and where a map is constant.
        closest: that class's name, None as above.
    """

    difference: float | None
    correlation: float | None
    closest: str | None


def specific_map(
    method: str, patches: Mapping[str, Sequence[Patch]], category: str
) -> tuple[list[np.ndarray], Specificity]:
    """The map of a finding, if it depends on the finding's class.

    Args:
        method: key of `cam.METHODS`.
        patches: of every class's score at the finding's place, by class name.
        category: the finding's class.

    Returns:
        The maps on cells, one a patch, and how they differ from those of other classes.

    Raises:
        ClassIndependentError: the class has no gradient in the features, or another class has the same map to `SAME`,
            negative evidence included.
        NoEvidenceError: nothing in the features speaks for the class, or just what speaks for another class too: maps
            that differ in negative evidence only would be one picture.
    """
    if not any(p.gradients.any() for p in patches[category]):
        raise ClassIndependentError(f"the score of {category} has no gradient in these features")
    signed = {name: signed_maps(method, p) for name, p in patches.items()}
    own = [np.maximum(m, 0) for m in signed[category]]
    cells = flatten(own)
    others = {name: m for name, m in signed.items() if name != category}
    for name, other in others.items():
        if np.abs(flatten(signed[category]) - flatten(other)).max() < SAME:
            raise ClassIndependentError(f"the map of {category} is that of {name}: it does not depend on the class")
    if not cells.any():
        raise NoEvidenceError(f"no cell has evidence for {category} by this method")
    if not others:
        return own, Specificity(None, None, None)
    shown = {name: flatten([np.maximum(m, 0) for m in maps]) for name, maps in others.items()}
    differences = {name: float(np.abs(cells - other).max()) for name, other in shown.items()}
    closest = min(differences, key=differences.__getitem__)
    if differences[closest] < SAME:
        raise NoEvidenceError(
            f"the cells with evidence for {category} have it for {closest} too, and there are no more"
        )
    return own, Specificity(differences[closest], rank_correlation(cells, shown[closest]), closest)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's rank correlation of two maps over the cells where either has evidence.

    Cells without evidence in both are left out: most features cannot reach a score at all, by the network's build, and
    would count as agreement. Below 0 the two name different cells.

    Args:
        first: (N,) cells, 0 or above.
        second: (N,) cells of the same places.

    Returns:
        -1..1, None where fewer than three cells are left or a map is constant on them.
    """
    seen = (first > 0) | (second > 0)
    first, second = first[seen], second[seen]
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second).statistic)
