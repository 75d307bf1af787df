"""Detections out of a head's tensor: candidates, suppression modes, filters, and independence of the batch."""

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms, box_convert

from yolospine_ultra.postprocess.detections import select_detections
from yolospine_ultra.postprocess.soft_nms import soft_nms

MODES = ("gaussian", "linear", "hard")
DEFAULTS = {"conf": 0.25, "iou": 0.5, "max_det": 300, "suppression": "gaussian", "sigma": 0.5}


def select(prediction, **changes):
    """select_detections with this file's defaults."""
    return select_detections(prediction, **(DEFAULTS | changes))


def head_output(columns, nc=2):
    """One image from (box xywh, {class: score}) columns: (1, 4 + nc, N)."""
    out = torch.zeros(1, 4 + nc, len(columns))
    for i, (box, scores) in enumerate(columns):
        out[0, :4, i] = torch.tensor(box)
        for label, score in scores.items():
            out[0, 4 + label, i] = score
    return out


def crowd(seed, n=200, nc=3):
    """A head-like image: n boxes around 8 centres, scores in 0..1 for every class."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(8, 2, generator=generator).mul(400).add(100)[torch.arange(n) % 8]
    centre = centre + 8 * torch.randn(n, 2, generator=generator)
    size = 30 + 60 * torch.rand(n, 2, generator=generator)
    return torch.cat((centre, size, torch.rand(n, nc, generator=generator)), 1).T[None]


def test_box_score_class_and_column():
    prediction = head_output([([50.0, 60, 20, 10], {}), ([200, 100, 30, 40], {1: 0.5}), ([50, 60, 20, 10], {0: 0.75})])
    (found,), (columns,) = select(prediction)
    assert found.tolist() == [[40, 55, 60, 65, 0.75, 0], [185, 80, 215, 120, 0.5, 1]]
    assert columns.tolist() == [2, 1]
    assert found.dtype == torch.float32
    assert columns.dtype == torch.int64


def test_tuple_and_list_use_their_first_element():
    prediction = crowd(0)
    expected = select(prediction)[0][0]
    assert len(expected)
    for wrapped in ((prediction, None), [prediction, None]):
        assert torch.equal(select(wrapped)[0][0], expected)


def test_half_precision_is_computed_in_float32():
    prediction = crowd(0).half()
    (found,), _ = select(prediction)
    assert found.dtype == torch.float32
    assert torch.equal(found, select(prediction.float())[0][0])


@pytest.mark.parametrize("suppression", MODES)
@pytest.mark.parametrize("agnostic", [False, True])
def test_alone_equals_in_a_batch(suppression, agnostic):
    batch = torch.cat([crowd(seed) for seed in range(4)])
    batch[1, 4:, 20:] = 0  # images of very different candidate counts share the batch
    batch[2, 4:] = 0
    together, together_columns = select(batch, suppression=suppression, agnostic=agnostic)
    assert [len(found) > 0 for found in together] == [True, True, False, True]
    for i in range(len(batch)):
        (alone,), (columns,) = select(batch[i : i + 1], suppression=suppression, agnostic=agnostic)
        assert torch.equal(together[i], alone)
        assert torch.equal(together_columns[i], columns)


@pytest.mark.parametrize("suppression", MODES)
@pytest.mark.parametrize(
    "prediction", [torch.zeros(2, 6, 0), head_output([([9.0, 9, 4, 4], {0: 0.25})]).repeat(2, 1, 1)]
)
def test_no_columns_or_none_above_conf(suppression, prediction):
    found, columns = select(prediction, suppression=suppression)
    assert [tuple(f.shape) for f in found] == [(0, 6), (0, 6)]
    assert [tuple(c.shape) for c in columns] == [(0,), (0,)]


def test_empty_batch():
    assert select(torch.zeros(0, 6, 10)) == ([], [])


@pytest.mark.parametrize("suppression", MODES)
def test_max_det_keeps_the_best(suppression):
    prediction = crowd(1)
    (everything,), (columns,) = select(prediction, suppression=suppression)
    (best,), (best_columns,) = select(prediction, suppression=suppression, max_det=5)
    assert len(everything) > 5
    assert (everything[1:, 4] <= everything[:-1, 4]).all()
    assert torch.equal(best, everything[:5])
    assert torch.equal(best_columns, columns[:5])


def test_classes_filter_keeps_only_the_listed():
    prediction = crowd(2)
    (everything,), (columns,) = select(prediction)
    (some,), (some_columns,) = select(prediction, classes=[0, 2])
    listed = everything[:, 5] != 1
    assert 0 < listed.sum() < len(everything)
    assert torch.equal(some, everything[listed])
    assert torch.equal(some_columns, columns[listed])
    assert len(select(prediction, classes=[])[0][0]) == 0
    # `yolo predict classes=0,2` gives a tuple
    for same in ((0, 2), range(0, 3, 2), np.array([0, 2]), torch.tensor([0, 2]), {0, 2}):
        assert torch.equal(select(prediction, classes=same)[0][0], some)


def test_column_with_two_classes_gives_two_detections():
    (found,), (columns,) = select(head_output([([50.0, 50, 20, 20], {0: 0.5, 1: 0.75})]))
    assert found[:, 4:].tolist() == [[0.75, 1], [0.5, 0]]
    assert columns.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("suppression", "agnostic_scores"), [("gaussian", [0.75]), ("linear", [0.75]), ("hard", [0.75])]
)
def test_agnostic_suppresses_across_classes(suppression, agnostic_scores):
    # Gaussian: 0.5 * exp(-1 / 0.5) = 0.068 <= conf; linear: 0.5 * (1 - 1) = 0; hard: IoU 1 > 0.5.
    prediction = head_output([([50.0, 50, 20, 20], {0: 0.5, 1: 0.75})])
    (found,), _ = select(prediction, suppression=suppression, agnostic=True)
    assert found[:, 4].tolist() == agnostic_scores


def test_decayed_score_comes_out_and_reorders():
    # Same class, IoU 1/3 (20 wide, 10 apart): 0.75 * exp(-(1/9) / 0.5) = 0.6005531, behind the third box's 0.625.
    prediction = head_output(
        [([50.0, 50, 20, 20], {0: 0.875}), ([60, 50, 20, 20], {0: 0.75}), ([300, 50, 20, 20], {0: 0.625})]
    )
    (found,), (columns,) = select(prediction)
    torch.testing.assert_close(found[:, 4], torch.tensor([0.875, 0.625, 0.6005531]), rtol=0, atol=1e-6)
    assert columns.tolist() == [0, 2, 1]
    assert select(prediction, conf=0.61)[1][0].tolist() == [0, 2]


@pytest.mark.parametrize("suppression", ["gaussian", "linear"])
def test_soft_equals_soft_nms_per_class(suppression):
    prediction = crowd(3)
    (found,), (columns,) = select(prediction, suppression=suppression, conf=0.05, sigma=0.3, iou=0.2, max_det=10**6)
    boxes = box_convert(prediction[0, :4].T, "cxcywh", "xyxy")
    expected = soft_nms(boxes.expand(3, -1, -1), prediction[0, 4:], suppression, 0.3, 0.2, 0.05)
    got = torch.zeros_like(expected)
    got[found[:, 5].long(), columns] = found[:, 4]
    assert len(found) == (expected > 0).sum() > 0
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("agnostic", [False, True])
def test_hard_equals_torchvision(agnostic):
    prediction = crowd(4)
    (found,), (columns,) = select(prediction, suppression="hard", agnostic=agnostic, max_det=10**6)
    column, label = (prediction[0, 4:].T > 0.25).nonzero(as_tuple=True)
    boxes, scores = box_convert(prediction[0, :4].T, "cxcywh", "xyxy")[column], prediction[0, 4 + label, column]
    keep = batched_nms(boxes, scores, label * (not agnostic), 0.5)
    assert 0 < len(keep) < len(column)
    assert torch.equal(found, torch.cat((boxes[keep], scores[keep, None], label[keep, None].float()), 1))
    assert torch.equal(columns, column[keep])


@pytest.mark.parametrize("suppression", MODES)
def test_classes_do_not_meet_where_boxes_leave_the_image(suppression):
    boxes = torch.tensor([[280.0, 280, 320, 320], [-41, -41, 3, 3]])
    prediction = torch.cat((box_convert(boxes, "xyxy", "cxcywh").T, torch.tensor([[0.9, 0], [0, 0.8]])))[None]
    (found,), _ = select(prediction, suppression=suppression)
    assert found[:, 4].tolist() == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize("suppression", MODES)
@pytest.mark.parametrize("row", [0, 3, 4, 5])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_columns_that_are_not_finite_are_dropped(suppression, row, bad):
    clean = crowd(5)
    spoiled = clean.clone()
    spoiled[0, row, ::3] = bad
    clean[0, 4:, ::3] = 0
    (found,), (columns,) = select(spoiled, suppression=suppression)
    (expected,), (expected_columns,) = select(clean, suppression=suppression)
    assert len(expected)
    assert torch.equal(found, expected)
    assert torch.equal(columns, expected_columns)


@pytest.mark.parametrize("agnostic", [False, True])
def test_max_candidates_counts_the_best_of_each_class(agnostic):
    # Boxes far apart, so that only the cap can drop one: class 0 has four candidates, class 1 has one.
    scores = [{0: 0.5}, {0: 0.75}, {1: 0.3}, {0: 0.625}, {0: 0.4}]
    prediction = head_output([([100.0 * i + 50, 50, 20, 20], s) for i, s in enumerate(scores)])
    for suppression in MODES:
        _, (columns,) = select(prediction, suppression=suppression, agnostic=agnostic, max_candidates=2)
        assert columns.tolist() == [1, 3, 2]


def test_input_is_left_unchanged():
    prediction = crowd(6)
    before = prediction.clone()
    select(prediction)
    assert torch.equal(prediction, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suppression": "soft"}, "suppression"),
        ({"conf": 1.5}, "conf and iou"),
        ({"iou": float("nan")}, "conf and iou"),
        ({"max_det": 0}, "max_det"),
        ({"max_candidates": 0}, "max_candidates"),
        ({"classes": [-1]}, "classes"),
        ({"classes": [3]}, "classes"),
        ({"classes": "0"}, "classes must be whole numbers within 0..2, got '0'"),
        ({"classes": ["0"]}, "classes"),
        ({"classes": [0.5]}, "classes"),
        ({"sigma": 0.0}, "sigma"),
    ],
)
def test_bad_arguments_raise(changes, message):
    with pytest.raises(ValueError, match=message):
        select(crowd(0), **changes)


@pytest.mark.parametrize("shape", [(6, 10), (1, 4, 10)])
def test_other_shapes_raise(shape):
    with pytest.raises(ValueError, match="expected a prediction"):
        select(torch.zeros(shape))
