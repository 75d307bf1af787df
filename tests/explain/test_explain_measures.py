"""What is measured of maps, against hand cases; frames against the host's letterbox. Needs no pytorch-grad-cam."""

import sys

import numpy as np
import pytest
import torch
from explained_models import NAMES, SIZE, build, images
from hypothesis import given, settings
from hypothesis import strategies as st
from ultralytics.data.augment import LetterBox

from yolospine_ultra.explain import cam
from yolospine_ultra.explain.faithfulness import SHARES, faithfulness, ranks
from yolospine_ultra.explain.frame import Frame, make_frame
from yolospine_ultra.explain.load import wrap
from yolospine_ultra.explain.pointing import covered, energy_in_box, pointing_hit
from yolospine_ultra.explain.sanity import cascade

RNG = np.random.default_rng(0)
CPU = torch.device("cpu")


def test_without_the_library_the_extra_is_named(monkeypatch):
    cam._library.cache_clear()
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(ImportError, match=r"pip install 'yolospine_ultra\[explain\]'"):
        cam.require_library()
    cam._library.cache_clear()


def test_energy_by_hand():
    values = np.array([[1.0, 2.0], [0.0, 5.0]])
    assert energy_in_box(values, np.array([0, 0, 2, 1])) == pytest.approx(3 / 8)
    assert energy_in_box(values, np.array([0.5, 0, 2, 2])) == pytest.approx(7.5 / 8)  # half of the first column
    assert energy_in_box(values, np.array([5, 5, 6, 6])) == 0
    assert energy_in_box(np.zeros((2, 2)), np.array([0, 0, 1, 1])) is None


@given(st.tuples(*[st.floats(0, 9)] * 2), st.tuples(*[st.floats(0, 9)] * 2))
@settings(max_examples=40, deadline=None)
def test_a_flat_map_has_the_boxs_share(first, second):
    box = np.array([min(first), min(second), max(first), max(second)])
    area = (box[2] - box[0]) * (box[3] - box[1])
    assert covered(box, (9, 9)).sum() == pytest.approx(area)
    assert energy_in_box(np.full((9, 9), 0.3), box) == pytest.approx(area / 81)


def test_pointing_hit():
    values = np.zeros((6, 8))
    values[2, 5] = 1
    assert pointing_hit(values, np.array([5, 2, 6, 3])) and not pointing_hit(values, np.array([2, 5, 3, 6]))


def test_ranks_fall_and_ties_are_random():
    values = np.array([[0.0, 3.0], [2.0, 0.0]])
    found = {tuple(ranks(values, np.random.default_rng(seed)).ravel()) for seed in range(20)}
    assert found == {(0.5, 0, 0.25, 0.75), (0.75, 0, 0.25, 0.5)}


def square_frame(pixels, content=None):
    inputs = torch.tensor(pixels, dtype=torch.float32)[None, None].repeat(1, 3, 1, 1)
    h, w = inputs.shape[2:]
    return Frame(inputs, np.zeros((h, w), np.uint8), content or (0, 0, w, h), "square")


def measure(frame, values, score, rng=RNG):
    (got,) = faithfulness(frame, {"one": [values]}, lambda x: {"one": score(x)}, rng)["one"]
    return got


def test_deletion_by_hand():
    """A score of ten of a hundred equal pixels, and the map that names them: no blur changes them."""
    values = np.zeros((10, 10), np.float32)
    values[4] = 1
    got = measure(square_frame(np.ones((10, 10))), values, lambda x: x[:, 0, 4].mean(1) * 0.5)
    assert SHARES == (0.01, 0.03, 0.1, 0.3)
    assert got.deleted == pytest.approx([0.9, 0.7, 0, 0])
    # trapezia between 0, .01, .03, .1 of the pixels
    assert got.deletion == pytest.approx(0.01 * 0.95 + 0.02 * 0.8 + 0.07 * 0.35)
    assert got.insertion == pytest.approx(1) and got.inserted == pytest.approx([1] * 4)


def test_the_right_map_is_better_than_its_opposite():
    pixels = np.zeros((32, 32))
    pixels[10:14, 10:14] = 1

    def score(x):
        return x[:, 0, 10:14, 10:14].mean((1, 2))

    right, wrong = (measure(square_frame(pixels), v.astype(np.float32), score) for v in (pixels, 1 - pixels))
    assert right.deletion < 0.05 < 0.9 < right.insertion + 0.05
    assert wrong.deletion > right.deletion + 0.3 and wrong.insertion < right.insertion - 0.1


