"""Soft-NMS against hand-computed values, a plain sequential reference and its defining properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolospine_ultra.postprocess import soft_nms as module
from yolospine_ultra.postprocess.soft_nms import soft_nms

DECAYS = ("gaussian", "linear")


def reference_iou(a, b):
    """IoU of two xyxy boxes in Python floats."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def reference(boxes, scores, decay, sigma, iou_threshold, score_threshold):
    """The sequential definition, one box at a time, in Python floats (float64)."""
    boxes, current = boxes.tolist(), scores.tolist()
    remaining, final = list(range(len(current))), [0.0] * len(current)
    while remaining:
        top = max(remaining, key=lambda i: (current[i], -i))
        if current[top] <= score_threshold:
            break
        final[top] = current[top]
        remaining.remove(top)
        for i in remaining:
            iou = reference_iou(boxes[top], boxes[i])
            if decay == "gaussian":
                current[i] *= math.exp(-(iou**2) / sigma)
            elif iou > iou_threshold:
                current[i] *= 1 - iou
    return torch.tensor(final, dtype=torch.float64)


def crowd(seed, n=60):
    """Heavily overlapping float64 boxes in a few clusters, some identical, many with equal scores."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(40, 200, (4, 2))[rng.integers(0, 4, n)] + rng.normal(0, 6, (n, 2))
    half = rng.uniform(15, 30, (n, 2))
    boxes = np.concatenate((centres - half, centres + half), 1)
    copies = rng.integers(0, n, (2, n // 6))
    boxes[copies[0]] = boxes[copies[1]]
    scores = rng.uniform(0.01, 1, n)
    tied = rng.random(n) < 0.5
    scores[tied] = np.round(scores[tied], 1).clip(0.1)
    return torch.from_numpy(boxes), torch.from_numpy(scores)


# Boxes A = [0, 10], B = [5, 15], C = [10, 20] wide, all 10 high; scores 0.9, 0.8, 0.7.
# IoU(A, B) = IoU(B, C) = 50 / 150 = 1/3, IoU(A, C) = 0.
# A is picked at 0.9. C, untouched at 0.7, comes before B, which A lowered:
#   gaussian, sigma 0.5: exp(-(1/9) / 0.5) = exp(-2/9) = 0.8007374; B = 0.8 * 0.8007374 = 0.6405899 < 0.7.
#     C is picked at 0.7 and lowers B once more: 0.6405899 * 0.8007374 = 0.5129443.
#   linear, threshold 0.3: B = 0.8 * 2/3 = 0.5333333 < 0.7; after C: 0.5333333 * 2/3 = 0.3555556.
HAND_BOXES = torch.tensor([[[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10]]])
HAND_SCORES = torch.tensor([[0.9, 0.8, 0.7]])


@pytest.mark.parametrize(("decay", "lowered"), [("gaussian", 0.5129443), ("linear", 0.3555556)])
def test_hand_case(decay, lowered):
    out = soft_nms(HAND_BOXES, HAND_SCORES, decay, sigma=0.5, iou_threshold=0.3, score_threshold=0.001)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torch.tensor([[0.9, lowered, 0.7]]), rtol=0, atol=1e-6)


def test_linear_leaves_overlap_at_or_below_the_threshold_alone():
    # A, B share exactly half: IoU = 1/2 for B inside A with half its area, representable without rounding.
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 5]]])
    scores = torch.tensor([[0.9, 0.8]])
    assert soft_nms(boxes, scores, "linear", iou_threshold=0.5).tolist() == scores.tolist()
    lowered = soft_nms(boxes, scores, "linear", iou_threshold=0.49)
    torch.testing.assert_close(lowered, torch.tensor([[0.9, 0.4]]), rtol=0, atol=1e-6)


def test_score_threshold_drops_at_equality():
    # The second box, half of the first, falls to 0.5 * (1 - 1/2) = 0.25; the third starts there; the fourth is above.
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 5], [50, 50, 60, 60], [90, 50, 99, 60]]])
    scores = torch.tensor([[0.75, 0.5, 0.25, 0.375]])
    out = soft_nms(boxes, scores, "linear", score_threshold=0.25)
    assert out.tolist() == [[0.75, 0.0, 0.0, 0.375]]


def test_ties_go_to_the_lowest_index():
    out = soft_nms(HAND_BOXES[:, :2], torch.tensor([[0.5, 0.5]]), "linear")
    torch.testing.assert_close(out, torch.tensor([[0.5, 0.5 * 2 / 3]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("seed", range(40))
def test_equals_sequential_reference(decay, seed):
    cases = [crowd(seed * 3 + k) for k in range(3)]
    boxes, scores = (torch.stack(part) for part in zip(*cases, strict=True))
    for parameters in ((0.5, 0.3, 0.001), (0.1, 0.6, 0.05)):
        out = soft_nms(boxes, scores, decay, *parameters)
        expected = torch.stack([reference(*case, decay, *parameters) for case in cases])
        assert (expected > 0).any() and (expected == 0).any()
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("decay", DECAYS)
def test_more_equal_scores_than_one_pass_looks_at(decay):
    boxes, _ = crowd(7, 4 * module.HEAD_SIZE)
    scores = torch.full((len(boxes),), 0.5, dtype=torch.float64)
    out = soft_nms(boxes[None], scores[None], decay)
    expected = reference(boxes, scores, decay, 0.5, 0.3, 0.001)
    torch.testing.assert_close(out[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("decay", DECAYS)
def test_head_size_does_not_change_the_result(decay, monkeypatch):
    boxes, scores = (torch.stack(part) for part in zip(*(crowd(seed) for seed in range(6)), strict=True))
    expected = soft_nms(boxes, scores, decay)
    for size in (1, 2, 1000):
        monkeypatch.setattr(module, "HEAD_SIZE", size)
        torch.testing.assert_close(soft_nms(boxes, scores, decay), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_precision_of_the_boxes_does_not_change_the_result(dtype):
    boxes, scores = (torch.stack(part) for part in zip(*(crowd(seed) for seed in range(3)), strict=True))
    boxes = boxes.to(dtype)
    assert torch.equal(soft_nms(boxes, scores, "gaussian"), soft_nms(boxes.double(), scores, "gaussian"))


@pytest.mark.parametrize("decay", DECAYS)
def test_groups_and_padding_change_nothing_bitwise(decay):
    cases = [crowd(seed, n) for seed, n in ((1, 12), (2, 90), (3, 40))]
    boxes, scores = torch.zeros(4, 120, 4, dtype=torch.float64), torch.zeros(4, 120, dtype=torch.float64)
    for row, (case_boxes, case_scores) in enumerate(cases):
        boxes[row, : len(case_boxes)], scores[row, : len(case_boxes)] = case_boxes, case_scores
    out = soft_nms(boxes, scores, decay)
    for row, (case_boxes, case_scores) in enumerate(cases):
        alone = soft_nms(case_boxes[None], case_scores[None], decay)[0]
        assert torch.equal(out[row, : len(case_boxes)], alone)
        assert not out[row, len(case_boxes) :].any()
    assert not out[3].any()


def test_boxes_without_area_are_left_alone():
    # A point on another point, a point inside a box, an inverted box across a box, and two crossing lines (whose union
    # is 0): no overlap, no NaN.
    boxes = torch.tensor([[[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10], [8, 2, 2, 8], [5, 0, 5, 10], [0, 5, 10, 5]]])
    scores = torch.tensor([[0.4, 0.3, 0.9, 0.8, 0.7, 0.6]])
    assert torch.equal(soft_nms(boxes, scores, "gaussian"), scores)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (3, 0), (2, 4)])
def test_nothing_to_pick(shape):
    out = soft_nms(torch.ones(*shape, 4), torch.zeros(shape), "gaussian")
    assert out.shape == shape
    assert not out.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decay": "hard"}, "decay"),
        ({"sigma": 0.0}, "sigma"),
        ({"sigma": float("nan")}, "sigma"),
        ({"iou_threshold": 1.5}, "iou_threshold"),
        ({"score_threshold": -0.1}, "score_threshold"),
        ({"boxes": HAND_BOXES[0]}, "expected boxes"),
        ({"boxes": HAND_BOXES[:, :2]}, "expected boxes"),
        ({"scores": HAND_SCORES[0]}, "expected boxes"),
    ],
)
def test_bad_arguments_raise(changes, message):
    arguments = {"boxes": HAND_BOXES, "scores": HAND_SCORES, "decay": "gaussian"} | changes
    with pytest.raises(ValueError, match=message):
        soft_nms(**arguments)


coordinates = st.integers(0, 30)
box = st.tuples(coordinates, coordinates, st.integers(1, 20), st.integers(1, 20)).map(
    lambda v: [v[0], v[1], v[0] + v[2], v[1] + v[3]]
)


@st.composite
def distinct_groups(draw):
    """One group of up to 50 integer boxes with distinct scores in (0, 1)."""
    boxes = draw(st.lists(box, min_size=1, max_size=50))
    ranks = draw(st.permutations(range(1, len(boxes) + 1)))
    scores = torch.tensor(ranks, dtype=torch.float64) / (len(boxes) + 1)
    return torch.tensor(boxes, dtype=torch.float64), scores


@settings(max_examples=60, deadline=None)
@given(distinct_groups(), st.sampled_from(DECAYS))
def test_never_raises_a_score_and_keeps_the_best(group, decay):
    boxes, scores = group
    out = soft_nms(boxes[None], scores[None], decay)[0]
    assert (out <= scores).all()
    assert out[scores.argmax()] == scores.max()


@settings(max_examples=60, deadline=None)
@given(distinct_groups(), st.floats(0.05, 2.0), st.randoms(use_true_random=False))
def test_order_of_boxes_does_not_matter(group, sigma, random):
    # Gaussian with a sigma drawn from a continuum: decayed scores that tie again, and then depend on the index, would
    # need a coincidence. Linear factors of integer boxes are fractions, which do coincide.
    boxes, scores = group
    order = list(range(len(scores)))
    random.shuffle(order)
    out = soft_nms(boxes[None], scores[None], "gaussian", sigma)[0]
    shuffled = soft_nms(boxes[order][None], scores[order][None], "gaussian", sigma)[0]
    torch.testing.assert_close(shuffled, out[order], rtol=0, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(distinct_groups())
def test_tiny_sigma_removes_everything_that_overlaps(group):
    boxes, scores = group
    out = soft_nms(boxes[None], scores[None], "gaussian", sigma=1e-12)[0]
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if all(reference_iou(boxes[i].tolist(), boxes[j].tolist()) == 0 for j in kept):
            kept.append(i)
    expected = torch.zeros_like(scores)
    expected[kept] = scores[kept]
    assert torch.equal(out, expected)


@settings(max_examples=30, deadline=None)
@given(distinct_groups(), st.sampled_from(DECAYS))
def test_boxes_apart_are_untouched(group, decay):
    boxes, scores = group
    # Boxes lie within 50 units; shifted 100 apart none meets another.
    boxes = boxes + 100 * torch.arange(len(boxes), dtype=torch.float64)[:, None]
    assert torch.equal(soft_nms(boxes[None], scores[None], decay)[0], scores)
