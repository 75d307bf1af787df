"""Recall at equal false positives, of the data and of resamples of it: findings, overlapping pairs, labels of one site.

At one score for all, the detector that gives higher scores finds more of everything, right and false. So each has a
score of its own, the least one that lets in at most `RATE` false positives an image, of all classes together; a finding
counts where it is matched (`evaluate.matching`), a pair where both of its findings are. Written for this project.

As in `benchmark.statistics`, drawing an image twice is counting what is in it twice: boxes are matched once, and a
resample chooses its own score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import mean_defined
from yolospine_ultra.evaluate.matching import match_by_class
from yolospine_ultra.evaluate.overlap.pairs import PAPER_RULES, TAU_ANAT, find_pairs, rules_by_class
from yolospine_ultra.evaluate.validation.agreement import IOU
from yolospine_ultra.evaluate.validation.froc import Ranked, drawn_counts, pool, rank_matched

RATE = 1.0  # false positives an image
ONE_SITE = 0.5  # least IoU of two labels that mean one site
RECALLS = ("recall_fp1", "pair_recall_fp1", "one_site_recall_fp1")


@dataclass(frozen=True, eq=False)
class Recalled:
    """What a detector finds, at every score.

    Attributes:
        ranked: predictions of all classes as one list.
        pairs: true pairs by the paper's rules, and true pairs of one site: the image of each (P,), and the score down
            to which both of its findings are found (P,), -1 where one never is.
    """

    ranked: Ranked
    pairs: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def paper_rules(names: Sequence[str]) -> dict[tuple[int, int], float]:
    """The paper's rules by class index, those whose classes the data have."""
    return rules_by_class({p: t for p, t in PAPER_RULES.items() if set(p) <= set(names)}, names)


def site_rules(nc: int) -> dict[tuple[int, int], float]:
    """Rules by which any two of C classes make a pair where they stand on one site."""
    return {(a, b): ONE_SITE for b in range(nc) for a in range(b)}


def find_recalled(truth: Sequence[ImageFindings], found: Sequence[ImageFindings], names: Sequence[str]) -> Recalled:
    """Match findings with ground truth.

    Args:
        truth: labelled findings of each image.
        found: findings with scores of the same images in the same order.
        names: class names by index.

    Raises:
        ValueError: other images, or another order.
    """
    if [x.name for x in truth] != [x.name for x in found]:
        raise ValueError("findings are of other images than the ground truth, or in another order.")
    nc = len(names)
    partners = [match_by_class(t, f, IOU) for t, f in zip(truth, found, strict=True)]
    reached = [np.append(f.scores, -1.0)[p] for f, p in zip(found, partners, strict=True)]  # -1 takes the last
    pairs = find_pairs(truth, nc)
    start = np.cumsum([0, *(len(x) for x in reached)])
    both = np.concatenate([*reached, np.zeros(0)])[start[pairs.image][:, None] + pairs.boxes].min(1)
    compatible = pairs.compatibility()

    def of(rules: Mapping[tuple[int, int], float], least: float) -> tuple[np.ndarray, np.ndarray]:
        hold = [pairs.of(p) & (pairs.iou >= tau) & (compatible[p] >= least) for p, tau in rules.items()]
        mask = np.any([np.zeros(len(both), bool), *hold], axis=0)
        return pairs.image[mask], both[mask]

    return Recalled(
        pool(rank_matched(truth, found, partners, nc)), (of(paper_rules(names), TAU_ANAT), of(site_rules(nc), 0.0))
    )


def drawn_recall(recalled: Recalled, weights: np.ndarray) -> np.ndarray:
    """The `RECALLS` of each resample: (B, 3) for weights (B, I); NaN where nothing is to be found."""
    r, made = recalled.ranked, np.full((len(weights), len(RECALLS)), np.nan)
    labels, images, scores = weights @ r.labels, weights.sum(1), np.append(r.scores[r.ends()], np.inf)
    for own, right, false in drawn_counts(r, weights):
        last = (false <= RATE * images[own, None]).sum(1) - 1  # of the scores, -1 where none lets in so few
        hits = np.where(last < 0, 0, np.take_along_axis(np.pad(right, ((0, 0), (0, 1))), last[:, None], 1)[:, 0])
        made[own, 0] = _share(hits, labels[own])
        for k, (image, reached) in enumerate(recalled.pairs, 1):
            pairs = weights[own][:, image]
            made[own, k] = _share((pairs * (reached >= scores[last][:, None])).sum(1), pairs.sum(1))
    return made


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Their quotient, NaN of nothing."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def mean_recall(runs: Sequence[Sequence[Recalled]], weights: Sequence[np.ndarray]) -> np.ndarray:
    """Mean recall over seeds of each resample, within a seed over the folds where it is defined: (B, 3).

    Args:
        runs: for each seed, of each fold.
        weights: of each fold, (B, images of the fold).
    """
    return np.mean([mean_defined([drawn_recall(r, w) for r, w in zip(f, weights, strict=True)]) for f in runs], 0)
