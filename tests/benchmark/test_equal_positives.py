"""Recall at equal false positives of resamples, against the plain evaluation of really repeated images."""

import math

import numpy as np
import pytest
from detections import make_findings

from yolospine_ultra.benchmark.equal_positives import RECALLS, drawn_recall, find_recalled, mean_recall
from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import draw_patients
from yolospine_ultra.evaluate.overlap.pairs import PAPER_RULES, pair_recall, rules_by_class
from yolospine_ultra.evaluate.validation.froc import pool, rank
from yolospine_ultra.evaluate.validation.operating_points import Criterion, choose_threshold

NAMES = ["DDD", "SS", "LDB", "x"]
PAPER = rules_by_class({p: t for p, t in PAPER_RULES.items() if set(p) <= set(NAMES)}, NAMES)


def plainly(truth, found):
    """The three recalls by choosing a score and counting what reaches it."""
    chosen = choose_threshold(pool(rank(truth, found, len(NAMES), 0.5)), Criterion(1.0), default=1.0)
    labels = chosen["tp"] + chosen["fn"]
    made = [chosen["tp"] / labels if labels else math.nan]
    site = {(a, b): 0.5 for b in range(len(NAMES)) for a in range(b)}
    for rules, extra in ((PAPER, {}), (site, {"tau_anat": 0.0})):
        counts = list(pair_recall(truth, found, rules, 0.5, chosen["threshold"], **extra).values())
        made.append(sum(counts[1:], counts[0]).recall)
    return made


@pytest.mark.parametrize("seed", range(6))
def test_weights_of_one_give_the_recall_at_a_chosen_score(seed):
    truth, found = make_findings(20, 4, seed)
    got = drawn_recall(find_recalled(truth, found, NAMES), np.ones((1, 20), dtype=np.int64))
    assert got.shape == (1, len(RECALLS))
    np.testing.assert_allclose(got[0], plainly(truth, found), equal_nan=True)


def test_a_weight_is_as_many_copies_of_the_image():
    truth, found = make_findings(14, 4, 5)
    weights = draw_patients([x.name.split("_")[0] for x in truth], resamples=12, seed=1)
    got = drawn_recall(find_recalled(truth, found, NAMES), weights)
    for b, row in enumerate(weights):
        copies = np.repeat(np.arange(14), row)
        expected = plainly([truth[i] for i in copies], [found[i] for i in copies])
        for k in (0, 2):  # which classes the paper's rules hold for is of all images, not of those drawn
            assert got[b, k] == pytest.approx(expected[k])


def test_nothing_found_and_nothing_to_find():
    def image(boxes, scores=None):
        return ImageFindings("a", np.array(boxes, float).reshape(-1, 4), np.zeros(len(boxes), int), scores)

    ones, box, far = np.ones((1, 1), dtype=np.int64), [0, 0, 10, 10], [50, 50, 60, 60]
    for truth, boxes, expected in (
        ([box], [], 0),
        ([box], [far, far], 0),
        ([box], [far, box], 1),
        ([], [far], math.nan),
    ):
        scores = np.linspace(0.9, 0.8, len(boxes)) if boxes != [far, far] else np.array([0.9, 0.9])
        got = drawn_recall(find_recalled([image(truth)], [image(boxes, scores)], NAMES), ones)
        np.testing.assert_equal(got, [[expected, math.nan, math.nan]])


def test_folds_are_averaged_then_seeds():
    cuts, weights = (slice(5), slice(5, 16)), [np.ones((1, n), dtype=np.int64) for n in (5, 11)]
    runs = []
    for seed in (2, 3):
        truth, found = make_findings(16, 4, seed)
        truth[0] = ImageFindings(truth[0].name, np.zeros((0, 4)), np.zeros(0, int))
        runs.append([find_recalled(truth[s], found[s], NAMES) for s in cuts])
    each = np.array([[drawn_recall(r, w)[0] for r, w in zip(folds, weights, strict=True)] for folds in runs])
    assert len(np.unique(each[..., 0])) >= 3  # neither folds nor seeds are alike
    np.testing.assert_allclose(mean_recall(runs, weights), [np.nanmean(each, 1).mean(0)], equal_nan=True)


def test_other_images_are_refused():
    truth, found = make_findings(3, 4)
    with pytest.raises(ValueError, match="other images"):
        find_recalled(truth, found[::-1], NAMES)
