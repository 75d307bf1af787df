"""Operating points against hand cases and trying every threshold; the file that keeps them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rating_cases import image, rated

from yolospine_ultra.evaluate.validation.agreement import confusions
from yolospine_ultra.evaluate.validation.froc import rank
from yolospine_ultra.evaluate.validation.operating_points import (
    Criterion,
    apply_thresholds,
    choose_threshold,
    choose_thresholds,
    read_thresholds,
    write_thresholds,
)

SITE, FAR, AWAY = (0, 0, 10, 10), (50, 50, 60, 60), (80, 80, 90, 90)
TRUTH = [image((0, *SITE), (0, *FAR), name="a"), image((0, *SITE), name="b")]
FOUND = [
    image((0, *SITE, 0.9), (0, *AWAY, 0.7), (0, *FAR, 0.6), name="a"),
    image((0, *AWAY, 0.5), (0, *SITE, 0.2), name="b"),
]
RANKED = rank(TRUTH, FOUND, 1, 0.5)[0]


def test_hand_made_f1():
    # .9: 2/4; .7: 2/5; .6: 4/6; .5: 4/7; .2: 6/8
    chosen = choose_threshold(RANKED, Criterion(), 0.25)
    assert chosen == {"threshold": 0.2, "tp": 3, "fp": 2, "fn": 0, "f1": 0.75, "false_positives": 1.0}


def test_hand_made_false_positives():
    for limit, threshold in ((0, 0.9), (0.49, 0.9), (0.5, 0.6), (1, 0.2), (9, 0.2)):
        assert choose_threshold(RANKED, Criterion(limit), 0.25)["threshold"] == threshold


def test_of_equal_f1_the_highest_threshold():
    found = [image((0, *SITE, 0.9), name="a"), image((0, *AWAY, 0.5), (0, *FAR, 0.5), (0, *SITE, 0.4), name="b")]
    chosen = choose_threshold(rank([TRUTH[1], TRUTH[1]], found, 1, 0.5)[0], Criterion(), 0.25)
    assert chosen["f1"] == pytest.approx(2 / 3) and chosen["threshold"] == 0.9  # at .4: 2 x 2 / (4 + 2), too


def test_a_limit_that_the_best_prediction_breaks_lets_nothing_in():
    found = [image((0, *AWAY, 1.0), (0, *SITE, 0.9), name="b")]
    chosen = choose_threshold(rank(TRUTH[1:], found, 1, 0.5)[0], Criterion(0.5), 0.25)
    assert (chosen["tp"], chosen["fp"], chosen["fn"]) == (0, 0, 1) and chosen["threshold"] > 1
    assert not len(apply_thresholds(found, np.array([chosen["threshold"]]))[0])


@pytest.mark.parametrize(
    ("truth", "found", "criterion", "why"),
    [
        (image(), image((0, *SITE, 0.9)), Criterion(), "no labels"),
        (image((0, *SITE)), image((0, *AWAY, 0.9)), Criterion(), "no right predictions"),
        (image((0, *SITE)), image(scored=True), Criterion(), "no right predictions"),
        (image((0, *SITE)), image(scored=True), Criterion(1), "no predictions"),
    ],
)
def test_nothing_to_choose_by(truth, found, criterion, why):
    chosen = choose_threshold(rank([truth], [found], 1, 0.5)[0], criterion, 0.31)
    assert chosen["threshold"] == 0.31 and why in chosen["why"]
    assert chosen["f1"] is None if not len(truth) else chosen["f1"] == 0


@settings(max_examples=50, deadline=None)
@given(rated(), st.sampled_from([0, 0.3, 1, 2]))
def test_no_other_threshold_does_better(pair, limit):
    """Every score tried as a threshold, counted by the confusion matrix, whose diagonal is the same matching."""
    truth, found = pair
    ranked = rank(truth, found, 3, 0.5)
    for c in range(3):
        f1, fp = (choose_threshold(ranked[c], k, 2.0) for k in (Criterion(), Criterion(limit)))
        best, least = 0.0, 2.0
        for threshold in sorted({s for f in found for s in f.scores[f.classes == c]}):
            levels = np.full(3, 2.0)
            levels[c] = threshold
            matrix = confusions(truth, apply_thresholds(found, levels), 3).sum(0)
            right, called, labels = matrix[c, c], matrix[:, c].sum(), matrix[c].sum()
            if labels:
                best = max(best, 2 * right / (called + labels))
            if (called - right) / len(truth) <= limit:
                least = min(least, threshold)
        if f1["f1"] is not None:
            assert f1["f1"] == pytest.approx(best)
        if least <= 1:
            assert fp["threshold"] == least
        assert fp["false_positives"] <= limit


def test_criteria():
    assert Criterion.parse("f1") == Criterion() and Criterion.parse("fp=0.5") == Criterion(0.5)
    assert str(Criterion()) == "f1" and str(Criterion(0.5)) == "fp=0.5"
    for text in ("f2", "fp", "fp=", "fp=-1", "fp=nan", "fp=inf", "f1=3", ""):
        with pytest.raises(ValueError, match="expected f1, or fp=X"):
            Criterion.parse(text)


def test_thresholds_are_of_their_class():
    found = [image((0, *SITE, 0.5), (1, *SITE, 0.5), (1, *FAR, 0.8), scored=True)]
    (kept,) = apply_thresholds(found, np.array([0.5, 0.6]))
    assert kept.classes.tolist() == [0, 1] and kept.scores.tolist() == [0.5, 0.8]


def test_file_gives_back_what_was_chosen(tmp_path):
    ranked = rank(TRUTH, FOUND, 2, 0.5)
    chosen = choose_thresholds(ranked, ["x", "y"], ["a", "b"], Criterion(), 0.25)
    write_thresholds(chosen, tmp_path / "new" / "t.json")
    assert json.loads((tmp_path / "new" / "t.json").read_text()) == chosen
    thresholds, images = read_thresholds(tmp_path / "new" / "t.json", ["y", "x"])
    assert thresholds.tolist() == [0.25, 0.2] and images == {"a", "b"}
    assert read_thresholds(tmp_path / "new" / "t.json", ["x"])[0].tolist() == [0.2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"classes": {"x": {"threshold": 0.2}}}', "no threshold for y; it has x"),
        ('{"classes": {"x": {"threshold": 0.2}, "y": {"threshold": 3}}}', "threshold of y is 3.0, expected 0 to 1"),
        ('{"classes": {"x": {"threshold": NaN}, "y": {"threshold": 0}}}', "threshold of x is nan"),
        ('{"classes": {"x": {}}}', "has no thresholds"),
        ('{"classes": [1]}', "has no thresholds"),
        ("[]", "has no thresholds"),
        ("{", "has no thresholds"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, text, message):
    file = tmp_path / "t.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_thresholds(file, ["x", "y"])
    with pytest.raises(FileNotFoundError, match="not a file"):
        read_thresholds(tmp_path / "none.json", ["x"])
