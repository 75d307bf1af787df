"""Maps against hand cases and the library's own whole calls; where they are laid, and when they are refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from torch import nn

pytest.importorskip("pytorch_grad_cam")
import pytorch_grad_cam

from yolospine_ultra.explain.cam import (
    METHODS,
    ClassIndependentError,
    NoEvidenceError,
    Patch,
    cell_maps,
    flatten,
    paint,
)
from yolospine_ultra.explain.model import gradients
from yolospine_ultra.explain.specificity import rank_correlation, specific_map

WHOLE = (0, 0, 8, 8)
RNG = np.random.default_rng(0)


def patch(activations, gradients, region=WHOLE):
    return Patch(np.array(activations, np.float32), np.array(gradients, np.float32), region)


def one_map(method, *given):
    return cell_maps(method, [patch(*given)])[0]


A = [[[1, 2], [3, 4]], [[0, 1], [1, 0]]]
G = [[[1, 0], [0, 1]], [[-1, -1], [-1, -1]]]  # mean .5 and -1


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("gradcam", [[0.5, 0], [0.5, 2]]),  # ReLU(A1 / 2 - A2)
        ("gradcam++", [[1 / 6, 2 / 6], [3 / 6, 4 / 6]]),  # a = 1 / (2 + 10) in two cells, so A1 x 2 / 12
        ("layercam", [[1, 0], [0, 4]]),  # ReLU(g1) A1
    ],
)
def test_maps_by_hand(method, expected):
    assert one_map(method, A, G) == pytest.approx(np.array(expected), abs=1e-5)


class Tiny(nn.Module):
    """Two features of one channel, each the pixel times a weight; logits are weighted means of them."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 2, 1, bias=False)
        self.features.weight.data = torch.tensor([1.0, -2.0]).view(2, 1, 1, 1)
        self.classes = nn.Linear(2, 2, bias=False)
        self.classes.weight.data = torch.tensor([[4.0, 0.0], [0.0, 8.0]])

    def forward(self, x):
        return self.classes(self.features(x).mean((2, 3)))


def test_gradcam_of_a_linear_network_by_hand():
    x = torch.tensor([[[[1.0, -2.0], [3.0, 0.0]]]])
    net = Tiny().requires_grad_(False)
    features = net.features(x).requires_grad_()
    logits = net.classes(features.mean((2, 3)))[0]
    found = []
    for c in range(2):
        (gradient,) = gradients(logits[c], [features])
        found.append(one_map("gradcam", features.detach()[0], gradient[0]))
    # w = 4/4 of the first feature, which is the pixel; 8/4 of the second, which is -2 pixels
    assert found[0].tolist() == [[1, 0], [3, 0]]
    assert found[1].tolist() == [[0, 8], [0, 0]]


@pytest.mark.parametrize("method", METHODS)
def test_agrees_with_the_whole_call_of_the_library(method):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(4 * 144, 3)).eval()
    x = torch.rand(1, 3, 16, 16)
    target = [lambda output: output[1]]
    expected = getattr(pytorch_grad_cam, METHODS[method])(net, [net[1]])(x, target)[0]
    features = net[:2](x).detach().requires_grad_()
    (gradient,) = gradients(net[2:](features)[0, 1], [features])
    got = cell_maps(method, [Patch(features.detach().numpy()[0], gradient[0], (0, 0, 16, 16))])
    laid = paint(got, [(0, 0, 16, 16)], (16, 16))
    scaled = (laid - laid.min()) / (1 - laid.min())  # as the library does
    assert scaled == pytest.approx(expected, abs=1e-4)


def test_a_score_without_gradient_gives_zeros():
    x = torch.ones(1, 2, 2, 2, requires_grad=True)
    assert not gradients(torch.tensor(3.0), [x])[0].any()
    other = torch.ones(1, requires_grad=True)
    assert not gradients((other * 2).sum(), [x])[0].any()


def test_maps_are_laid_over_their_regions():
    assert paint([np.ones((2, 3))], [WHOLE], (8, 8)) == pytest.approx(np.ones((8, 8)))
    laid = paint([np.ones((7, 7))], [(2, 1, 5, 7)], (8, 8))
    inside = np.zeros((8, 8))
    inside[1:7, 2:5] = 1
    assert laid == pytest.approx(inside)
    hot = np.zeros((4, 4))
    hot[1, 2] = 1
    assert np.unravel_index(paint([hot], [(0, 0, 20, 20)], (20, 20)).argmax(), (20, 20)) == (7, 12)
    over_the_edge = paint([np.arange(49).reshape(7, 7)], [(-6, -6, 8, 8)], (8, 8))
    assert over_the_edge.max() == 1 and over_the_edge[7, 7] == 1
    assert not paint([np.zeros((7, 7))], [WHOLE], (8, 8)).any()


