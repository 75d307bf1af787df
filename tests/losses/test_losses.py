"""Losses: by hand, against finite differences and seeded values, and finite whatever the batch holds."""

import pytest
import torch
from torch.nn import functional as F
from ultralytics.utils import DEFAULT_CFG

from yolospine_ultra.engine.model import PluginDetectionModel
from yolospine_ultra.losses.assign import match_regions, multi_hot_labels, sample_regions
from yolospine_ultra.losses.focal import softmax_focal_loss
from yolospine_ultra.losses.weighted_bce import weighted_bce
from yolospine_ultra.nn.proposals import Proposals
from yolospine_ultra.nn.relations import no_facts


def model(yaml="yolospine-n.yaml", nc=3, **attributes):
    torch.manual_seed(0)
    m = PluginDetectionModel(yaml, nc=nc, verbose=False)
    m.args = DEFAULT_CFG
    for k, v in attributes.items():
        setattr(m, k, v)
    return m.train()


ONE = [[(1, 0.5, 0.5, 0.4, 0.3)]]
TWICE = [[(0, 0.5, 0.5, 0.4, 0.3), (2, 0.5, 0.5, 0.4, 0.3)], []]
CROWD = [[(i % 3, 0.05 + 0.9 * (i % 20) / 20, 0.05 + 0.9 * (i // 20) / 15, 0.06, 0.05) for i in range(300)]]


def test_focal_by_hand():
    # p = (1/4, 3/4), one label, gamma 2, weight 2: -2 (3/4)^2 ln(1/4)
    logits = torch.tensor([[0.0, torch.log(torch.tensor(3.0))]])
    got = softmax_focal_loss(logits, torch.tensor([[1.0, 0.0]]), torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(got, torch.tensor([2 * 0.5625 * 1.3862944]))


def test_focal_is_cross_entropy_without_focus_and_splits_between_labels():
    logits, labels = torch.randn(5, 4), torch.tensor([[1.0, 0, 1, 0]]).expand(5, 4)
    torch.testing.assert_close(
        softmax_focal_loss(logits, labels, gamma=0.0), F.cross_entropy(logits, labels / 2, reduction="none")
    )


def test_weighted_bce_by_hand():
    # p = 1/2 everywhere: -ln(1/2) a term; weights 1 and 3 over two rows, divided by the rows
    got = weighted_bce(torch.zeros(2, 2), torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(got, torch.tensor(8 * 0.6931472 / 2))


def test_gradients_against_finite_differences():
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0], [1, 1, 1, 0]], dtype=torch.float64)
    weights = torch.tensor([1.0, 2, 0.5, 1], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: softmax_focal_loss(x, labels, weights), logits)
    assert torch.autograd.gradcheck(lambda x: weighted_bce(x, labels * 0.7, weights), logits)


def test_labels_of_a_shared_box_are_multi_hot():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60], [0, 0, 0, 0]]])
    labels = torch.tensor([[[0.0], [2], [1], [0]]])
    valid = torch.tensor([[[1.0], [1], [1], [0]]])
    got = multi_hot_labels(labels, boxes, valid, 3)
    assert got[0].tolist() == [[1, 0, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(("yaml", "labels"), [("yolospine-n.yaml", [0, 2]), ("yolospine-onehot-n.yaml", [0])])
def test_stage_one_is_taught_both_labels_of_a_box_or_one(yaml, labels, truth_batch):
    m = model(yaml)
    loss, items = m(truth_batch(TWICE))
    loss[list(items).index("cls_loss")].backward()
    pull = sum(branch[-1].bias.grad for branch in m.model[-1].cv3)  # of the softmax's logits over all anchor points
    assert (pull < 0).nonzero()[:, 0].tolist() == labels


def test_regions_answer_for_every_class_over_its_threshold():
    truths = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 10]])
    labels, image = torch.eye(3), torch.tensor([0, 0, 1])
    regions = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [30, 30, 40, 40]])
    index = torch.tensor([0, 1, 0])
    match = match_regions(regions, index, truths, labels, image, torch.tensor([0.5, 0.4, 0.5]))
    assert match.tolist() == [[0, 1, -1], [-1, -1, 2], [-1, -1, -1]]
    strict = match_regions(regions, index, truths, labels, image, torch.tensor([0.5, 0.6, 0.5]))
    assert strict[0].tolist() == [0, -1, -1]  # class 1 overlaps by 0.5 only
    labels[0, 2] = 1  # the first ground truth teaches two classes
    assert match_regions(regions, index, truths, labels, image, torch.full((3,), 0.6))[0].tolist() == [0, -1, 0]


