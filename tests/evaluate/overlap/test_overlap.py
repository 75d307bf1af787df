"""Overlap of findings: hand-made cases, a brute-force implementation in plain Python, and the paper's own table."""

import json
import math
from itertools import combinations

import numpy as np
import pytest
import torch
from conftest import REPO, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import wilson
from yolospine_ultra.evaluate.matching import match_by_class
from yolospine_ultra.evaluate.overlap.pairs import (
    PAPER_RULES,
    PAPER_TABLE,
    PairRecall,
    count_kept,
    find_pairs,
    overlapping_pairs,
    pair_recall,
    rules_by_class,
)

A, B, C = 0, 1, 2


def compatibility(images, nc, pairing="touching"):
    return find_pairs(images, nc, pairing).compatibility()


def pairs_kept(images, pair, taus):
    pairs = find_pairs(images, None, "touching")
    return count_kept(pairs.iou[pairs.of(pair)], taus)


def image(*rows, name="a"):
    """Findings from rows of (class, x1, y1, x2, y2), or with a score behind."""
    table = np.array(rows, dtype=float).reshape(-1, len(rows[0]) if rows else 5)
    return ImageFindings(name, table[:, 1:5], table[:, 0], table[:, 5] if table.shape[1] == 6 else None)


# Image 1: A and B overlap by 50 / 150 = 1/3; B and C only share an edge; a second A touches nothing.
# Image 2: A and B are the same box, and a second B overlaps A by 25 / 175 = 1/7.
HAND = [
    image((A, 0, 0, 10, 10), (B, 5, 0, 15, 10), (C, 15, 0, 25, 10), (A, 0, 50, 10, 60)),
    image((B, 0, 0, 10, 10), (A, 0, 0, 10, 10), (B, 5, 5, 15, 15)),
    image(),
]


def test_hand_made_pairs():
    pairs = find_pairs(HAND, 4)
    assert pairs.totals.tolist() == [3, 3, 1, 0]
    found = sorted(zip(pairs.image, map(tuple, pairs.boxes), map(tuple, pairs.classes), pairs.iou, strict=True))
    assert [f[:3] for f in found] == [(0, (0, 1), (A, B)), (1, (1, 0), (A, B)), (1, (1, 2), (A, B))]
    np.testing.assert_allclose([f[3] for f in found], [1 / 3, 1, 1 / 7])


def test_hand_made_compatibility():
    matrix = compatibility(HAND, 4)
    expected = np.full((4, 4), np.nan)
    expected[A, B] = expected[B, A] = 3 / 3
    expected[A, C] = expected[C, A] = expected[B, C] = expected[C, B] = 0
    np.testing.assert_array_equal(matrix, expected)


def test_pairings_differ_where_the_definition_is_open():
    assert compatibility(HAND, 4, "touching")[B, C] == 0
    assert compatibility(HAND, 4, "segment")[B, C] == 1  # side by side without touching
    assert compatibility(HAND, 4, "segment")[A, B] == 1  # the second A of image 1 stands elsewhere
    assert compatibility(HAND, 4, "image")[A, B] == 4 / 3  # every A with every B of an image
    with pytest.raises(ValueError, match="pairing 'near'"):
        compatibility(HAND, 4, "near")


def test_the_example_of_the_documentation(tmp_path, monkeypatch):
    text = (REPO / "docs" / "overlap.md").read_text().split("## From Python")[1].split("```python")[1].split("```")[0]
    write_dataset(tmp_path / "datasets" / "spine-phantom", classes=6)
    monkeypatch.chdir(tmp_path)
    entry = {"image_id": 0, "category_id": 3, "bbox": [0, 0, 4, 4], "score": 0.5}
    (tmp_path / "predictions.json").write_text(json.dumps([entry]))
    exec(text, {})


