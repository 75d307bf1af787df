"""Average precision against pycocotools, and what a detector's evaluation holds."""

import math

import numpy as np
import pytest
from detections import make_findings

from yolospine_ultra.benchmark.metrics import average_precision, evaluate, to_coco, to_coco_results
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


def test_two_labels_on_one_site_are_found_only_together():
    site, other = [0, 0, 10, 10], [40, 0, 50, 10]
    truth = [image([site, site, other, other], [0, 1, 0, 1])]
    found = [image([site, site, other], [0, 1, 0], np.array([0.9, 0.8, 0.7]))]
    assert evaluate(truth, found, ["x", "y"], 0.25).metrics["one_site_recall"] == 0.5
    assert math.isnan(evaluate(truth, found, ["x", "y"], 0.25).metrics["pair_recall"])


def test_recall_at_equal_false_positives_does_not_reward_high_scores():
    site, other, empty = [0, 0, 10, 10], [40, 0, 50, 10], [80, 80, 90, 90]
    truth = [image([site, site, other, other], [0, 1, 0, 1])]
    boxes, classes = [site, site, empty, other, empty, other], [0, 1, 0, 0, 1, 1]
    for shift in (0.0, 0.3):  # the order is what counts
        found = [image(boxes, classes, np.array([0.6, 0.5, 0.4, 0.3, 0.2, 0.1]) + shift)]
        got = evaluate(truth, found, ["x", "y"], 0.25).metrics
        assert got["recall_fp1"] == 0.75 and got["one_site_recall_fp1"] == 0.5  # down to .3
    certain = [image([empty, empty, site], [0, 1, 0], np.array([0.9, 0.9, 0.8]))]
    assert evaluate(truth, certain, ["x", "y"], 0.25).metrics["recall_fp1"] == 0  # no score lets in one false box only
    got = evaluate([image([], [])], [image([empty], [0], np.array([0.9]))], ["x", "y"], 0.25).metrics
    assert math.isnan(got["recall_fp1"]) and math.isnan(got["one_site_recall_fp1"])


def test_other_images_are_refused():
    truth, found = make_findings(3)
    with pytest.raises(ValueError, match="other images"):
        evaluate(truth, found[::-1], list("abcd"), 0.25)
    with pytest.raises(ValueError, match="beyond"):
        evaluate(truth, found, ["a"], 0.25)