@pytest.mark.parametrize("label", [1, 2])
def test_classes_of_one_finding_are_taught_as_one(label, truth_batch):
    m = model(class_weights=torch.tensor([1.0, 2, 4]))
    head, together = m.model[-1], torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 1, 1]])
    head.relations.declare(no_facts(3)._replace(together=together))
    for branch in head.cv3:
        branch[-1].weight.data.zero_()  # all classes are as likely
    loss, items = m(truth_batch([[(label, 0.5, 0.5, 0.4, 0.3)]]))
    assert m.criterion.weights.tolist() == [1, 3, 3]
    loss[list(items).index("cls_loss")].backward(retain_graph=True)
    pull = sum(branch[-1].bias.grad for branch in head.cv3)
    assert (pull < 0).tolist() == [False, True, True]
    target = m.criterion.softmax_labels(torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1]]))
    assert target.tolist() == [[1, 0, 0], [1, 0.5, 0.5], [0, 0.5, 0.5]]  # one finding, two and one
    head.zero_grad()
    loss[list(items).index("mldr_box_loss")].backward()
    assert head.mldr.delta.bias.grad.view(3, 4).any(1).tolist() == [False, True, True]


def test_regions_include_truths_and_stay_with_their_image():
    truths = torch.tensor([[5.0, 5, 25, 15], [5, 5, 25, 15], [30, 30, 50, 40]])
    regions, index = sample_regions(torch.zeros(2, 100, 4), truths, torch.tensor([0, 0, 1]))
    for i, row in ((0, truths[0]), (1, truths[2])):
        mine = regions[index == i]
        assert (mine == row).all(1).sum() == 1  # findings with one box are one region
        assert (mine[:24] == 0).all()
        assert len(mine) == 24 + 1 + 2  # and two moved copies
    assert len(regions) == len(index)


def test_moved_copies_are_spread_as_said():
    torch.manual_seed(0)
    box = torch.tensor([[10.0, 20, 50, 30]])  # 40 x 10 around (30, 25)
    moved = sample_regions(torch.zeros(4000, 0, 4), box.repeat(4000, 1), torch.arange(4000))[0].view(4000, 3, 4)[:, 1:]
    centre, size = (moved[..., :2] + moved[..., 2:]) / 2, moved[..., 2:] - moved[..., :2]
    sides = torch.tensor([40.0, 10])
    for x, spread in (((centre - torch.tensor([30.0, 25])) / sides, 0.1), ((size / sides).log(), 0.15)):
        torch.testing.assert_close(x.mean((0, 1)), torch.zeros(2), atol=0.01, rtol=0)
        torch.testing.assert_close(x.std((0, 1)), torch.full((2,), spread), atol=0.005, rtol=0)