def test_evidence_is_spread_over_the_area_of_its_cells():
    ones = np.ones((7, 7))
    laid = paint([ones, ones], [(8, 8, 16, 16), (4, 4, 20, 20)], (24, 24))
    assert laid[12, 12] == 1 and laid[5, 5] == pytest.approx(1 / 5)  # a quarter of the density, beside both of them
    assert laid[2, 2] == 0


def two_classes(first, second):
    return {"a": [patch(A, first)], "b": [patch(A, second)]}


@pytest.mark.parametrize(("method", "factor"), [*((m, 1) for m in METHODS), ("gradcam", 3), ("layercam", 3)])
def test_a_map_of_another_class_is_refused(method, factor):
    """Gradients that differ by a factor make the same picture, but for GradCAM++, which is not linear in them."""
    g = np.array(G)
    with pytest.raises(ClassIndependentError, match="the map of a is that of b"):
        specific_map(method, two_classes(g, factor * g), "a")


def test_no_gradient_and_no_evidence_are_told_apart():
    g = np.array(G)
    with pytest.raises(ClassIndependentError, match="a has no gradient"):
        specific_map("layercam", two_classes(0 * g, g), "a")
    with pytest.raises(NoEvidenceError, match="no cell has evidence for a"):
        specific_map("gradcam", two_classes(-np.abs(g), g), "a")


def test_two_classes_with_one_cell_of_evidence_are_no_picture_but_no_error_of_class_either():
    """As GradCAM of a region in which nearly everything speaks against both classes."""
    ones, none = np.ones((1, 2, 2)), np.zeros((1, 2, 2))
    features = np.concatenate([[[[5, 0], [0, 0]]], [[[0, 1], [0, 0]]], [[[0, 0], [1, 0]]]])
    patches = {
        "a": [patch(features, np.concatenate([ones, -ones, none]))],  # 5 -1 0 0
        "b": [patch(features, np.concatenate([ones, none, -ones]))],  # 5 0 -1 0
    }
    with pytest.raises(NoEvidenceError, match="evidence for a have it for b too"):
        specific_map("gradcam", patches, "a")


def test_specificity_by_hand():
    other = np.array([[[1, 0], [0, 0]], [[0, 0], [0, 0]]])
    third = np.array([[[0, 0], [0, 1]], [[0, 0], [0, 0]]])
    cells, about = specific_map("layercam", two_classes(G, other) | {"c": [patch(A, third)]}, "a")
    assert cells[0].tolist() == [[1, 0], [0, 4]]
    # scaled: a .25 0 0 1, b 1 0 0 0, c 0 0 0 1
    assert (about.closest, about.difference) == ("c", pytest.approx(0.25))
    assert about.correlation is None  # two cells only
    alone = specific_map("layercam", {"a": [patch(A, G)]}, "a")[1]
    assert (alone.closest, alone.difference, alone.correlation) == (None, None, None)


def test_cells_of_several_patches_are_compared_together():
    first, second = patch(A, G), patch(A, np.abs(G))
    cells = flatten(cell_maps("layercam", [first, second]))
    assert cells.tolist() == pytest.approx((np.array([1, 0, 0, 4, 1, 1, 1, 4]) / 4).tolist())


@given(arrays(float, 12, elements=st.floats(0, 1, width=16)), arrays(float, 12, elements=st.floats(0, 1, width=16)))
@settings(max_examples=60, deadline=None)
def test_rank_correlation_is_spearmans_where_there_is_evidence(first, second):
    seen = (first > 0) | (second > 0)
    got = rank_correlation(first, second)
    if seen.sum() < 3 or np.ptp(first[seen]) == 0 or np.ptp(second[seen]) == 0:
        assert got is None
    else:
        ranks = [stats.rankdata(x[seen]) for x in (first, second)]
        assert got == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-9)


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match=r"'eigencam' is unknown; expected one of gradcam, gradcam\+\+, layercam"):
        one_map("eigencam", A, G)
