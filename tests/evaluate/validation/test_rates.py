"""Sensitivity and specificity against hand cases and scikit-learn; intervals over patients against drawn images."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from rating_cases import image, rated
from sklearn.metrics import multilabel_confusion_matrix

from yolospine_ultra.evaluate.intervals import (
    RESAMPLES,
    draw_patients,
    patient_notes,
    patients_of,
    percentile_interval,
    share,
)
from yolospine_ultra.evaluate.validation.agreement import confusions
from yolospine_ultra.evaluate.validation.rates import KINDS, count_boxes, count_images, presence, rate_table

NAMES = ["x", "y", "z"]
# rows: x with 6 labels (4 right, 1 called y, 1 missed), y with 4 (3 right, 1 missed), z with none; 2 + 1 + 1 false
MATRIX = np.array([[4, 1, 0, 1], [0, 3, 0, 1], [0, 0, 0, 0], [2, 1, 1, 0]])


def test_hand_made_rates_of_boxes():
    table = rate_table(count_boxes(MATRIX[None]), NAMES, draw_patients(["p"]))
    x, y, z = (table["classes"][n] for n in NAMES)
    # of 14 cells' counts x has 6 in its row, 2 more in its column; the others are its negatives' right ones
    assert [x[k] for k in ("tp", "fn", "fp", "tn")] == [4, 2, 2, 6]
    assert (x["sensitivity"]["value"], x["specificity"]["value"]) == (pytest.approx(4 / 6), pytest.approx(6 / 8))
    assert (y["sensitivity"]["hits"], y["sensitivity"]["trials"], y["specificity"]["trials"]) == (3, 4, 10)
    assert z["sensitivity"]["value"] is None and "has z" in z["sensitivity"]["why"]
    assert z["specificity"]["value"] == pytest.approx(13 / 14)
    macro, weighted = table["macro"], table["count_weighted"]  # z, which nobody labelled, is in none
    assert macro["sensitivity"]["value"] == pytest.approx((4 / 6 + 3 / 4) / 2) and macro["sensitivity"]["classes"] == 2
    assert macro["specificity"]["value"] == pytest.approx((6 / 8 + 8 / 10) / 2)
    assert weighted["sensitivity"]["value"] == pytest.approx(7 / 10)
    assert (weighted["specificity"]["hits"], weighted["specificity"]["trials"]) == (14, 18)
    np.testing.assert_allclose(x["sensitivity"]["interval"], [0.300, 0.903], atol=1e-3)  # Wilson's of 4 in 6
    assert json.loads(json.dumps(table, allow_nan=False)) == table


def test_background_with_background_is_in_no_denominator():
    counts = count_boxes(MATRIX)
    for kind in KINDS:
        assert (counts.trials(kind)[1] <= MATRIX.sum()).all()
    assert (counts.tp + counts.fn + counts.fp + counts.tn == MATRIX.sum()).all() and MATRIX[3, 3] == 0


@settings(max_examples=40, deadline=None)
@given(rated())
def test_counts_are_those_of_scikit_learn(pair):
    truth, found = pair
    matrix = confusions(truth, found, 3).sum(0)
    counts = count_boxes(matrix)
    if matrix.any():
        true, guess = (np.repeat(x.ravel(), matrix.ravel()) for x in np.indices(matrix.shape))
        expected = multilabel_confusion_matrix(true, guess, labels=range(4))[:3]
        for cell, (i, k) in {"tn": (0, 0), "fp": (0, 1), "fn": (1, 0), "tp": (1, 1)}.items():
            assert getattr(counts, cell).tolist() == expected[:, i, k].tolist()
    present, called = presence(truth, 3), presence(found, 3)
    images = count_images(present, called).summed()
    expected = multilabel_confusion_matrix(present, called) if len(truth) else np.zeros((3, 2, 2))
    assert images.tp.tolist() == expected[:, 1, 1].tolist() and images.tn.tolist() == expected[:, 0, 0].tolist()
    assert images.fp.tolist() == expected[:, 0, 1].tolist() and images.fn.tolist() == expected[:, 1, 0].tolist()


def test_presence():
    images = [image((0, 0, 0, 1, 1), (0, 5, 5, 6, 6)), image(), image((2, 0, 0, 1, 1), (1, 0, 0, 1, 1))]
    assert presence(images, 3).tolist() == [[True, False, False], [False] * 3, [False, True, True]]
    assert presence([], 3).shape == (0, 3)


@settings(max_examples=30, deadline=None)
@given(rated(images=6, patients=3))
def test_a_resample_is_the_images_drawn(pair):
    """Weights give what the same images, each put in as often as it is drawn, give."""
    truth, found = pair
    weights = np.random.default_rng(len(truth)).integers(0, 3, (4, len(truth)))
    matrices = confusions(truth, found, 3)
    drawn, every = count_boxes(matrices).drawn(weights), np.ones(3, dtype=bool)
    for b, row in enumerate(weights):
        again = count_boxes(np.repeat(matrices, row, 0)).summed()
        for kind in KINDS:
            np.testing.assert_array_equal(drawn.rate(kind)[b], again.rate(kind))
            for how in ("macro", "count_weighted"):
                np.testing.assert_array_equal(drawn.average(kind, how, every)[b], again.average(kind, how, every))


def test_a_resample_without_a_class_has_no_macro_average():
    """Two patients, one of whom alone has the second class: its mean over one class would be of something else."""
    one, other = (0, 0, 10, 10), (50, 50, 60, 60)
    truth = [image((0, *one), (1, *other)), image((0, *one))]
    found = [image((0, *one, 0.9), scored=True), image((0, *one, 0.9), scored=True)]
    drawn = count_boxes(confusions(truth, found, 2)).drawn(np.array([[1, 1], [2, 0], [0, 2]]))
    classes = np.array([True, True])
    np.testing.assert_array_equal(drawn.average("sensitivity", "macro", classes), [0.5, 0.5, np.nan])
    np.testing.assert_array_equal(drawn.average("sensitivity", "count_weighted", classes), [2 / 3, 0.5, 1])


def test_classes_without_negatives_are_in_no_average_of_specificity():
    present = np.array([[True, False], [True, True]])
    table = rate_table(count_images(present, present), ["x", "y"], draw_patients(["a", "b"], 20))
    assert table["macro"]["sensitivity"]["classes"] == 2 and table["macro"]["specificity"]["classes"] == 1


# intervals


def test_patients_are_drawn_whole():
    weights = draw_patients(["a", "b", "a", "c"], 500, seed=1)
    assert weights.shape == (500, 4) and (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()
    assert weights.mean(0) == pytest.approx(1, abs=0.15)
    assert (weights == draw_patients(["a", "b", "a", "c"], 500, seed=1)).all()
    assert draw_patients(["a", "a"]).shape == (0, 2) and draw_patients(["a", "b"]).shape == (RESAMPLES, 2)


def test_bootstrap_of_a_share_is_near_its_normal_interval():
    """50 patients with one trial each, 30 hits: p +- 1.96 sqrt(p (1 - p) / 50)."""
    hits = np.arange(50) < 30
    low, high = percentile_interval(draw_patients([str(i) for i in range(50)]) @ hits / 50)
    half = 1.96 * math.sqrt(0.6 * 0.4 / 50)
    assert low == pytest.approx(0.6 - half, abs=0.025) and high == pytest.approx(0.6 + half, abs=0.025)


def test_percentile_interval_leaves_out_what_is_not_defined():
    values = np.append(np.linspace(0, 1, 101), [np.nan] * 5)
    assert percentile_interval(values) == pytest.approx([0.025, 0.975])
    assert percentile_interval(np.full(5, np.nan)) == percentile_interval(np.zeros(0)) == [None, None]
    assert percentile_interval(np.full(9, 0.3)) == [None, None]  # no spread, not a certain value


def test_share():
    made = share(0, 5)
    assert (made["value"], made["hits"], made["trials"], made["interval"][0]) == (0, 0, 5, 0)
    assert share(0, 0) == {"value": None, "hits": 0, "trials": 0, "interval": [None, None]}


def test_what_patients_mean_for_intervals_is_said():
    assert "one patient" in patient_notes(1, 5)[0] and "own" in patient_notes(5, 5)[0] and not patient_notes(2, 5)


def test_patients_of_names():
    assert patients_of(["val/104_t2.png", "28_t1.png", "7.png"]) == ["104", "28", "7"]
    assert patients_of(["a-1.png", "a-2.png"], r"(\d)$") == ["1", "2"]
    sites = ["a_b/1_t1.png", "c/1_t1.png", "train/2_x.png", "val/2_y.png"]
    assert patients_of(sites) == ["a_b/1", "c/1", "2", "2"] and patients_of(sites, "(.*)/")[:2] == ["a_b", "c"]
    for pattern, message in ((r"(\d+)", "a.png tells no patient"), ("a", "tells no patient"), ("(", "no regular exp")):
        with pytest.raises(ValueError, match=message):
            patients_of(["1.png", "a.png"], pattern)