def test_hand_made_statistics():
    found = overlapping_pairs(HAND, {(A, B): 1 / 7, (A, C): 0.1, (B, 3): 0.1}, tau_anat=0.5)
    ab, ac, b3 = found[A, B], found[A, C], found[B, 3]
    assert (ab.count, ab.compatibility, ab.compatible, ab.tau_spatial, ab.co_occurring) == (3, 1, True, 1 / 7, 3)
    assert ab.mean_iou == ab.co_occurring_mean_iou == pytest.approx((1 / 3 + 1 + 1 / 7) / 3)
    assert (ac.count, ac.compatibility, ac.compatible) == (0, 0, False) and math.isnan(ac.mean_iou)
    assert math.isnan(b3.compatibility) and not b3.compatible


def test_both_conditions_are_needed():
    assert overlapping_pairs(HAND, {(A, B): 0.5}, tau_anat=1.0)[A, B].count == 1
    assert overlapping_pairs(HAND, {(A, B): 0.5}, tau_anat=1.0)[A, B].mean_iou == 1
    assert overlapping_pairs(HAND, {(A, B): 0.5}, tau_anat=1.01)[A, B].count == 0


def test_hand_made_curve():
    assert pairs_kept(HAND, (B, A), [0, 1 / 7, 0.2, 1 / 3, 0.5, 1]).tolist() == [3, 3, 2, 2, 1, 1]
    assert pairs_kept(HAND, (B, C), [0, 0.5]).tolist() == [0, 0]
    assert pairs_kept([], (A, B), [0.1]).tolist() == [0]


def test_boxes_without_area_overlap_nothing():
    assert pairs_kept([image((A, 5, 5, 5, 5), (B, 5, 5, 5, 5))], (A, B), [0]).tolist() == [0]


def test_classes_beyond_nc_are_refused():
    with pytest.raises(ValueError, match="class 2 occurs, but there are 2"):
        compatibility(HAND, 2)


def test_rules_are_the_papers_and_follow_the_class_order():
    paper = ["DDD", "IVDn", "SS", "SP", "LDB", "TDB"]
    assert rules_by_class(PAPER_RULES, paper) == {(2, 4): 0.18, (0, 2): 0.15, (3, 4): 0.35, (0, 3): 0.30}
    assert rules_by_class(PAPER_RULES, paper[::-1]) == {(1, 3): 0.18, (3, 5): 0.15, (1, 2): 0.35, (2, 5): 0.30}
    assert sum(p.pairs for p in PAPER_TABLE) == 1119  # as its text says
    with pytest.raises(ValueError, match="'SS' is unknown"):
        rules_by_class(PAPER_RULES, ["DDD", "LDB"])
    with pytest.raises(ValueError, match="cannot overlap itself"):
        rules_by_class({("SS", "SS"): 0.1}, paper)


# an implementation of its own: plain loops over boxes of whole pixels


