"""Measures against hand cases, formulas of their own, and the benchmark's average precision."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import resample_weights
from yolospine_ultra.robustness.measure import (
    agreement,
    corruption_errors,
    drop,
    image_quality,
    precision,
    relative_corruption_errors,
)

RNG = np.random.default_rng(0)


def found(*rows, name="a"):
    """Findings from rows of (class, x1, y1, x2, y2, score)."""
    table = np.array(rows, dtype=float).reshape(-1, 6)
    return ImageFindings(name, table[:, 1:5], table[:, 0], table[:, 5])


def labelled(x):
    return ImageFindings(x.name, x.boxes, x.classes)


def test_psnr_by_hand():
    clean, degraded = np.zeros((20, 20), np.uint8), np.full((20, 20), 5, np.uint8)
    assert image_quality(clean, degraded)[0] == pytest.approx(10 * math.log10(255**2 / 25))
    assert image_quality(clean, clean) == (None, pytest.approx(1))
    assert image_quality(clean[:6], degraded[:6])[1] is None  # smaller than the window


def test_ssim_is_wangs():
    clean = ndimage.gaussian_filter(RNG.uniform(0, 255, (40, 50)), 2).astype(np.uint8)
    degraded = np.clip(clean + RNG.normal(0, 10, clean.shape), 0, 255).astype(np.uint8)

    def mean(x):
        return ndimage.gaussian_filter(x, 1.5, truncate=3.5)

    x, y = clean.astype(float), degraded.astype(float)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    ssim = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert image_quality(clean, degraded)[1] == pytest.approx(ssim[5:-5, 5:-5].mean(), abs=1e-4)
    grey = image_quality(np.dstack([clean] * 3), np.dstack([degraded] * 3))
    assert grey == pytest.approx(image_quality(clean, degraded))


def test_agreement_by_hand():
    clean = [found((0, 0, 0, 10, 10, 0.9), (1, 0, 0, 10, 10, 0.8), (0, 50, 50, 60, 60, 0.5)), found(name="b")]
    # the first is found again at IoU .8, the second as another class, the third not; b has one of its own
    degraded = [found((0, 0, 0, 10, 8, 0.6), (2, 0, 0, 10, 10, 0.8)), found((0, 0, 0, 5, 5, 0.3), name="b")]
    assert agreement(clean, degraded) == {
        "clean_detections": 3,
        "degraded_detections": 3,
        "matched": 1,
        "retention": pytest.approx(1 / 3),
        "false_per_image": 1.0,
        "matched_iou": pytest.approx(0.8),
        "confidence_change": pytest.approx(-0.3),
    }


def test_agreement_is_one_to_one():
    clean = [found((0, 0, 0, 10, 10, 0.9))]
    twice = [found((0, 0, 0, 10, 9, 0.5), (0, 0, 0, 10, 10, 0.4))]
    got = agreement(clean, twice)
    assert (got["matched"], got["false_per_image"], got["matched_iou"]) == (1, 1, pytest.approx(0.9))
    swapped = agreement(twice, clean)
    assert (swapped["retention"], swapped["false_per_image"]) == (0.5, 0)


def test_nothing_found_is_not_defined():
    nothing = [found()]
    got = agreement(nothing, nothing)
    assert (got["retention"], got["matched_iou"], got["confidence_change"]) == (None, None, None)
    assert agreement([found((0, 0, 0, 9, 9, 0.9))], nothing)["retention"] == 0


@st.composite
def images(draw):
    rows = st.tuples(
        st.integers(0, 1), st.integers(0, 20), st.integers(0, 20), st.integers(1, 9), st.integers(1, 9),
        st.integers(0, 20),
    )  # fmt: skip
    made = [draw(st.lists(rows, max_size=6)) for _ in range(3)]
    return [
        found(*[(c, x, y, x + w, y + h, s / 20) for c, x, y, w, h, s in m], name=str(i)) for i, m in enumerate(made)
    ]


@given(images(), images())
@settings(max_examples=50, deadline=None)
def test_agreement_stays_within_its_limits(clean, degraded):
    got = agreement(clean, degraded)
    assert got["matched"] <= min(got["clean_detections"], got["degraded_detections"])
    assert got["retention"] is None or 0 <= got["retention"] <= 1
    assert got["matched_iou"] is None or 0.5 <= got["matched_iou"] <= 1
    same = agreement(clean, clean)
    assert same["matched"] == same["clean_detections"] and same["false_per_image"] == 0
    assert same["retention"] in (None, 1)


def random_set(count=12, nc=3):
    truth, predicted = [], []
    for i in range(count):
        n = RNG.integers(1, 5)
        corner = RNG.uniform(0, 80, (n, 2))
        boxes = np.concatenate([corner, corner + RNG.uniform(5, 20, (n, 2))], 1)
        classes = RNG.integers(0, nc, n)
        truth.append(ImageFindings(f"{i}.png", boxes, classes))
        moved = np.concatenate([boxes, boxes]) + RNG.normal(0, 1.5, (2 * n, 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2])
        predicted.append(ImageFindings(f"{i}.png", moved, np.tile(classes, 2), RNG.uniform(0, 1, 2 * n)))
    return truth, predicted


def test_precision_is_the_benchmarks():
    pytest.importorskip("faster_coco_eval", reason="needs faster-coco-eval")
    from yolospine_ultra.benchmark.metrics import average_precision

    truth, predicted = random_set()
    expected = average_precision(truth, predicted, 4)  # a class without labels
    got = precision(truth, predicted, 4, resample_weights([x.name for x in truth], 5, 0))
    np.testing.assert_allclose(got.classes, expected[:, 0], atol=1e-6)
    assert got.map50_95[0] == pytest.approx(np.nanmean(expected[:, 0]), abs=1e-6)
    assert got.map50[0] == pytest.approx(np.nanmean(expected[:, 2]), abs=1e-6)
    assert got.map50_95.shape == (6,) and np.isnan(got.classes[3])


def test_drop_is_a_paired_difference():
    truth, predicted = random_set()
    patients = [str(i // 2) for i in range(len(truth))]
    weights = resample_weights(patients, 50, 0)
    clean = precision(truth, predicted, 3, weights)
    nothing = [ImageFindings(x.name, np.zeros((0, 4)), [], []) for x in truth]
    lost = drop(clean, precision(truth, nothing, 3, weights))
    assert lost["drop"] == pytest.approx(clean.map50_95[0]) and lost["map50_95"] == 0
    assert lost["drop_interval"] == pytest.approx(np.quantile(clean.map50_95[1:], [0.025, 0.975]))
    cost = np.linspace(0.1, 0.2, 51)  # what resamples share cancels out
    paired = drop(clean, replace(clean, map50_95=clean.map50_95 - cost))
    assert paired["drop_interval"] == pytest.approx(np.quantile(cost[1:], [0.025, 0.975]))


def test_drop_is_not_defined_without_labels_or_patients():
    truth, predicted = random_set(4)
    empty = [ImageFindings(x.name, np.zeros((0, 4)), []) for x in truth]
    value = precision(empty, predicted, 3, resample_weights(list("abcd"), 5, 0))
    assert drop(value, value) == {"map50_95": None, "map50": None, "drop": None, "drop_interval": [None, None]}
    value = precision(truth, predicted, 3, resample_weights(list("aaaa"), 5, 0))
    assert drop(value, value)["drop_interval"] == [None, None] and drop(value, value)["drop"] == 0


def test_corruption_errors_by_hand():
    baseline = {"a": [0.5, 0.3], "b": [0.6, 0.6]}  # errors 1.2, .8
    ours = {"a": [0.6, 0.5], "b": [0.5, 0.5]}  # errors .9, 1.0
    assert corruption_errors(ours, baseline) == pytest.approx({"a": 0.75, "b": 1.25})
    assert corruption_errors(baseline, baseline) == {"a": 1, "b": 1}
    assert corruption_errors({"a": [0.5]}, {"a": [1.0]}) == {"a": None}


def test_relative_corruption_errors_by_hand():
    drops = {"a": [0.1, 0.3], "b": [0.005, 0.005]}
    assert relative_corruption_errors({"a": [0.1, 0.1], "b": [0.1, 0.1]}, drops) == {"a": pytest.approx(0.5), "b": None}
    with pytest.raises(ValueError, match="types or levels differ"):
        relative_corruption_errors({"a": [0.1]}, drops)
