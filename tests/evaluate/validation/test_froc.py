"""FROC against hand cases, plain counting at every threshold, and the way LUNA16's evaluation computes it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from rating_cases import image, rated
from sklearn.metrics import roc_curve

from yolospine_ultra.evaluate.intervals import draw_patients
from yolospine_ultra.evaluate.matching import match_by_class
from yolospine_ultra.evaluate.validation import froc
from yolospine_ultra.evaluate.validation.froc import RATES, drawn_sensitivity, froc_curve, froc_report, pool, rank

SITE, FAR = (0, 0, 10, 10), (50, 50, 60, 60)
# two labels in two images; at .9 one is found, at .6 there is a false one, at .5 another, and the second is found
TRUTH = [image((0, *SITE), name="p_a"), image((0, *SITE), name="q_b")]
FOUND = [
    image((0, *SITE, 0.9), (0, *FAR, 0.5), name="p_a"),
    image((0, *FAR, 0.6), (0, *SITE, 0.5), name="q_b"),
]


def test_hand_made_curve():
    rate, sensitivity = froc_curve(*rank(TRUTH, FOUND, 1, 0.5))
    assert rate.tolist() == [0, 0, 0.5, 1] and sensitivity.tolist() == [0, 0.5, 0.5, 1]  # both of .5 come together


def test_hand_made_mean_sensitivity():
    report = froc_report(rank(TRUTH, FOUND, 2, 0.5), ["x", "y"], draw_patients(["p", "q"]))
    x, y, every = (report["curves"][k] for k in ("x", "y", "all"))
    # at 1/8, 1/4, 1/2 half; at 1 and beyond, where the predictions have ended, all
    assert x["sensitivity"] == [0.5, 0.5, 0.5, 1, 1, 1, 1] and x["mean"] == pytest.approx(5.5 / 7)
    assert (x["labels"], x["reached"]) == (2, 1)
    assert every["sensitivity"] == x["sensitivity"]
    assert y["mean"] is None and "has y" in y["why"] and y["labels"] == 0
    assert x["curve"] == {"false_positives": [0, 0, 0.5, 1], "sensitivity": [0, 0.5, 0.5, 1]}
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_between_points_the_sensitivity_is_on_the_line():
    found = [image((0, *FAR, 0.9), (0, *FAR, 0.8), name="p_a"), image((0, *SITE, 0.8), name="q_b")]
    ranked = rank(TRUTH, found, 1, 0.5)
    assert froc_curve(ranked[0])[0].tolist() == [0, 0.5, 1]  # one false at .9; with .8 one more, and one right
    assert froc_report(ranked, ["x"], np.zeros((0, 2)))["curves"]["x"]["sensitivity"][:4] == [0, 0, 0, 0.5]
    lined = [image((0, *FAR, 0.8), (0, *SITE, 0.8), name="p_a"), image(name="q_b", scored=True)]
    made = froc_report(rank(TRUTH, lined, 1, 0.5), ["x"], np.zeros((0, 2)))["curves"]["x"]["sensitivity"]
    assert made[:3] == pytest.approx([0.125, 0.25, 0.5])  # from (0, 0) to (1 / 2, 1 / 2)


def test_nothing_predicted_finds_nothing():
    nothing = [image(name=t.name, scored=True) for t in TRUTH]
    made = froc_report(rank(TRUTH, nothing, 1, 0.5), ["x"], draw_patients(["p", "q"]))["curves"]["x"]
    assert (made["mean"], made["reached"], made["sensitivity"]) == (0, 0, [0] * 7)


@settings(max_examples=20, deadline=None)
@given(rated())
def test_counts_at_every_threshold_are_those_of_matching_anew(pair):
    truth, found = pair
    ranked = rank(truth, found, 3, 0.5)
    for r, classes in [*((r, [c]) for c, r in enumerate(ranked)), (pool(ranked), [0, 1, 2])]:
        for threshold, right, false in zip(*r.counts(), strict=True):
            kept = [f.above(threshold) for f in found]
            hit = sum(
                int(np.isin(t.classes[match_by_class(t, f, 0.5) >= 0], classes).sum())
                for t, f in zip(truth, kept, strict=True)
            )
            every = sum(int(np.isin(f.classes, classes).sum()) for f in kept)
            assert (right, false) == (hit, every - hit)
        assert r.labels.sum() == sum(np.isin(t.classes, classes).sum() for t in truth)


@settings(max_examples=40, deadline=None)
@given(rated())
def test_is_that_of_the_roc_curve_as_luna16_computes_it(pair):
    """LUNA16 scales scikit-learn's ROC curve of the candidates: its rates to counts, and these to labels and scans."""
    ranked = pool(rank(*pair, 3, 0.5))
    hits, labels = int(ranked.right.sum()), int(ranked.labels.sum())
    if not 0 < hits < len(ranked.right):
        return  # a ROC curve needs both kinds
    fpr, tpr, _ = roc_curve(ranked.right, ranked.scores, drop_intermediate=False)
    rate, sensitivity = froc_curve(ranked)
    np.testing.assert_allclose(rate, fpr * (len(ranked.right) - hits) / len(pair[0]))
    np.testing.assert_allclose(sensitivity, tpr * hits / labels)


@settings(max_examples=25, deadline=None)
@given(rated(images=4))
def test_a_resample_is_the_images_drawn(pair):
    truth, found = pair
    weights = np.random.default_rng(len(truth)).integers(0, 3, (3, len(truth)))
    drawn = drawn_sensitivity(pool(rank(truth, found, 3, 0.5)), weights)
    with pytest.MonkeyPatch.context() as patch:  # in portions of one resample
        patch.setattr(froc, "_CELLS", 1)
        np.testing.assert_array_equal(drawn_sensitivity(pool(rank(truth, found, 3, 0.5)), weights), drawn)
    for b, row in enumerate(weights):
        again = [[x for x, n in zip(side, row, strict=True) for _ in range(n)] for side in pair]
        if not sum(len(t) for t in again[0]):
            assert np.isnan(drawn[b])
            continue
        rate, sensitivity = froc_curve(pool(rank(*again, 3, 0.5)))
        assert drawn[b] == pytest.approx(np.interp(RATES, rate, sensitivity).mean())


@settings(max_examples=25, deadline=None)
@given(rated())
def test_corners_draw_the_whole_curve_and_it_rises(pair):
    ranked = rank(*pair, 3, 0.5)
    report = froc_report(ranked, ["x", "y", "z"], np.zeros((0, len(pair[0])), dtype=int))
    for r, name in zip([*ranked, pool(ranked)], ("x", "y", "z", "all"), strict=True):
        if report["curves"][name]["curve"] is None:
            continue
        rate, sensitivity = froc_curve(r)
        corner = [np.array(v) for v in report["curves"][name]["curve"].values()]
        assert (np.diff(rate) >= 0).all() and (np.diff(sensitivity) >= 0).all() and sensitivity[-1] <= 1
        at = np.linspace(0, rate[-1], 50)
        np.testing.assert_allclose(np.interp(at, *corner), np.interp(at, rate, sensitivity), atol=1e-9)