def test_maps_of_several_stages_keep_their_own_scores():
    frame, rng = square_frame(RNG.random((12, 12))), np.random.default_rng(0)
    maps = {s: [RNG.random((12, 12), dtype=np.float32) for _ in range(n)] for s, n in (("one", 2), ("two", 3))}
    got = faithfulness(frame, maps, lambda x: {"one": x[:, 0, 0, 0] * 0 + 0.5, "two": x.mean((1, 2, 3))}, rng)
    assert [len(got[s]) for s in ("one", "two")] == [2, 3]
    assert all(f.deletion == pytest.approx(1) for f in got["one"]) and all(f.deletion < 1 for f in got["two"])


def test_padding_is_left_alone_and_a_score_of_zero_is_not_defined():
    seen = []

    def score(x):
        seen.append(x)
        return x.sum((1, 2, 3)) * 0

    assert measure(square_frame(np.full((8, 8), 0.5), (0, 2, 8, 6)), np.ones((8, 8), np.float32), score) is None
    padding = torch.cat(seen)[:, :, [0, 1, 6, 7]]
    assert (padding[2:] == 0.5).all()  # the second is the blurred image


def test_the_cascade_shuffles_part_after_part_and_nothing_else():
    module = build("yolov8n")
    model = wrap(module, NAMES, SIZE)
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    steps = dict(cascade(model, seed=3))
    assert list(steps) == ["head", "neck", "backbone"]
    changed = {
        part: {int(k.split(".")[1]) for k, v in m.module.state_dict().items() if not torch.equal(v, before[k])}
        for part, m in steps.items()
    }
    assert changed["head"] == {22} and min(changed["neck"]) >= 10 and 0 in changed["backbone"]
    assert changed["head"] < changed["neck"] < changed["backbone"]
    state = steps["backbone"].module.state_dict()
    assert all(torch.equal(v.flatten().sort()[0], before[k].flatten().sort()[0]) for k, v in state.items())
    assert torch.equal(state["model.22.dfl.conv.weight"], before["model.22.dfl.conv.weight"])
    assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())
    again = dict(cascade(model, seed=3))["backbone"].module.state_dict()
    assert all(torch.equal(v, again[k]) for k, v in state.items())


@pytest.mark.parametrize("shape", [(90, 60), (60, 90), (64, 64), (33, 128)])
@pytest.mark.parametrize("fit", ["rect", "square", "stretch"])
def test_frames_are_the_hosts_letterbox(shape, fit):
    image = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    frame = make_frame(image, 64, 3, fit, CPU)
    boxed = LetterBox((64, 64), auto=fit == "rect", scale_fill=fit == "stretch", stride=32)(image=image)
    assert np.array_equal((frame.inputs[0].numpy() * 255).round().astype(np.uint8), boxed[..., ::-1].transpose(2, 0, 1))
    x1, y1, x2, y2 = frame.content
    outside = np.ones(frame.size, bool)
    outside[y1:y2, x1:x2] = False
    assert (boxed[outside] == 114).all()
    assert frame.boxes_to_image([frame.content])[0] == pytest.approx([0, 0, shape[1], shape[0]], abs=1e-6)
    marked = np.zeros(frame.size, np.float32)
    marked[y1:y2, x1:x2] = 1
    assert frame.map_to_image(marked).shape == shape and (frame.map_to_image(marked) == 1).all()


def test_grey_scans_and_models_of_one_channel():
    plane = RNG.integers(0, 256, (64, 64), dtype=np.uint8)
    three, one = (make_frame(plane, 64, c, "square", CPU).inputs for c in (3, 1))
    assert three.shape[1] == 3 and one.shape[1] == 1 and torch.equal(three[:, :1], one)
    assert torch.equal(make_frame(np.dstack([plane] * 3), 64, 1, "square", CPU).inputs, one)


def test_the_callers_network_stays_as_it_is():
    module = build("yolov8n").train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    model = wrap(module, NAMES, SIZE)
    model.look(images())
    assert module.training and all(p.requires_grad for n, p in module.named_parameters() if "dfl" not in n)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