def plain_iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(w, 0) * max(h, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / union if union else 0.0


@st.composite
def findings(draw, scores=False, name="a"):
    count = draw(st.integers(0, 7))
    whole = st.integers(0, 12)
    rows = []
    for _ in range(count):
        x, y, w, h = draw(whole), draw(whole), draw(whole), draw(whole)
        row = [draw(st.integers(0, 3)), x, y, x + w, y + h]
        rows.append([*row, draw(st.integers(0, 10)) / 10] if scores else row)
    width = 6 if scores else 5
    table = np.array(rows, dtype=float).reshape(-1, width)
    return ImageFindings(name, table[:, 1:5], table[:, 0], table[:, 5] if scores else None)


images = st.lists(findings(), max_size=4)


@settings(max_examples=60, deadline=None)
@given(images, st.integers(0, 20), st.integers(0, 20))
def test_agrees_with_plain_loops(given_images, tau, tau_anat):
    tau, tau_anat = tau / 20, tau_anat / 20
    ious = {p: [] for p in combinations(range(4), 2)}
    totals = [0] * 4
    for x in given_images:
        rows = list(zip(x.classes.tolist(), x.boxes.tolist(), strict=True))
        for c, _ in rows:
            totals[c] += 1
        for (c, a), (d, b) in combinations(rows, 2):
            if c != d and plain_iou(a, b) > 0:
                ious[min(c, d), max(c, d)].append(plain_iou(a, b))
    matrix = compatibility(given_images, 4)
    np.testing.assert_array_equal(matrix, matrix.T)
    found = overlapping_pairs(given_images, dict.fromkeys(ious, tau), tau_anat)
    for (i, j), values in ious.items():
        smaller = min(totals[i], totals[j])
        a = len(values) / smaller if smaller else math.nan
        assert matrix[i, j] == pytest.approx(a, nan_ok=True)
        kept = [v for v in values if v >= tau and a >= tau_anat]
        assert (found[i, j].count, found[i, j].co_occurring) == (len(kept), len(values))
        assert found[i, j].mean_iou == pytest.approx(sum(kept) / len(kept) if kept else math.nan, nan_ok=True)
        assert pairs_kept(given_images, (i, j), [tau])[0] == sum(v >= tau for v in values)


@settings(max_examples=50, deadline=None)
@given(images)
def test_curves_fall_and_the_order_of_boxes_does_not_matter(given_images):
    taus = np.linspace(0, 1, 21)
    turned = [ImageFindings(x.name, x.boxes[::-1], x.classes[::-1]) for x in given_images]
    for pair in combinations(range(4), 2):
        curve = pairs_kept(given_images, pair, taus)
        assert (np.diff(curve) <= 0).all()
        assert curve.tolist() == pairs_kept(turned, pair, taus).tolist()


@settings(max_examples=30, deadline=None)
@given(findings())
def test_iou_is_torchvisions(x):
    tensor = torch.from_numpy(x.boxes)
    reference = box_iou(tensor, tensor)
    pairs = find_pairs([x], 4, "image")
    for (a, b), iou in zip(pairs.boxes, pairs.iou, strict=True):
        assert iou == pytest.approx(float(reference[a, b].nan_to_num(0.0)))
        assert iou == pytest.approx(plain_iou(x.boxes[a], x.boxes[b]))


# matching and pair recall


def test_matching_takes_the_best_score_first_and_each_truth_once():
    truth = image((A, 0, 0, 10, 10), (A, 0, 4, 10, 14), (B, 0, 0, 10, 10))
    predicted = image((A, 0, 3, 10, 13, 0.5), (A, 0, 0, 10, 10, 0.9), (A, 0, 0, 10, 10, 0.8), (B, 0, 40, 10, 50, 1.0))
    assert match_by_class(truth, predicted, 0.5).tolist() == [1, 0, -1]
    # the better score comes first although it fits the second truth only because the first is not there yet
    assert match_by_class(truth, image((A, 0, 2, 10, 12, 0.9), (A, 0, 0, 10, 10, 0.1)), 0.5).tolist() == [0, -1, -1]
    with pytest.raises(ValueError, match="need scores"):
        match_by_class(truth, truth)
    with pytest.raises(ValueError, match="iou=0"):
        match_by_class(truth, predicted, 0)


@settings(max_examples=60, deadline=None)
@given(findings(), findings(scores=True), st.sampled_from([0.1, 0.5, 0.75]))
def test_matching_agrees_with_plain_loops(truth, predicted, iou):
    expected = [-1] * len(truth)
    for k in sorted(range(len(predicted)), key=lambda k: -predicted.scores[k]):
        best, best_iou = -1, -1.0
        for i in range(len(truth)):
            if expected[i] >= 0 or truth.classes[i] != predicted.classes[k]:
                continue
            value = plain_iou(truth.boxes[i].tolist(), predicted.boxes[k].tolist())
            if value >= iou and value > best_iou:
                best, best_iou = i, value
        if best >= 0:
            expected[best] = k
    assert match_by_class(truth, predicted, iou).tolist() == expected


RULES = {(A, B): 0.3}
TRUTH = [image((A, 0, 0, 10, 10), (B, 5, 0, 15, 10))]


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ([(A, 0, 0, 10, 10, 0.9), (B, 5, 0, 15, 10, 0.9)], PairRecall(1, 1, 0, 0, 0, 1, 1)),
        ([(A, 0, 0, 10, 10, 0.9)], PairRecall(1, 0, 1, 0, 0, 0, 0)),
        ([(B, 5, 0, 15, 10, 0.9)], PairRecall(1, 0, 0, 1, 0, 0, 0)),
        ([], PairRecall(1, 0, 0, 0, 1, 0, 0)),
        ([(A, 0, 0, 10, 10, 0.9), (B, 5, 0, 15, 10, 0.2)], PairRecall(1, 0, 1, 0, 0, 0, 0)),  # B below conf
        ([(A, 0, 0, 10, 10, 0.9), (B, 0, 0, 10, 10, 0.9)], PairRecall(1, 0, 1, 0, 0, 1, 0)),  # B found elsewhere
        ([(A, 0, 0, 10, 10, 0.9), (C, 5, 0, 15, 10, 0.9)], PairRecall(1, 0, 1, 0, 0, 0, 0)),  # of another class
    ],
)
def test_pair_recall_needs_both_findings(predicted, expected):
    found = image(*predicted) if predicted else ImageFindings("a", np.zeros((0, 4)), [], [])
    (counts,) = pair_recall(TRUTH, [found], RULES).values()
    assert counts == expected
    assert counts.recall == counts.both


