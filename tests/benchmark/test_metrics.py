"""Average precision against pycocotools, and agreement of classes against hand cases and label lists."""

import math

import numpy as np
import pytest
from detections import make_findings
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from yolospine_ultra.benchmark.metrics import (
    agreement,
    average_precision,
    confusion,
    evaluate,
    to_coco,
    to_coco_results,
)
from yolospine_ultra.evaluate.findings import ImageFindings


def oracle(truth, found, nc):
    """AP of each class by pycocotools: (C, 3), NaN without ground truth."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    reference = COCO()
    reference.dataset = to_coco(truth, nc)
    reference.createIndex()
    study = COCOeval(reference, reference.loadRes(to_coco_results(found)), "bbox")
    study.evaluate()
    study.accumulate()
    p = study.eval["precision"][:, :, :, 0, 2]
    p[p < 0] = np.nan
    return np.stack([p.mean((0, 1)), p[5].mean(0), p[0].mean(0)], 1)


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_pycocotools(seed):
    truth, found = make_findings(20, 4, seed, absent=(2,) if seed % 2 else ())
    ours, theirs = average_precision(truth, found, 4), oracle(truth, found, 4)
    np.testing.assert_allclose(ours, theirs, atol=1e-6, equal_nan=True)
    assert np.isfinite(ours).any()
    assert np.isnan(ours[2]).all() == bool(seed % 2)


def test_no_detection_is_zero_and_a_class_without_ground_truth_is_out_of_the_mean():
    truth = [ImageFindings("a", np.array([[0, 0, 10, 10.0]]), np.array([0]))]
    nothing = [ImageFindings("a", np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))]
    measured = evaluate(truth, nothing, ["x", "y"], 0.25)
    assert measured.metrics["map50_95"] == 0
    assert math.isnan(measured.classes["y"]["map50_95"]) and measured.classes["y"]["ground_truth"] == 0
    assert measured.metrics["accuracy"] == 0 and math.isnan(measured.metrics["matched_accuracy"])


def image(boxes, classes, scores=None):
    return ImageFindings("a", np.array(boxes, float).reshape(-1, 4), np.array(classes, int), scores)


def test_a_wrong_label_does_not_take_the_partner_of_a_right_one():
    site = [0, 0, 10, 10]
    truth = image([site, site], [0, 2])
    found = image([site, site, site], [1, 0, 2], np.array([0.9, 0.8, 0.7]))
    matrix = confusion(truth, found, 3)
    assert matrix[0, 0] == matrix[2, 2] == 1
    assert matrix[3, 1] == 1  # the third label is a false alarm, not a confusion
    assert matrix.sum() == 3


def test_left_over_boxes_on_one_site_are_a_confusion_and_far_ones_background():
    truth = image([[0, 0, 10, 10], [50, 50, 60, 60]], [0, 1])
    found = image([[0, 0, 10, 9], [80, 80, 90, 90]], [1, 1], np.array([0.9, 0.8]))
    matrix = confusion(truth, found, 2)
    assert matrix.tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0]]


def test_empty_images():
    empty, one = image([], []), image([[0, 0, 9, 9]], [1], np.array([0.5]))
    assert confusion(empty, one, 2).tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert confusion(image([[0, 0, 9, 9]], [1]), image([], [], np.zeros(0)), 2)[1, 2] == 1


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_every_box_is_counted_once(seed):
    truth, found = make_findings(3, 4, seed)
    for t, f in zip(truth, found, strict=True):
        matrix = confusion(t, f, 4)
        assert matrix[:4].sum(1).tolist() == np.bincount(t.classes, minlength=4).tolist()
        assert matrix[:, :4].sum(0).tolist() == np.bincount(f.classes, minlength=4).tolist()
        assert matrix[4, 4] == 0


def test_agreement_is_that_of_the_written_out_labels():
    matrix = np.array([[5, 1, 2], [0, 3, 4], [2, 1, 0]])
    true = np.repeat(np.repeat(range(3), 3), matrix.ravel())
    guess = np.repeat(np.tile(range(3), 3), matrix.ravel())
    measured = agreement(matrix)
    assert measured["accuracy"] == pytest.approx(8 / 18)
    # by hand: class 0 has precision 5 / 7, recall 5 / 8; class 1 has 3 / 5, 3 / 7
    f1 = [2 * 5 / (7 + 8), 2 * 3 / (5 + 7)]
    assert measured["macro_f1"] == pytest.approx(np.mean(f1))
    assert measured["weighted_f1"] == pytest.approx(np.average(f1, weights=[8, 7]))
    assert measured["kappa"] == pytest.approx(sk.cohen_kappa_score(true, guess))
    assert measured["mcc"] == pytest.approx(sk.matthews_corrcoef(true, guess))
    assert measured["matched_accuracy"] == pytest.approx(8 / 9)


def test_misses_lower_what_the_matched_part_does_not_see():
    measured = agreement(np.array([[2, 0, 10], [0, 0, 0], [0, 0, 0]]))
    assert measured["matched_accuracy"] == 1 and measured["accuracy"] == pytest.approx(1 / 6)


def test_two_labels_on_one_site_are_found_only_together():
    site, other = [0, 0, 10, 10], [40, 0, 50, 10]
    truth = [image([site, site, other, other], [0, 1, 0, 1])]
    found = [image([site, site, other], [0, 1, 0], np.array([0.9, 0.8, 0.7]))]
    assert evaluate(truth, found, ["x", "y"], 0.25).metrics["one_site_recall"] == 0.5
    assert math.isnan(evaluate(truth, found, ["x", "y"], 0.25).metrics["pair_recall"])


def test_other_images_are_refused():
    truth, found = make_findings(3)
    with pytest.raises(ValueError, match="other images"):
        evaluate(truth, found[::-1], list("abcd"), 0.25)
    with pytest.raises(ValueError, match="beyond"):
        evaluate(truth, found, ["a"], 0.25)
