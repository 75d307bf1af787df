"""Boxes of stage 2: by hand, and against torchvision's coder."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder

from yolospine_ultra.nn.boxes import MAX_LOG_SCALE, VARIANCE, decode_boxes, safe_boxes

side = st.floats(2, 500)
corner = st.floats(-100, 600)


def box(x, y, w, h):
    return torch.tensor([x, y, x + w, y + h], dtype=torch.float64)


def test_by_hand():
    # from centre (10, 10), 20 x 20, by dx = 0.1 * 1 widths and dh = 0.2 * (ln 2 / 0.2) to centre (12, 10), 20 x 40
    deltas = torch.tensor([1.0, 0, 0, math.log(2) / 0.2]).double()
    torch.testing.assert_close(decode_boxes(box(0, 0, 20, 20), deltas), box(2, -10, 20, 40))


@given(corner, corner, side, side, corner, corner, side, side)
def test_torchvisions_coder_is_undone(x, y, w, h, u, v, a, b):
    proposal, target = box(x, y, w, h), box(u, v, a, b)
    deltas = BoxCoder(tuple(1 / s for s in VARIANCE)).encode_single(target[None], proposal[None])[0]
    back = decode_boxes(proposal, deltas)
    if max(abs(math.log(a / w)), abs(math.log(b / h))) < MAX_LOG_SCALE:
        torch.testing.assert_close(back, target, atol=1e-6, rtol=1e-6)
    else:  # the clamp keeps the centre
        torch.testing.assert_close(back[:2] + back[2:], target[:2] + target[2:], atol=1e-6, rtol=1e-6)


def test_zero_deltas_are_the_identity_and_broadcast_over_classes():
    proposals = torch.tensor([[0.0, 0, 10, 20], [5, 5, 6, 6]])
    out = decode_boxes(proposals[:, None], torch.zeros(2, 3, 4))
    torch.testing.assert_close(out, proposals[:, None].expand(2, 3, 4))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=4, max_size=4))
def test_safe_boxes_are_always_fit_for_roi_align(values):
    x1, y1, x2, y2 = safe_boxes(torch.tensor([values]), 64, 32)[0].tolist()
    assert 0 <= x1 < x2 <= 64 and 0 <= y1 < y2 <= 32 and min(x2 - x1, y2 - y1) >= 1 - 1e-6


def test_safe_boxes_leave_good_boxes_alone():
    good = torch.tensor([[0.0, 0, 64, 32], [3.5, 2, 20, 9]])
    assert torch.equal(safe_boxes(good, 64, 32), good)
