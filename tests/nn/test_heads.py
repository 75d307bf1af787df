"""DDE, MLDR and the two-stage head: the contracts of design and paper."""

import math

import pytest
import torch
from torchvision.ops import box_iou, roi_align
from ultralytics.utils.ops import xywh2xyxy

from yolospine_ultra.data.relations import Relations, fit_relations
from yolospine_ultra.engine.model import PluginDetectionModel
from yolospine_ultra.nn.dde import DDEDetect
from yolospine_ultra.nn.mldr import MLDR, _widen
from yolospine_ultra.nn.order import order_in_column
from yolospine_ultra.nn.proposals import agree
from yolospine_ultra.nn.relations import no_facts
from yolospine_ultra.nn.spine_detect import SpineDetect

STRIDES = (8, 16, 32)


def head(nc=4, size=64, channels=(16, 24, 32), **kwargs):
    """A head with its strides set, in evaluation mode, and random feature maps for two images."""
    torch.manual_seed(0)
    h = SpineDetect(nc, proposals=kwargs.pop("proposals", 20), dim=16, hidden=24, ch=channels, **kwargs)
    h.stride = torch.tensor(STRIDES, dtype=torch.float32)
    h.bias_init()
    return h.eval(), [torch.randn(2, c, size // s, size // s) for c, s in zip(channels, STRIDES, strict=True)]


def perfect_stage_one(boxes, size=64, reg_max=16):
    """Raw predictions of a stage 1 that knows the boxes: the anchor point next to each centre gives it exactly."""
    a = sum((size // s) ** 2 for s in STRIDES)
    raw = torch.full((1, 4 * reg_max, a), -20.0)
    raw[:, ::reg_max] = 20.0  # all other anchor points: a box of no size
    obj = torch.full((1, 1, a), -20.0)
    for box in boxes:
        cell = ((box[:2] + box[2:]) / 2 // STRIDES[0]).long()
        index = int(cell[1] * (size // STRIDES[0]) + cell[0])
        centre = (cell + 0.5) * STRIDES[0]
        for side, distance in enumerate(torch.cat((centre - box[:2], box[2:] - centre)) / STRIDES[0]):
            low = int(distance)
            share = float(distance) - low
            raw[0, side * reg_max : (side + 1) * reg_max, index] = -50.0
            raw[0, side * reg_max + low, index] = math.log(max(1 - share, 1e-9))
            raw[0, side * reg_max + low + 1, index] = math.log(max(share, 1e-9))
        obj[0, 0, index] = 20.0
    return {"boxes": raw, "obj": obj, "cls": torch.zeros(1, 4, a)}


def test_perfect_stage_one_gives_proposals_of_iou_one():
    truth = torch.tensor([[3.0, 5, 30, 17], [20, 30, 61, 47.5], [40, 2, 55, 12]])
    h, feats = head(proposals=3)
    preds = perfect_stage_one(truth) | {"feats": [f[:1] for f in feats]}
    found = h.propose(preds)
    assert box_iou(truth, found.boxes[0]).amax(1).min() > 1 - 1e-4
    assert found.objectness.min() > 0.99
    torch.testing.assert_close(found.evidence, torch.tensor(1 / 4).logit().expand(1, 3, 4))


def test_scores_of_stage_one_are_a_softmax_over_the_classes_and_the_background():
    h, feats = head(nc=3)
    for layer in (*h.background, *(branch[-1] for branch in h.cv3)):
        torch.nn.init.normal_(layer.weight, std=0.5)
    preds = h.dense(feats)
    towers = [branch[1](branch[0](f)) for branch, f in zip(h.cv2, feats, strict=True)]
    background = torch.cat([layer(t).flatten(2) for layer, t in zip(h.background, towers, strict=True)], 2)
    expected = torch.cat((preds["cls"], background), 1).softmax(1)
    torch.testing.assert_close(DDEDetect.scores(preds), expected[:, :3])
    torch.testing.assert_close(preds["obj"].sigmoid(), 1 - expected[:, 3:])


def test_a_class_is_taught_by_objectness_where_it_is_likely():
    """What tells a rare class from everything else has to reach objectness, or stage 2 never sees its regions."""
    h, feats = head(nc=3)
    rare = h.cv3[0][-1].bias
    rare.data[2] = 4.0
    h.dense(feats)["obj"][:, :, 0].sum().backward()
    assert rare.grad[2] > 0.8 * len(feats[0]) and rare.grad.sum() == pytest.approx(len(feats[0]), rel=1e-4)


def test_a_checkpoint_whose_objectness_was_an_output_by_itself_is_refused(tmp_path):
    h, _ = head()
    h.obj = h.background
    del h.background
    torch.save(h, tmp_path / "old.pt")
    with pytest.raises(RuntimeError, match="Train the model again"):
        torch.load(tmp_path / "old.pt", weights_only=False)


def test_output_contract_one_score_a_column():
    h, feats = head(nc=4, proposals=20)
    y, preds = h(feats)
    assert y.shape == (2, 4 + 4, 20 * 4) and preds["obj"].shape == (2, 1, 84)
    assert ((y[:, 4:] > 0).sum(1) <= 1).all() and y[:, 4:].max() <= 1 and y.isfinite().all()
    assert [int(c) for c in y[0, 4:, :8].argmax(0)] == [0, 1, 2, 3] * 2  # column k * C + c belongs to class c


def test_a_proposal_carries_several_labels_with_a_box_each():
    h, feats = head(nc=3, proposals=5)
    torch.nn.init.normal_(h.mldr.delta.weight, std=0.5)
    torch.nn.init.constant_(h.mldr.score.bias, 3.0)
    y = h(feats)[0]
    boxes = xywh2xyxy(y[0, :4].T).view(5, 3, 4)
    assert (y[0, 4:].amax(0).view(5, 3) > 0).all()
    assert (boxes[:, 0] - boxes[:, 1]).abs().amax(1).min() > 1e-3


def test_scores_join_both_stages_and_the_proposals_of_an_object():
    h, feats = head(nc=3)
    torch.nn.init.normal_(h.mldr.score.weight, std=1.0)
    h.relations.declare(fit_relations([], Relations(1, []), 3))
    h.relations.credibility.fill_(0.7)
    y, preds = h(feats)
    found = h.propose(preds)
    boxes, objectness, evidence, _ = (x[1] for x in found)
    index = torch.ones(20, dtype=torch.long)
    counts = order_in_column(boxes, index, found.boxes, found.objectness)
    logits, refined = h.refine(preds, boxes, index, counts, evidence)
    both, duplicates = 0.7 * logits + 0.3 * evidence, box_iou(boxes, boxes) >= 0.5
    assert duplicates.sum() > 20  # some are of one object
    agreed = torch.stack([(both[d] * objectness[d, None]).sum(0) / objectness[d].sum() for d in duplicates])
    expected = (objectness[:, None] * h.relations(agreed, counts)).sqrt()
    torch.testing.assert_close(y[1, 4:].amax(0).view(20, 3), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(xywh2xyxy(y[1, :4].T).view(20, 3, 4), refined, atol=1e-3, rtol=1e-4)


def test_autocast_joins_the_stages_in_single_precision(monkeypatch):
    h, feats = head(nc=3)
    preds = h(feats)[1]
    logits, refined = torch.randn(40, 3) + 5, torch.rand(40, 3, 4)
    monkeypatch.setattr(h, "refine", lambda *_: (logits, refined))
    expected = h.infer(preds)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(h.infer(preds), expected)


def test_stage_two_changes_the_predictions():
    h, feats = head(nc=3)
    before = h(feats)[0]
    torch.nn.init.normal_(h.mldr.delta.weight, std=0.5)
    after = h(feats)[0]
    assert (before - after).abs().max() > 1


@pytest.mark.parametrize("yaml", ["yolospine-n.yaml", "yolospine-nomldr-n.yaml", "yolospine-v33-n.yaml"])
def test_an_image_alone_and_in_a_batch(yaml):
    torch.manual_seed(0)
    # in float32 proposals of almost equal objectness may change places, as on a processor of another generation
    model = PluginDetectionModel(yaml, nc=6, verbose=False).eval().double()
    x = torch.rand(3, 3, 96, 96, dtype=torch.float64)
    together = model(x)[0]
    for i in range(3):
        alone = model(x[i : i + 1])[0][0]
        torch.testing.assert_close(together[i], alone, atol=1e-5, rtol=1e-5)


def test_same_input_same_output():
    h, feats = head()
    assert torch.equal(h(feats)[0], h(feats)[0])


def test_more_proposals_than_anchor_points_is_no_error():
    h, feats = head(proposals=500)
    assert h(feats)[0].shape[-1] == 84 * 4


def test_garbage_input_gives_finite_proposals():
    h, feats = head()
    feats = [torch.full_like(f, float("nan")) for f in feats]
    assert all(x.isfinite().all() for x in h.propose(h.dense(feats)))
    h(feats)  # and RoIAlign survives it


def test_thresholds_are_one_or_one_a_class():
    with pytest.raises(ValueError, match="one value or one a class, 4, from 0 to 1, but is"):
        head(nc=4, match_iou=[0.5, 0.4])
    assert head(nc=2, match_iou=[0.5, 0.4])[0].match_iou == [0.5, 0.4]


def test_mldr_reads_region_surroundings_and_stage_one():
    torch.manual_seed(0)
    feats = [torch.randn(1, c, 64 // s, 64 // s) for c, s in ((8, 8), (8, 16), (8, 32))]
    towers = [torch.randn(1, 4, 64 // s, 64 // s) for s in (8, 16, 32)]
    m = MLDR(3, (8, 8, 8), 4, dim=8, hidden=16).eval()
    box, image = torch.tensor([[0.0, 0, 24, 24]]), torch.zeros(1, dtype=torch.long)
    counts, evidence = torch.zeros(1, 2), torch.zeros(1, 3)
    logits = m(feats, towers, box, image, counts, evidence, 8.0)[0]

    def moved(level, where, source):
        f, t = [x.clone() for x in feats], [x.clone() for x in towers]
        (f if source == "feats" else t)[level][..., where, where] += 5
        return (m(f, t, box, image, counts, evidence, 8.0)[0] - logits).abs().max()

    assert moved(0, 1, "feats") > 1e-5 and moved(0, 1, "towers") > 1e-5  # inside the region
    assert moved(0, 3, "feats") > 1e-5  # just outside it: the wide region
    assert moved(2, 1, "feats") > 1e-5  # the coarsest level
    assert moved(0, 7, "feats") == 0  # far corner of the finest level
    below = torch.tensor([[0.0, 1]])  # one more object
    assert (m(feats, towers, box, image, below, evidence, 8.0)[0] - logits).abs().max() > 1e-5


@pytest.mark.parametrize("form", ["training", "evaluation", "fused"])
def test_regions_are_convolved_as_crops_side_by_side(form):
    """The first convolution of a region comes before RoIAlign; by torchvision and the module itself it comes after."""
    torch.manual_seed(0)
    model = PluginDetectionModel("yolospine-n.yaml", nc=3, verbose=False).train(form == "training")
    m = model.model[-1].mldr
    m.dropout.p = 0.0
    m.region[0].bn.running_mean.normal_(), m.region[0].bn.running_var.uniform_(0.5, 2)
    feats = [torch.randn(2, c, 64 // s, 64 // s) for c, s in zip((64, 128, 256), STRIDES, strict=True)]
    towers = [torch.randn(2, 64, 64 // s, 64 // s) for s in STRIDES]
    if form == "fused":
        model.fuse(verbose=False)
        assert m.region[0].conv.bias is not None
    boxes = torch.tensor([[0.0, 0, 24, 24], [30, 20, 64, 50], [10, 40, 20, 64]])  # at the edges too
    index, counts, evidence = torch.tensor([0, 1, 1]), torch.rand(3, 2), torch.rand(3, 3)
    wide = torch.tensor([[-12.0, -12, 36, 36], [13, 5, 81, 65], [5, 28, 25, 76]])
    merged = m.merge(feats, towers)
    rois = [torch.cat((index[:, None].float(), b), 1) for b in (boxes, wide)]
    x = m.region(torch.cat([roi_align(merged, r, 7, 1 / 8, 1, True) for r in rois], 1))
    x = torch.nn.functional.silu(m.embed(x.flatten(1)) + m.order(counts / 4))
    x = x + torch.nn.functional.silu(m.mix(x))
    logits, deltas = m(feats, towers, boxes, index, counts, evidence, 8.0)
    torch.testing.assert_close(logits, m.score(x) + m.trust * evidence, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(deltas, m.delta(x).unflatten(1, (3, 4)), atol=1e-5, rtol=1e-5)


def test_without_order_the_other_objects_do_not_matter_to_a_region():
    h, feats = head(order=False)
    preds = h.dense(feats)
    region, image = torch.tensor([[8.0, 8, 40, 24]]), torch.zeros(1, dtype=torch.long)
    few, many = (h.refine(preds, region, image, torch.full((1, 2), n), torch.ones(1, 4)) for n in (0.0, 5.0))
    assert all(torch.equal(a, b) for a, b in zip(few, many, strict=True))


def test_scores_of_stage_two_start_from_stage_one():
    h, feats = head(nc=3)
    for p in (h.mldr.score.weight, h.mldr.score.bias):
        torch.nn.init.zeros_(p)
    y, preds = h(feats)
    found = h.propose(preds)
    torch.testing.assert_close(found.evidence.sigmoid().sum(2), torch.ones(2, 20))  # of one label, until stage 2 learns
    classes = agree(found.evidence, found.boxes, found.objectness).sigmoid()
    expected = (found.objectness[..., None] * classes).sqrt()
    torch.testing.assert_close(y[:, 4:].amax(1).view(2, 20, 3), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("nc", [1, 2])
def test_one_class_or_one_finding_gives_no_evidence(nc):
    h, feats = head(nc=nc)
    h.relations.declare(no_facts(nc)._replace(together=torch.ones(nc, nc)))
    assert h.propose(h.dense(feats)).evidence.abs().max() < 1e-6


def test_proposals_carry_no_gradient():
    """Stage 2 does not teach stage 1 what to propose, nor what to say about it."""
    h, feats = head()
    preds = h.dense([f.requires_grad_() for f in feats])
    assert preds["obj"].requires_grad
    assert not any(x.requires_grad for x in h.propose(preds))


@pytest.mark.parametrize("match_iou", [1.5, [0.5, 0.5, -0.1, 0.5]])
def test_thresholds_that_mean_nothing_are_refused(match_iou):
    with pytest.raises(ValueError, match="from 0 to 1"):
        head(match_iou=match_iou)
    assert head(match_iou=1)[0].match_iou == [1] * 4  # a whole number of a YAML is one, too


@pytest.mark.parametrize("size", [64, 96])
def test_whole_model_compiles_to_one_graph_and_exports(size):
    """No value is read back on the way: that would break the graph, and wait for a GPU in every step."""
    m = PluginDetectionModel("yolospine-n.yaml", verbose=False).eval()
    x = torch.rand(1, 3, size, size)
    m(x)  # anchor points are kept from here on
    expected = m(x)[0]
    torch._dynamo.reset()
    compiled = torch.compile(m, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x)[0], expected, atol=1e-6, rtol=0)
        program = torch.export.export(m, (x,), strict=False)
        torch.testing.assert_close(program.module()(x)[0], expected, atol=1e-6, rtol=0)


def test_scores_of_stage_one_are_there_as_logits_for_the_host():
    h, feats = head(nc=3)
    preds = h(feats)[1]
    torch.testing.assert_close(preds["scores"].sigmoid(), h.scores(preds), atol=2e-6, rtol=1e-4)


def test_weights_follow_their_class_by_name_in_both_stages():
    source, target = (PluginDetectionModel("yolospine-n.yaml", nc=n, verbose=False) for n in (3, 4))
    source.names, target.names = {0: "a", 1: "b", 2: "c"}, {0: "c", 1: "new", 2: "A ", 3: "b"}
    before = {k: v.clone() for k, v in target.state_dict().items()}
    target.load(source, verbose=False)
    theirs, ours = source.model[-1].mldr.state_dict(), target.model[-1].mldr.state_dict()
    for key in target.model[-1].mldr.class_rows:
        given, own = theirs[key].view(3, -1), ours[key].view(4, -1)
        assert torch.equal(own[[0, 2, 3]], given[[2, 0, 1]]), key
        assert torch.equal(own[1], before[f"model.{len(target.model) - 1}.mldr.{key}"].view(4, -1)[1]), key
    assert torch.equal(target.model[-1].cv3[0][-1].weight[0], source.model[-1].cv3[0][-1].weight[2])
    same = PluginDetectionModel("yolospine-n.yaml", nc=3, verbose=False)
    same.names = dict(source.names)
    same.load(source, verbose=False)
    assert torch.equal(same.model[-1].mldr.score.weight, source.model[-1].mldr.score.weight)


def test_classes_may_share_a_box_and_its_weights_then_follow_no_class():
    h, feats = head(nc=4, class_boxes=False)
    boxes = h(feats)[0][:, :4].transpose(1, 2).view(2, 20, 4, 4)
    assert torch.equal(boxes, boxes[:, :, :1].expand_as(boxes)) and h.mldr.delta.out_features == 4
    own, feats = head(nc=4)
    torch.nn.init.normal_(own.mldr.delta.weight)
    boxes = own(feats)[0][:, :4].transpose(1, 2).view(2, 20, 4, 4)
    assert not torch.equal(boxes, boxes[:, :, :1].expand_as(boxes))
    source, target = (PluginDetectionModel("yolospine-onebox-n.yaml", nc=n, verbose=False) for n in (3, 2))
    source.names, target.names = {0: "a", 1: "b", 2: "c"}, {0: "c", 1: "a"}
    target.load(source, verbose=False)
    theirs, ours = source.model[-1].mldr, target.model[-1].mldr
    assert torch.equal(ours.delta.weight, theirs.delta.weight)
    assert torch.equal(ours.score.weight, theirs.score.weight[[2, 0]])
    for yaml in ("yolospine-n.yaml", "yolospine-onebox-n.yaml"):  # from one kind to the other, boxes start anew
        kinds = {"yolospine-n.yaml": "yolospine-onebox-n.yaml", "yolospine-onebox-n.yaml": "yolospine-n.yaml"}
        source, target = (PluginDetectionModel(y, nc=n, verbose=False) for y, n in ((yaml, 3), (kinds[yaml], 2)))
        source.names, target.names = {0: "a", 1: "b", 2: "c"}, {0: "c", 1: "a"}
        before = target.model[-1].mldr.delta.weight.clone()
        target.load(source, verbose=False)
        assert torch.equal(target.model[-1].mldr.score.weight, source.model[-1].mldr.score.weight[[2, 0]])
        assert torch.equal(target.model[-1].mldr.delta.weight, before)


def test_widened_region():
    assert _widen(torch.tensor([[10.0, 10, 20, 30]])).tolist() == [[5, 0, 25, 40]]


def test_one_class_is_a_column_a_proposal():
    h, feats = head(nc=1)
    assert h(feats)[0].shape == (2, 5, 20)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_of_half_precision_finds_the_same(dtype):
    torch.manual_seed(0)
    model = PluginDetectionModel("yolospine-n.yaml", nc=3, verbose=False).eval()
    pair = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]])
    model.model[-1].relations.declare(no_facts(3)._replace(normal=torch.tensor([0.0, 1, 0]), together=pair))
    x = torch.rand(1, 3, 96, 96)
    single, half = model(x)[0], model.to(dtype)(x.to(dtype))[0]
    assert half.isfinite().all()
    torch.testing.assert_close(half[:, 4:].amax(2).float(), single[:, 4:].amax(2), atol=0.02, rtol=0.1)


def test_one_overflow_in_stage_two_spoils_nothing_else():
    h, feats = head(nc=3)
    clean = h(feats)[0][0, 4:].amax(0).view(20, 3)
    refine = h.refine

    def broken(*args):
        logits, boxes = refine(*args)
        logits[19] = float("nan")
        return logits, boxes

    h.refine = broken
    y = h(feats)[0]
    assert y.isfinite().all()
    preds = h.dense(feats)
    alone = box_iou(h.propose(preds).boxes[0][19:], h.propose(preds).boxes[0])[0] < 0.5
    torch.testing.assert_close(y[0, 4:].amax(0).view(20, 3)[alone], clean[alone])