@pytest.mark.parametrize("yaml", ["yolospine-n.yaml", "yolospine-nomldr-n.yaml"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("truths", [[[], []], ONE, TWICE, CROWD], ids=["empty", "one", "twice", "300"])
def test_finite_loss_and_gradient_of_every_parameter(yaml, dtype, truths, truth_batch):
    m = model(yaml)
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        loss, items = m(truth_batch(truths))
    assert loss.isfinite().all() and all(v.isfinite() for v in items.values())
    loss.sum().backward()
    for name, p in m.named_parameters():
        if p.requires_grad and "dfl" not in name:
            assert p.grad is not None and p.grad.isfinite().all(), name
    if m.model[-1].__class__.__name__ == "SpineDetect":
        assert m.model[-1].mldr.score.weight.grad.abs().sum() > 0


def test_the_target_of_a_score_is_no_way_to_lower_it(truth_batch):
    """Overlaps that targets are made of carry no gradient: boxes would be spoilt to fit their scores."""
    m = model()
    loss, items = m(truth_batch(TWICE + ONE))
    delta = m.model[-1].mldr.delta.bias
    loss[list(items).index("mldr_cls_loss")].backward(retain_graph=True)
    assert delta.grad is None or not delta.grad.any()
    loss[list(items).index("mldr_box_loss")].backward()
    assert delta.grad.any()


def spied_refine(m, monkeypatch):
    """What stage 2 is given in the next loss: `boxes` and `counts`."""
    seen, refine = {}, m.model[-1].refine

    def spy(preds, boxes, index, counts, evidence):
        seen.update(boxes=boxes, counts=counts)
        return refine(preds, boxes, index, counts, evidence)

    monkeypatch.setattr(m.model[-1], "refine", spy)
    return seen


def test_stage_two_is_told_levels_in_training_too(truth_batch, monkeypatch):
    m = model()
    column = torch.tensor([[20.0, y, 40, y + 8] for y in (2, 14, 26, 38, 50)]).expand(2, 5, 4)  # of sure proposals
    stage_one = Proposals(column, torch.ones(2, 5), torch.zeros(2, 5, 3), torch.zeros(2, 5, dtype=torch.long))
    monkeypatch.setattr(m.model[-1], "propose", lambda preds: stage_one)
    seen = spied_refine(m, monkeypatch)
    m(truth_batch(TWICE))[0].sum().backward()
    assert seen["counts"].any()
    assert m.model[-1].mldr.order[0].weight.grad.any()


def test_regions_of_training_stay_in_the_image(truth_batch, monkeypatch):
    """Moved copies of boxes at the border leave it, and RoIAlign does not survive every box."""
    m, border = model(), [[(0, 0.1, 0.1, 0.2, 0.2), (1, 0.9, 0.9, 0.2, 0.2)]] * 20
    seen = spied_refine(m, monkeypatch)
    batch = truth_batch(border)
    m(batch)
    height, width = batch["img"].shape[2:]
    x1, y1, x2, y2 = seen["boxes"].unbind(1)
    assert min(x1.min(), y1.min()) >= 0 and x2.max() <= width and y2.max() <= height
    assert min((x2 - x1).min(), (y2 - y1).min()) > 0


GOLDEN = {
    "box_loss": 0.0676,
    "dfl_loss": 0.0405,
    "obj_loss": 0.3081,
    "cls_loss": 0.0026,
    "mldr_cls_loss": 1.4086,
    "mldr_box_loss": 0.5053,
}


def test_golden_values(truth_batch):
    """Seeded values of an untrained model: a change here is a change of the training."""
    _, items = model()(truth_batch(TWICE + ONE))
    assert {k: float(v) for k, v in items.items()} == pytest.approx(GOLDEN, rel=2e-2, abs=2e-4)


def test_class_weights_reach_both_stages(truth_batch):
    batch = truth_batch(ONE)
    _, plain = model()(batch)
    torch.manual_seed(0)
    m = model(class_weights=torch.tensor([1.0, 3.0, 1.0]))
    _, weighted = m(truth_batch(ONE))
    assert weighted["cls_loss"] == pytest.approx(3 * float(plain["cls_loss"]), rel=1e-3)
    assert weighted["mldr_cls_loss"] > plain["mldr_cls_loss"]
    assert weighted["obj_loss"] == pytest.approx(float(plain["obj_loss"]), rel=1e-4)


def test_validation_draws_the_same_regions_each_time_and_leaves_training_alone(truth_batch):
    batch, m = truth_batch(TWICE + ONE), model().eval()
    with torch.no_grad():
        state = torch.get_rng_state()
        first, second = (m.loss(batch, m(batch["img"]))[1] for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert torch.equal(torch.get_rng_state(), state)


def test_order_of_the_rows_in_a_batch_does_not_matter(truth_batch):
    batch = truth_batch([*TWICE, *ONE])
    m = model().eval()  # eval: no sampling noise in batch norm
    shuffled = batch | {k: batch[k].flip(0) for k in ("batch_idx", "cls", "bboxes")}
    torch.manual_seed(1)
    a = m.loss(batch, m(batch["img"]))[1]
    torch.manual_seed(1)
    b = m.loss(shuffled, m(batch["img"]))[1]
    for k in ("box_loss", "dfl_loss", "obj_loss", "cls_loss"):
        assert float(a[k]) == pytest.approx(float(b[k]), rel=1e-4)


def test_second_finding_of_one_box_is_learnt(truth_batch):
    """Of two findings with one box, a stock assigner teaches one; here the softmax is taught both."""
    m = model()
    opt = torch.optim.Adam(m.parameters(), 1e-2)
    for _ in range(30):
        loss, _ = m(truth_batch([TWICE[0]]))
        opt.zero_grad(), loss.sum().backward(), opt.step()
    preds = m(truth_batch([TWICE[0]])["img"])
    best = preds["obj"][0, 0].argmax()
    p = preds["cls"][0, :, best].softmax(0)
    assert p[0] > 0.3 and p[2] > 0.3 and p[1] < 0.2
