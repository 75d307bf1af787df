"""Detectron2 itself: an oracle for our cascade heads, and a family. Skipped where it is not installed."""

import pytest
import torch

pytest.importorskip("detectron2.model_zoo")
pytestmark = pytest.mark.slow

from family_cells import make_cell  # noqa: E402

from yolospine_ultra.benchmark.families.cascade_rcnn import CascadeRCNN, suppress  # noqa: E402
from yolospine_ultra.benchmark.families.data import Targets  # noqa: E402
from yolospine_ultra.benchmark.families.detectron2_family import FAMILY, ROWS  # noqa: E402
from yolospine_ultra.benchmark.family import Budget, ModelEntry  # noqa: E402

SIZE, CLASSES = 128, 6
SMALL = {
    "config": "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml",
    "options": {
        "MODEL.RESNETS.DEPTH": 18,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
        "MODEL.ROI_BOX_HEAD.FC_DIM": 64,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
    },
}


@pytest.fixture
def pair(tmp_path):
    """The heads of Detectron2 and ours with the same weights, well away from their start."""
    torch.manual_seed(0)
    entry = ModelEntry("small", "detectron2", SMALL)
    theirs = FAMILY.build(entry, make_cell(tmp_path, classes=CLASSES), Budget(1, SIZE, 1, "cpu", 0)).model
    ours = CascadeRCNN(CLASSES, backbone="resnet18", hidden=64, samples=64)
    with torch.no_grad():
        for k in range(3):
            head, predictor = theirs.roi_heads.box_head[k], theirs.roi_heads.box_predictor[k]
            torch.nn.init.normal_(predictor.cls_score.weight, std=0.3)
            torch.nn.init.normal_(predictor.bbox_pred.weight, std=0.1)
            ours.heads.hidden[k].fc6.load_state_dict(head.fc1.state_dict())
            ours.heads.hidden[k].fc7.load_state_dict(head.fc2.state_dict())
            ours.heads.scores[k].weight.copy_(predictor.cls_score.weight.roll(1, 0))  # background stands last there
            ours.heads.scores[k].bias.copy_(predictor.cls_score.bias.roll(1, 0))
            ours.heads.deltas[k].load_state_dict(predictor.bbox_pred.state_dict())
    return theirs, ours


def features_and_boxes():
    features = [torch.randn(2, 256, SIZE // s, SIZE // s) for s in (4, 8, 16, 32)]
    corners = torch.rand(2, 40, 2, 2) * SIZE
    boxes = [torch.cat([c.min(1).values, c.max(1).values + 4], 1).clamp(0, SIZE) for c in corners]
    return features, boxes


def instances(boxes, **fields):
    from detectron2.structures import Boxes, Instances

    made = Instances((SIZE, SIZE))
    for name, value in fields.items():
        made.set(name, value)
    made.set("gt_boxes" if "gt_classes" in fields else "proposal_boxes", Boxes(boxes))
    return made


def named(features):
    return dict(zip(("p2", "p3", "p4", "p5"), features, strict=True))


def test_heads_find_what_detectron2_finds(pair):
    theirs, ours = (m.eval() for m in pair)
    features, boxes = features_and_boxes()
    proposals = [instances(b, objectness_logits=torch.zeros(len(b))) for b in boxes]
    with torch.no_grad():
        expected = theirs.roi_heads._forward_box(named(features), proposals)
        found = [suppress(*x) for x in ours.heads(features, boxes, (SIZE, SIZE))]
    for want, got in zip(expected, found, strict=True):
        assert len(got.scores) == len(want) > 20
        torch.testing.assert_close(torch.tensor(got.scores), want.scores, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(torch.tensor(got.boxes), want.pred_boxes.tensor, atol=1e-3, rtol=1e-4)
        assert got.classes.tolist() == want.pred_classes.tolist()


def test_heads_lose_what_detectron2_loses(pair):
    from detectron2.utils.events import EventStorage

    theirs, ours = (m.train() for m in pair)
    features, boxes = features_and_boxes()
    truth = [b[:3] + 2 for b in boxes]
    classes = [torch.tensor([0, 5, 2]), torch.tensor([1, 1, 4])]
    proposals = [instances(b, objectness_logits=torch.zeros(len(b))) for b in boxes]
    targets = [instances(t, gt_classes=c) for t, c in zip(truth, classes, strict=True)]
    with EventStorage():
        sampled = theirs.roi_heads.label_and_sample_proposals(proposals, targets)
        expected = theirs.roi_heads._forward_box(named(features), sampled, targets)
    mine = ours.heads.loss(features, boxes, [Targets(t, c) for t, c in zip(truth, classes, strict=True)], (SIZE, SIZE))
    for k in range(3):
        torch.testing.assert_close(mine[f"cls{k + 1}"], expected[f"loss_cls_stage{k}"], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mine[f"box{k + 1}"], expected[f"loss_box_reg_stage{k}"], atol=1e-5, rtol=1e-4)
        assert mine[f"box{k + 1}"] > 0


def test_trains_and_detects(tmp_path):
    data = make_cell(tmp_path / "data")
    budget = Budget(1, 64, 4, "cpu", 0)
    entry = ModelEntry("small", "detectron2", SMALL)
    weights = FAMILY.train(entry, data, budget, tmp_path)
    found = FAMILY.load(entry, weights, data, budget).detect(data.val)
    assert [f.name for f in found] == [v.name for v in data.val]
    assert all(((f.scores > 0.001) & (f.scores <= 1)).all() for f in found)


def test_the_papers_size(tmp_path):
    network = FAMILY.build(ROWS[0], make_cell(tmp_path, classes=CLASSES), Budget(1, SIZE, 1, "cpu", 0))
    assert sum(p.numel() for p in network.parameters()) == 69_167_216
