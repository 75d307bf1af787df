"""Cascade R-CNN: its parts by hand, its size, end to end when small. `test_families_detectron2` has the oracle."""

import numpy as np
import pytest
import torch
from family_cells import make_cell
from torchvision.ops import roi_align

from yolospine_ultra.benchmark.families.cascade_rcnn import (
    FAMILY,
    POOLED,
    ROWS,
    CascadeRCNN,
    match,
    pool,
    suppress,
)
from yolospine_ultra.benchmark.families.data import Targets
from yolospine_ultra.benchmark.family import Budget, ModelEntry

SMALL = ModelEntry("small", "cascade_rcnn", {"backbone": "resnet18", "hidden": 32, "samples": 32})


def pyramid(batch=2, side=256):
    torch.manual_seed(0)
    return [torch.randn(batch, 4, side // s, side // s) for s in (4, 8, 16, 32)]


def test_regions_come_from_the_level_of_their_size_and_the_right_image():
    features = pyramid()
    # canonical: 224 px on stride 16, each halving one level down
    boxes = [torch.tensor([[0.0, 0, 200, 250]]), torch.tensor([[5.0, 5, 60, 40], [10, 10, 130, 130]])]
    pooled = pool(features, boxes)
    for got, image, box, level in zip(pooled, (0, 1, 1), torch.cat(boxes), (1, 0, 1), strict=True):
        region = torch.tensor([[image, *box.tolist()]])
        want = roi_align(features[level], region, POOLED, 1 / (4, 8, 16, 32)[level], aligned=True)[0]
        torch.testing.assert_close(got, want)


def test_pooling_stands_boxes_that_are_not_finite_and_none_at_all():
    features = pyramid(1)
    assert torch.isfinite(
        pool(features, [torch.tensor([[float("nan")] * 4, [0.0, 0, float("inf"), 9]]).clamp(0, 256)])
    ).all()
    assert pool(features, [torch.zeros(0, 4)]).shape == (0, 4, POOLED, POOLED)


def test_match_by_hand():
    target = Targets(torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), torch.tensor([2, 0]))
    boxes = torch.tensor([[0.0, 0, 10, 6], [0, 0, 10, 5], [20, 20, 30, 31], [50, 50, 60, 60]])
    labels, truth = match(boxes, target, 0.6)
    assert labels.tolist() == [3, 0, 1, 0]  # class + 1; IoU .6 counts, .5 does not
    assert truth[[0, 2]].tolist() == target.boxes.tolist()
    labels, _ = match(boxes, Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)), 0.5)
    assert labels.tolist() == [0, 0, 0, 0]


def test_suppression_is_class_by_class():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [30, 30, 40, 40]])
    found = suppress(boxes, torch.tensor([[0.9, 0.3], [0.8, 0.6], [0.0005, 0.2]]))
    assert found.classes.tolist() == [0, 1, 1] and found.boxes[:, 3].tolist() == [10, 9, 40]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6, 0.2])


def test_refinement_returns_the_box_that_was_encoded():
    heads = CascadeRCNN(3, backbone="resnet18", hidden=8).heads
    boxes, truth = torch.tensor([[10.0, 20, 50, 60]]), torch.tensor([[14.0, 18, 61, 52]])
    for k in range(3):
        codes = heads.coders[k].encode([truth], [boxes])[0]
        torch.testing.assert_close(heads.refine(k, codes, [boxes], (128, 128))[0], truth)
    assert heads.refine(0, codes * 100, [boxes], (40, 40))[0].max() <= 40  # stays inside


def test_loss_is_finite_without_labels_and_reaches_every_parameter():
    torch.manual_seed(0)
    network = CascadeRCNN(3, backbone="resnet18", hidden=16, samples=32)
    nothing = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    terms = network.loss(torch.rand(2, 3, 64, 64), [nothing, nothing])
    assert all(torch.isfinite(t) for t in terms.values())
    assert all(terms[f"box{k}"] == 0 for k in (1, 2, 3))
    something = Targets(torch.tensor([[4.0, 4, 50, 40]]), torch.tensor([1]))
    sum(network.loss(torch.rand(2, 3, 64, 64), [something, nothing]).values()).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None]
    assert not without


def test_half_precision_loses_little():
    """On CUDA training runs in half precision; here bfloat16 stands in for it. Regions keep their exact place."""
    torch.manual_seed(0)
    heads = CascadeRCNN(3, backbone="resnet18", hidden=16, samples=32).heads
    features = [torch.randn(1, 256, 64 // s, 64 // s) for s in (4, 8, 16, 32)]
    truth = torch.tensor([[4.3, 4.1, 50.7, 40.2]])
    proposals = torch.cat([truth + d for d in (1.3, -2.2, 9.1, 20.6)])  # few, so that all are sampled
    terms = []
    for half in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            terms.append(heads.loss(features, [proposals], [Targets(truth, torch.tensor([1]))], (64, 64)))
    for name in terms[0]:
        assert terms[1][name].dtype == torch.float32
        torch.testing.assert_close(terms[1][name], terms[0][name], rtol=0.03, atol=0.003)


def test_trains_loads_and_detects(tmp_path):
    data = make_cell(tmp_path / "data", size=64, images=3)
    budget = Budget(1, 64, 3, "cpu", 0)
    weights = FAMILY.train(SMALL, data, budget, tmp_path)
    detector = FAMILY.load(SMALL, weights, data, budget)
    for f, file in zip(detector.detect(data.val), data.val, strict=True):
        width, height = (100, 60) if file.name == "black.png" else (64, 64)
        assert f.name == file.name and len(f) <= 300
        assert ((f.boxes >= 0) & (f.boxes <= [width, height, width, height])).all()
        assert ((f.scores > 0.001) & (f.scores <= 1)).all() and (np.diff(f.scores) <= 0).all()


def test_one_channel(tmp_path):
    data = make_cell(tmp_path, size=64, channels=1)
    assert len(FAMILY.load(SMALL, None, data, Budget(1, 64, 1, "cpu", 0)).detect(data.val[:1])) == 1


def test_parameters_at_the_papers_size(tmp_path):
    """Detectron2 0.6 has the same number with these settings, see `test_families_detectron2`."""
    network = CascadeRCNN(6, **ROWS[0].build)
    assert sum(p.numel() for p in network.parameters()) == 69_167_216