def test_pair_recall_looks_at_the_right_image():
    """The same boxes in the next image find nothing in this one."""
    empty = ImageFindings("a", np.zeros((0, 4)), [], [])
    found = image((A, 0, 0, 10, 10, 0.9), (B, 5, 0, 15, 10, 0.9), name="b")
    truth = [*TRUTH, image((C, 0, 0, 1, 1), name="b"), image(*[(A, 0, 0, 10, 10), (B, 5, 0, 15, 10)], name="c")]
    predicted = [empty, found, ImageFindings("c", found.boxes, found.classes, found.scores)]
    assert pair_recall(truth, predicted, RULES)[A, B] == PairRecall(2, 1, 0, 0, 1, 2, 1)
    with pytest.raises(ValueError, match="other images"):
        pair_recall(truth, predicted[::-1], RULES)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(findings(), findings(scores=True)), max_size=3))
def test_pair_recall_agrees_with_plain_loops(both):
    truth, predicted = [t for t, _ in both], [p for _, p in both]
    rules = {(0, 1): 0.2, (1, 3): 0.5}
    counts = pair_recall(truth, predicted, rules, iou=0.5, conf=0.3, tau_anat=0.0)
    for (i, j), tau in rules.items():
        expected = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
        occur = all(any(c in t.classes for t in truth) for c in (i, j))
        for t, p in zip(truth, predicted, strict=True):
            found = match_by_class(t, p.above(0.3), 0.5) >= 0
            for a in np.flatnonzero(t.classes == i):
                for b in np.flatnonzero(t.classes == j):
                    value = plain_iou(t.boxes[a], t.boxes[b])
                    if value > 0 and value >= tau and occur:
                        expected[bool(found[a]), bool(found[b])] += 1
        got = counts[i, j]
        assert (got.both, got.first_only, got.second_only, got.neither) == tuple(expected.values())
        assert got.pairs == sum(expected.values()) and 0 <= got.predicted_true <= got.predicted


def test_truth_as_prediction_has_recall_and_precision_1():
    truth = [ImageFindings(str(k), x.boxes, x.classes) for k, x in enumerate(HAND)]
    perfect = [ImageFindings(x.name, x.boxes, x.classes, np.ones(len(x))) for x in truth]
    found = pair_recall(truth, perfect, {(A, B): 0.1})[A, B]
    assert (found.pairs, found.recall, found.precision) == (3, 1, 1)


def test_wilson_against_the_formula():
    z = 1.959963984540054
    for hits, n in ((0, 5), (3, 7), (50, 50), (869, 1748)):
        p = hits / n
        centre, half = (p + z * z / (2 * n)), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        expected = [(centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)]
        np.testing.assert_allclose(wilson(hits, n), expected, atol=1e-9)
    assert all(map(math.isnan, wilson(0, 0)))
