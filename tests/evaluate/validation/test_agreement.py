"""Confusion with background against hand cases and plain loops, its numbers against scikit-learn."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rating_cases import image, plain_iou, rated
from sklearn import metrics as sk

from yolospine_ultra.benchmark import metrics
from yolospine_ultra.evaluate.validation.agreement import (
    SCORES,
    agreement,
    agreements,
    class_scores,
    confusion,
    confusions,
)

SITE = (0, 0, 10, 10)


def test_several_labels_on_one_site_are_no_error_when_each_is_predicted():
    truth = image((0, *SITE), (2, *SITE))
    assert (
        confusion(truth, image((2, *SITE, 0.4), (0, 1, 0, 10, 10, 0.9)), 3).tolist() == np.diag([1, 0, 1, 0]).tolist()
    )


def test_a_wrong_label_does_not_take_the_partner_of_a_right_one():
    truth = image((0, *SITE), (2, *SITE))
    matrix = confusion(truth, image((1, *SITE, 0.9), (0, *SITE, 0.8), (2, *SITE, 0.7)), 3)
    assert matrix[0, 0] == matrix[2, 2] == 1
    assert matrix[3, 1] == 1  # the third label is a false alarm, not a confusion
    assert matrix.sum() == 3


def test_left_over_boxes_on_one_site_are_a_confusion_and_far_ones_background():
    truth = image((0, *SITE), (1, 50, 50, 60, 60))
    found = image((1, 0, 0, 10, 9, 0.9), (1, 80, 80, 90, 90, 0.8))
    assert confusion(truth, found, 2).tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0]]
    assert confusion(truth, found, 2, 0.95).tolist() == [[0, 0, 1], [0, 0, 1], [0, 2, 0]]


def test_empty_images():
    assert confusion(image(), image((1, *SITE, 0.5)), 2).tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert confusion(image((1, *SITE)), image(scored=True), 2)[1, 2] == 1


def plain_confusion(truth, found, nc, iou):
    """The same in plain loops: first within classes, then across, best score first, without what was rightly said."""
    matrix = [[0] * (nc + 1) for _ in range(nc + 1)]
    order = sorted(range(len(found)), key=lambda k: -found.scores[k])
    truths, used = set(range(len(truth))), set()
    overlap = [[plain_iou(t.tolist(), f.tolist()) for f in found.boxes] for t in truth.boxes]
    for same in (True, False):
        right = set(range(len(truth))) - truths
        for k in order:
            again = any(overlap[i][k] >= iou and truth.classes[i] == found.classes[k] for i in right)
            fits = {
                i: overlap[i][k]
                for i in sorted(truths)
                if k not in used and not again and (not same or truth.classes[i] == found.classes[k])
            }
            best = max(fits, key=fits.get, default=None)
            if best is not None and fits[best] >= iou:
                matrix[truth.classes[best]][found.classes[k]] += 1
                truths.discard(best)
                used.add(k)
    for i in truths:
        matrix[truth.classes[i]][nc] += 1
    for k in set(order) - used:
        matrix[nc][found.classes[k]] += 1
    return matrix


@settings(max_examples=50, deadline=None)
@given(rated(), st.sampled_from([0.3, 0.5, 0.7]))
def test_agrees_with_plain_loops(pair, iou):
    each = confusions(*pair, 3, iou)
    for t, f, matrix in zip(*pair, each, strict=True):
        assert matrix.tolist() == plain_confusion(t, f, 3, iou)


@settings(max_examples=30, deadline=None)
@given(rated())
def test_every_box_is_counted_once_and_truth_as_prediction_is_the_diagonal(pair):
    truth, found = pair
    matrix = confusions(truth, found, 3).sum(0)
    assert matrix[:3].sum(1).tolist() == [sum((t.classes == c).sum() for t in truth) for c in range(3)]
    assert matrix[:, :3].sum(0).tolist() == [sum((f.classes == c).sum() for f in found) for c in range(3)]
    assert matrix[3, 3] == 0
    perfect = [image(*((c, *b, 1.0) for c, b in zip(t.classes, t.boxes, strict=True)), scored=True) for t in truth]
    for t, p in zip(truth, perfect, strict=True):
        assert confusion(t, p, 3).tolist() == np.diag([*np.bincount(t.classes, minlength=3), 0]).tolist()


def test_other_images_and_unknown_classes_are_refused():
    with pytest.raises(ValueError, match="other images"):
        confusions([image(name="a")], [image(name="b", scored=True)], 2)
    with pytest.raises(ValueError, match="class 2, expected 0 to 1"):
        confusions([image()], [image((2, *SITE, 0.5))], 2)
    with pytest.raises(ValueError, match="need scores"):
        confusion(image((0, *SITE)), image((0, *SITE)), 1)


# numbers


def test_hand_made_numbers():
    matrix = np.array([[5, 1, 2], [0, 3, 4], [2, 1, 0]])
    measured = agreement(matrix)
    assert measured["accuracy"] == pytest.approx(8 / 18)
    # class 0 has precision 5 / 7, recall 5 / 8; class 1 has 3 / 5, 3 / 7
    f1 = [2 * 5 / (7 + 8), 2 * 3 / (5 + 7)]
    assert measured["macro_f1"] == pytest.approx(np.mean(f1))
    assert measured["weighted_f1"] == pytest.approx(np.average(f1, weights=[8, 7]))
    chance = (8 * 7 + 7 * 5 + 3 * 6) / 18**2
    assert measured["kappa"] == pytest.approx((8 / 18 - chance) / (1 - chance))
    assert measured["matched_accuracy"] == pytest.approx(8 / 9)
    scores = class_scores(matrix)
    np.testing.assert_allclose(scores["precision"], [5 / 7, 3 / 5])
    np.testing.assert_allclose(scores["recall"], [5 / 8, 3 / 7])
    np.testing.assert_allclose(scores["f1"], f1)
    assert scores["support"].tolist() == [8, 7]


def test_misses_lower_what_the_matched_part_does_not_see():
    """Two hits of twelve: the reason why background is in the headline."""
    measured = agreement(np.array([[2, 0, 10], [0, 0, 0], [0, 0, 0]]))
    assert measured["matched_accuracy"] == 1 and measured["accuracy"] == pytest.approx(1 / 6)


counts = hnp.arrays(np.int64, (4, 4), elements=st.sampled_from([0, 0, 1, 3, 40]))


def sklearn_scores(matrix, labels):
    """The same numbers by scikit-learn, from label lists written out; F1 over some classes."""
    true, guess = (np.repeat(x.ravel(), matrix.ravel()) for x in np.indices(matrix.shape))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = (
            sk.accuracy_score(true, guess),
            sk.f1_score(true, guess, labels=labels, average="macro", zero_division=0.0),
            sk.f1_score(true, guess, labels=labels, average="weighted", zero_division=0.0),
            sk.cohen_kappa_score(true, guess),
            sk.matthews_corrcoef(true, guess),
        )
    return dict(zip(SCORES, values, strict=True))


@settings(max_examples=25, deadline=None)
@given(counts)
def test_numbers_are_those_of_scikit_learn(matrix):
    matrix[3, 3] = 0
    measured, matched = agreement(matrix), matrix.copy()
    matched[3], matched[:, 3] = 0, 0
    for prefix, part in (("", matrix), ("matched_", matched)):
        if not part[:3].any():
            assert all(math.isnan(measured[prefix + k]) for k in SCORES)
            continue
        for k, value in sklearn_scores(part, np.flatnonzero(matrix[:3].sum(1))).items():
            assert measured[prefix + k] == pytest.approx(value, nan_ok=True, abs=1e-12), prefix + k


@settings(max_examples=20, deadline=None)
@given(st.lists(counts, min_size=1, max_size=4))
def test_many_matrices_at_once_are_each_alone(matrices):
    many = agreements(np.array(matrices))
    for i, matrix in enumerate(matrices):
        for k, value in agreement(matrix).items():
            assert many[k][i] == pytest.approx(value, nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(counts.filter(np.any))
def test_class_scores_are_those_of_scikit_learn_and_average_to_macro_f1(matrix):
    scores = class_scores(matrix)
    true, guess = (np.repeat(x.ravel(), matrix.ravel()) for x in np.indices(matrix.shape))
    expected = sk.precision_recall_fscore_support(true, guess, labels=range(3), zero_division=np.nan)
    np.testing.assert_allclose(scores["precision"], expected[0])
    np.testing.assert_allclose(scores["recall"], expected[1])
    labelled = scores["support"] > 0
    np.testing.assert_allclose(scores["f1"][labelled], expected[2][labelled])
    assert np.isnan(scores["f1"][~labelled]).all()
    if labelled.any():
        assert np.nanmean(scores["f1"]) == pytest.approx(agreement(matrix)["macro_f1"])


def test_what_is_missed_altogether_counts_in_the_matched_macro_f1():
    measured = agreement(np.array([[4, 0, 0], [0, 0, 5], [0, 0, 0]]))  # all of class 0 right, all of class 1 missed
    assert measured["matched_macro_f1"] == measured["macro_f1"] == 0.5


def test_a_resample_without_a_class_has_no_macro_f1():
    matrices = np.array([[[4, 0, 0], [0, 1, 1], [0, 0, 0]], [[8, 0, 0], [0, 0, 0], [0, 0, 0]]])
    made = agreements(matrices, np.array([True, True]))
    assert made["macro_f1"][0] == pytest.approx((1 + 2 / 3) / 2) and np.isnan(made["macro_f1"][1])
    assert np.isnan(made["matched_macro_f1"][1]) and made["accuracy"][1] == 1


def test_a_repeated_box_is_false_and_no_wrong_label_of_the_second_finding():
    truth = image((0, *SITE), (1, *SITE))
    found = image((0, *SITE, 0.9), (0, *SITE, 0.8), scored=True)
    assert confusion(truth, found, 2).tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 0]]


def test_the_benchmark_measures_with_these():
    assert metrics.confusion is confusion and metrics.agreement is agreement
