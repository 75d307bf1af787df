"""Segmentation networks as detectors: masks of boxes and back on hand-made maps, and each network end to end."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from family_cells import make_cell
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops

from yolospine_ultra.benchmark.families.data import Targets
from yolospine_ultra.benchmark.families.segmentation import (
    FAMILY,
    ROWS,
    boxes_from_maps,
    dice_loss,
    make_network,
    masks_from_boxes,
)
from yolospine_ultra.benchmark.family import Budget, ModelEntry

needs_networks = pytest.mark.skipif(
    any(find_spec(p) is None for p in FAMILY.packages), reason="needs the extra [bench]"
)
SMALL = {
    "UNet++": {
        "network": "UnetPlusPlus",
        "encoder": "resnet18",
        "arguments": {"encoder_depth": 3, "decoder_channels": [32, 16, 8]},
    },
    "Swin-UNet": {
        "network": "Unet",
        "encoder": "tu-swin_tiny_patch4_window7_224",
        "sized": True,
        "arguments": {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]},
    },
    "TransUNet": {
        "network": "TransUNet",
        "encoder": "vit_base_r50_s16_384",
        "arguments": {"depth": 1, "embed_dim": 48, "num_heads": 2},
    },
    "PVTv2": {"network": "Unet", "encoder": "tu-pvt_v2_b0"},
}


def target(boxes, classes):
    return Targets(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(classes, dtype=torch.long))


def by_box(found):
    return sorted(zip(found.classes.tolist(), found.boxes.tolist(), found.scores.tolist(), strict=True))


def test_overlapping_findings_of_two_classes_both_survive():
    maps = np.zeros((3, 20, 30))
    maps[0, 5:15, 4:20] = 0.9
    maps[2, 8:12, 6:28] = 0.7
    found = by_box(boxes_from_maps(maps))
    assert [(c, b) for c, b, _ in found] == [(0, [4, 5, 20, 15]), (2, [6, 8, 28, 12])]
    assert [s for *_, s in found] == pytest.approx([0.9, 0.7])


def test_the_same_box_in_two_classes_gives_two_findings():
    maps = np.full((2, 8, 8), 0.1)
    maps[:, 2:6, 2:6] = 0.8
    assert [(c, b) for c, b, _ in by_box(boxes_from_maps(maps))] == [(0, [2, 2, 6, 6]), (1, [2, 2, 6, 6])]


def test_score_is_the_mean_of_the_components_pixels_alone():
    maps = np.full((1, 10, 10), 0.4)  # background that a mean over the box would take in
    maps[0, 2:6, 2] = 0.6
    maps[0, 5, 2:8] = 1.0  # an L whose box is mostly background
    ((_, box, score),) = by_box(boxes_from_maps(maps))
    assert box == [2, 2, 8, 6]
    assert score == pytest.approx((3 * 0.6 + 6 * 1.0) / 9)


def test_components_share_edges_not_corners():
    maps = np.zeros((1, 6, 6))
    maps[0, 0:2, 0:2] = maps[0, 2:4, 2:4] = 1
    assert [b for _, b, _ in by_box(boxes_from_maps(maps))] == [[0, 0, 2, 2], [2, 2, 4, 4]]


def test_nothing_above_the_threshold_is_no_finding():
    found = boxes_from_maps(np.full((2, 5, 5), 0.5))
    assert found.boxes.shape == (0, 4) and len(found.classes) == len(found.scores) == 0


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_components_agree_with_scikit_image(seed):
    maps = np.random.default_rng(seed).random((2, 9, 11))
    expected = []
    for c, probability in enumerate(maps):
        for region in regionprops(label(probability > 0.5, connectivity=1), probability):
            y1, x1, y2, x2 = region.bbox
            expected.append((c, [x1, y1, x2, y2], region.mean_intensity))
    got = by_box(boxes_from_maps(maps))
    assert [x[:2] for x in got] == [x[:2] for x in sorted(expected)]
    assert [x[2] for x in got] == pytest.approx([x[2] for x in sorted(expected)])


def test_masks_are_filled_boxes_one_map_a_class():
    masks = masks_from_boxes([target([[1, 2, 4, 6], [0, 0, 8, 8]], [1, 0]), target([], [])], 3, 8)
    assert masks.shape == (2, 3, 8, 8)
    assert masks[0, 1].sum() == 3 * 4 and masks[0, 1, 2:6, 1:4].all()
    assert masks[0, 0].all() and not masks[0, 2].any() and not masks[1].any()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 9), st.integers(1, 9)), max_size=1))
@settings(max_examples=50, deadline=None)
def test_a_box_of_whole_pixels_comes_back(rows):
    boxes = [[x, y, min(x + w, 32), min(y + h, 32)] for x, y, w, h in rows]
    found = boxes_from_maps(masks_from_boxes([target(boxes, [1] * len(boxes))], 2, 32)[0].numpy())
    assert [(b, s) for _, b, s in by_box(found)] == [(b, 1.0) for b in boxes]


def test_a_box_thinner_than_a_pixel_keeps_one():
    masks = masks_from_boxes([target([[7.6, 3.1, 7.9, 3.2], [2.1, 2.1, 2.3, 6]], [0, 1])], 2, 8)
    assert masks[0, 0].sum() == 1 and masks[0, 0, 3, 7] == 1
    assert masks[0, 1].sum() == 4


def test_dice_by_hand_and_without_any_label():
    masks = torch.zeros(1, 2, 2, 2)
    masks[0, 0, 0] = 1
    logits = torch.full((1, 2, 2, 2), 0.0, requires_grad=True)
    # class 0: 2 * (2 * .5) / (4 * .5 + 2) = .5; class 1 is not shown
    assert dice_loss(logits, masks).item() == pytest.approx(0.5)
    empty = dice_loss(logits, torch.zeros_like(masks))
    empty.backward()
    assert empty.item() == 0 and torch.isfinite(logits.grad).all()


@needs_networks
@pytest.mark.parametrize("name", SMALL)
def test_trains_loads_and_detects(name, tmp_path):
    data = make_cell(tmp_path / "data", size=64)
    budget = Budget(1, 32, 4, "cpu", 0, recipe={"lr0": 1e-3})
    entry = ModelEntry(name, "segmentation", SMALL[name])
    weights = FAMILY.train(entry, data, budget, tmp_path)
    detector = FAMILY.load(entry, weights, data, budget)
    found = detector.detect(data.val)
    assert [f.name for f in found] == [v.name for v in data.val]
    for f in found:
        width, height = (100, 60) if f.name == "black.png" else (64, 64)
        assert ((f.boxes >= 0) & (f.boxes <= [width, height, width, height])).all()
        assert ((f.scores > 0.001) & (f.scores <= 1)).all() and (np.diff(f.scores) <= 0).all() and len(f) <= 300
        assert ((f.classes >= 0) & (f.classes < 3)).all()
    assert detector.module(torch.zeros(2, 3, 32, 32)).shape == (2, 3, 32, 32)


@needs_networks
@pytest.mark.slow
def test_learns_the_boxes_of_a_few_images(tmp_path):
    """Without augmentation and after enough steps, training images are found again, also those of two classes."""
    from yolospine_ultra.evaluate.findings import read_dataset

    data = make_cell(tmp_path / "data", size=64, images=6)
    still = dict.fromkeys(("mosaic", "scale", "translate", "hsv_v", "hsv_s", "hsv_h", "fliplr"), 0.0)
    budget = Budget(25, 64, 3, "cpu", 0, recipe=still | {"lr0": 3e-3})
    entry = ModelEntry("x", "segmentation", SMALL["UNet++"])
    detector = FAMILY.load(entry, FAMILY.train(entry, data, budget, tmp_path), data, budget)
    truth = {t.name: t for t in read_dataset(data.yaml, "train")[0]}
    hits = total = 0
    for f in detector.detect(data.train[2:]):
        t = truth[f.name]
        for box, c in zip(t.boxes, t.classes, strict=True):
            mine = torch.tensor(f.boxes[f.classes == c])
            overlap = torch.zeros(0) if not len(mine) else _iou(torch.tensor(box)[None], mine)
            hits += bool((overlap > 0.5).any())
            total += 1
    assert hits >= 0.6 * total


def _iou(a, b):
    from torchvision.ops import box_iou

    return box_iou(a, b)


@needs_networks
@pytest.mark.parametrize("name", ["UNet++", "TransUNet"])
def test_one_channel(name, tmp_path):
    data = make_cell(tmp_path, size=64, channels=1)
    detector = FAMILY.load(ModelEntry("x", "segmentation", SMALL[name]), None, data, Budget(1, 32, 1, "cpu", 0))
    assert len(detector.detect(data.val)) == len(data.val)
    assert detector.module(torch.rand(1, 1, 32, 32)).shape == (1, 3, 32, 32)


@needs_networks
def test_a_size_that_the_networks_cannot_take():
    with pytest.raises(ValueError, match=r"imgsz is 100.*multiples of 32"):
        make_network(SMALL["UNet++"], 3, 100, 3)


@needs_networks
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "millions"), [("unetpp-r50", 48.99), ("swin-unet", 31.63), ("transunet", 105.57), ("pvtv2-unet", 28.13)]
)
def test_parameters_at_the_papers_size(name, millions):
    (entry,) = (r for r in ROWS if r.name == name)
    network = make_network(entry.build, 6, 384, 3)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
