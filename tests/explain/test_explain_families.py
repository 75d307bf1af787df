"""Every family on a small network: findings are those of prediction, gradients those of autograd, maps are specific."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from explained_models import NAMES, SIZE, build, images
from torchvision.ops import box_iou, roi_align
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import xywh2xyxy

pytest.importorskip("pytorch_grad_cam")
import pytorch_grad_cam

from yolospine_ultra.benchmark.families.segmentation import FAMILY, SegmentationDetector, make_network
from yolospine_ultra.explain.cam import METHODS, ClassIndependentError, NoEvidenceError, cell_maps, flatten, paint
from yolospine_ultra.explain.load import wrap
from yolospine_ultra.explain.model import STAGE1, STAGE2, Finding
from yolospine_ultra.explain.specificity import SAME, specific_map
from yolospine_ultra.nn.mldr import _widen
from yolospine_ultra.nn.order import order_in_column
from yolospine_ultra.postprocess.detections import select_detections

FAMILIES = [
    "yolov8n",
    "yolov10n",
    "yolo26n-nmsfree",
    "yolo11n-seg",
    "rtdetr",
    "masks",
    "yolospine-n",
    "yolospine-nomldr-n",
]
_MODELS = {}


def model_of(family):
    if family not in _MODELS:
        name = family.removesuffix("-nmsfree")
        _MODELS[family] = wrap(build(name), NAMES, SIZE, nms_free=family != name)
    return _MODELS[family]


def look(family):
    """The model, its scene and its findings in a random image."""
    model = model_of(family)
    scene = model.look(images())
    return model, scene, scene.found(0.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_are_of_one_class_and_one_box(family):
    model, scene, found = look(family)
    first = found[0]
    second = next(f for f in found if np.abs(f.box - first.box).max() > 2)
    for stage in model.stages:
        patches = {n: scene.patches(first, c, stage) for c, n in enumerate(NAMES)}
        elsewhere = scene.patches(second, first.category, stage)
        empty = []
        for method in METHODS:
            try:
                cells, about = specific_map(method, patches, NAMES[first.category])
            except NoEvidenceError:
                empty.append(method)
                continue
            assert about.difference > SAME and about.closest != NAMES[first.category]
            here = paint(cells, [p.region for p in patches["a"]], (SIZE, SIZE))
            there = paint(cell_maps(method, elsewhere), [p.region for p in elsewhere], (SIZE, SIZE))
            assert np.abs(here - there).max() > SAME and here.max() == 1
        assert "layercam" not in empty and len(empty) <= 1  # untrained networks may speak against what they find


@pytest.mark.parametrize("family", FAMILIES)
def test_the_finding_is_found_in_its_own_image_and_less_in_a_black_one(family):
    model, _, found = look(family)
    scores = model.scores(torch.cat([images(), images() * 0]), found[0])
    assert list(scores) == list(model.stages)
    for values in scores.values():
        assert values.shape == (2,) and values.min() >= 0 and values.max() <= 1
    whole, black = scores[model.stages[-1]]
    if family == "masks":
        x1, y1, x2, y2 = (int(v) for v in found[0].box)
        inside = model.module(images()).sigmoid()[0, found[0].category, y1:y2, x1:x2]
        assert whole == pytest.approx(float(inside.mean()), abs=1e-5)
    else:
        assert whole > found[0].score - 1e-4
    assert not torch.equal(whole, black)


@pytest.mark.parametrize("family", ["yolov8n", "yolov10n", "yolo11n-seg"])
def test_findings_of_yolo_are_those_of_the_hosts_suppression(family):
    model, _, found = look(family)
    with torch.no_grad():
        output = model.module(images())[0]
    output = output[0] if isinstance(output, tuple) else output
    expected = non_max_suppression(output, 0.0, 0.7, nc=3)[0]
    assert len(found) == len(expected)
    assert np.stack([f.box for f in found]) == pytest.approx(expected[:, :4].numpy(), abs=1e-3)
    assert [f.category for f in found] == expected[:, 5].tolist()
    assert [f.score for f in found] == pytest.approx(expected[:, 4].tolist(), abs=1e-5)


def test_findings_of_the_branch_without_suppression_are_the_hosts():
    model, _, found = look("yolo26n-nmsfree")
    with torch.no_grad():
        expected = model.module(images())[0][0]
    assert model.module.model[-1].end2end
    assert np.stack([f.box for f in found[:20]]) == pytest.approx(expected[:20, :4].numpy(), abs=1e-3)
    assert [f.category for f in found[:20]] == expected[:20, 5].tolist()


def test_findings_of_rtdetr_are_its_outputs():
    model, scene, found = look("rtdetr")
    with torch.no_grad():
        expected = model.module(images())[0][0]
    assert np.stack([f.box for f in found]) == pytest.approx(SIZE * xywh2xyxy(expected[:, :4]).numpy(), abs=1e-3)
    assert [f.category for f in found] == expected[:, 5].tolist()
    moved = model.look(images().flip(3))  # queries of another image: the one at the box is taken
    query = moved.query(found[0])
    own = torch.tensor(found[0].box)[None].float()
    assert box_iou(own, moved.boxes)[0, query] == box_iou(own, moved.boxes).max()
    assert scene.query(found[3]) == found[3].place


@pytest.mark.parametrize("family", ["yolospine-n", "yolospine-nomldr-n"])
def test_findings_of_yolospine_are_those_of_predict(family):
    model, scene, found = look(family)
    with torch.no_grad():
        output = model.module(images())[0]
    (expected,), _ = select_detections(output, conf=0.0, iou=0.7, max_det=300, suppression="gaussian", sigma=0.5)
    assert np.stack([f.box for f in found]) == pytest.approx(expected[:, :4].numpy(), abs=1e-3)
    assert [f.score for f in found] == pytest.approx(expected[:, 4].tolist(), abs=1e-5)
    for f in found[:20]:  # stage 1 is explained at the anchor point that proposed the region
        if f.region is not None:
            assert scene.boxes[f.place].clamp(0, SIZE).numpy() == pytest.approx(f.region, abs=1e-3)


def test_stage_1_of_yolo_agrees_with_the_whole_call_of_the_library():
    _, scene, found = look("yolov8n")
    finding = next(f for f in found if f.place < 64)  # an anchor point of the finest level, which module 15 gives
    raw = build("yolov8n").requires_grad_(True)

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = raw

        def forward(self, x):
            return self.net(x)[1]["scores"]

    for method, name in METHODS.items():
        target = [lambda output: output[finding.category, finding.place]]
        expected = getattr(pytorch_grad_cam, name)(Logits(), [raw.model[15]])(images(), target)[0]
        cells = cell_maps(method, scene.patches(finding, finding.category, STAGE1))
        laid = paint(cells, [(0, 0, SIZE, SIZE)], (SIZE, SIZE))
        assert (laid - laid.min()) / (1 - laid.min()) == pytest.approx(expected, abs=1e-3), method


def test_stage_1_of_yolospine_is_a_class_against_the_background():
    model, scene, found = look("yolospine-n")
    finding = found[0]
    head = model.head
    feats = [f.detach().requires_grad_() for f in scene.leaves]
    logits = [
        branch[2](branch[1](branch[0](f))) - background(box[1](box[0](f)))
        for branch, background, box, f in zip(head.cv3, head.background, head.cv2, feats, strict=True)
    ]
    score = torch.cat([x.flatten(2) for x in logits], 2)[0, finding.category, finding.place]
    level = int(np.searchsorted(np.cumsum([f[0, 0].numel() for f in feats]), finding.place, side="right"))
    (expected,) = torch.autograd.grad(score, [feats[level]])
    (got,) = scene.patches(finding, finding.category, STAGE1)
    assert got.gradients == pytest.approx(expected[0].numpy(), abs=1e-6) and np.abs(got.gradients).max() > 0


def test_stage_2_agrees_with_its_own_computation():
    """MLDR once more, from its parts: RoIAlign of the merged map over the proposal and the region twice as wide."""
    model, scene, found = look("yolospine-n")
    finding, mldr = found[0], model.head.mldr
    preds = {k: [x.detach() for x in v] if isinstance(v, list) else v.detach() for k, v in scene.preds.items()}
    box = torch.tensor(finding.region)[None]
    merged = mldr.merge(preds["feats"], preds["towers"])
    rois = [torch.cat((torch.zeros(1, 1), b), 1) for b in (box, _widen(box))]
    stride = float(model.head.stride[0])
    crops = torch.cat([roi_align(merged, r, 7, 1 / stride, 1, True) for r in rois], 1).detach().requires_grad_()
    index = torch.zeros(1, dtype=torch.long)
    x = mldr.embed(mldr.region(crops).flatten(1))
    x = F.silu(x + mldr.order(order_in_column(box, index, scene.proposals.boxes, scene.proposals.objectness) / 4))
    logit = mldr.score(x + F.silu(mldr.mix(x)))[0, finding.category]
    (gradient,) = torch.autograd.grad(logit, [crops])
    tight, wide = scene.patches(finding, finding.category, STAGE2)
    depth = crops.shape[1] // 2
    for got, channels in ((tight, slice(None, depth)), (wide, slice(depth, None))):
        assert got.activations == pytest.approx(crops.detach()[0, channels].numpy(), abs=1e-5)
        assert got.gradients == pytest.approx(gradient[0, channels].numpy(), abs=1e-6)
    assert tight.region == pytest.approx(finding.region) and wide.region == pytest.approx(_widen(box)[0].numpy())
    # GradCAM by hand: the mean gradient of each channel weighs it
    weights = gradient[0, :depth].mean((1, 2))
    by_hand = F.relu((weights[:, None, None] * crops.detach()[0, :depth]).sum(0)).numpy()
    assert cell_maps("gradcam", [tight])[0] == pytest.approx(by_hand, abs=1e-6)


def test_masks_are_scored_by_the_mean_logit_in_the_box():
    model, scene, found = look("masks")
    x1, y1, x2, y2 = (int(v) for v in found[0].box)
    net = model.module.net
    features = net.decoder(net.encoder(images())).detach().requires_grad_()
    logits = net.segmentation_head(features)[0, found[0].category, y1:y2, x1:x2]
    (expected,) = torch.autograd.grad(logits.sum() / ((x2 - x1) * (y2 - y1)), [features])
    (got,) = scene.patches(found[0], found[0].category, STAGE1)
    assert got.gradients == pytest.approx(expected[0].numpy(), abs=1e-7)


@pytest.mark.skipif(any(find_spec(p) is None for p in FAMILY.packages), reason="needs the extra [bench]")
@pytest.mark.parametrize(
    "network",
    [
        {"network": "Unet", "encoder": "resnet18", "arguments": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}},
        {
            "network": "TransUNet",
            "encoder": "vit_base_r50_s16_384",
            "arguments": {"depth": 1, "embed_dim": 48, "num_heads": 2},
        },
    ],
    ids=lambda n: n["network"],
)
def test_networks_of_the_benchmark_end_with_the_layer_that_classifies(network):
    torch.manual_seed(0)
    net = make_network(network, 3, SIZE, 3)
    model = wrap(SegmentationDetector(net, 3), NAMES, SIZE)
    finding = Finding(np.array([8.0, 8, 24, 20]), 1, 0.5)
    scene = model.look(images())
    patches = {n: scene.patches(finding, c, STAGE1) for c, n in enumerate(NAMES)}
    assert patches["a"][0].activations.shape == (net.decoder.blocks[-1].conv2[0].out_channels, SIZE, SIZE)
    assert specific_map("layercam", patches, "b")[1].difference > SAME
    assert list(model.cascade())[-1] == "encoder"


def test_a_layer_of_ones_own_is_explained():
    model = wrap(build("yolov8n"), NAMES, SIZE, layer="model.9")  # the backbone's end
    scene = model.look(images())
    finding = scene.found(0.0)[0]
    patches = {n: scene.patches(finding, c, STAGE1) for c, n in enumerate(NAMES)}
    assert patches["a"][0].activations.shape[1:] == (2, 2)
    assert specific_map("gradcam++", patches, NAMES[finding.category])[1].difference > SAME


@pytest.mark.parametrize(("family", "layer"), [("yolov8n", "model.22.cv2.0.1"), ("yolospine-n", "model.18.cv2.0.1")])
def test_a_layer_that_no_class_passes_through_is_refused(family, layer):
    """The branch of boxes: without gradient in a stock head, with that of objectness for all classes alike in DDE."""
    model = wrap(build(family), NAMES, SIZE, layer=layer)
    scene = model.look(images())
    finding = next(f for f in scene.found(0.0) if f.place < 64)
    patches = {n: scene.patches(finding, c, STAGE1) for c, n in enumerate(NAMES)}
    for method in METHODS:
        with pytest.raises(ClassIndependentError):
            specific_map(method, patches, NAMES[finding.category])
    if family == "yolospine-n":
        assert flatten(cell_maps("layercam", patches["a"])).any()  # it would have been a picture


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "model.99"}, "no module 'model.99'"),
        ({"layer": "model.0.act"}, "runs [0-9]+ times"),
        ({"layer": "model.22"}, "no map of features"),
        ({"nms_free": True}, "no branch without suppression"),
    ],
)
def test_arguments_that_do_not_fit_the_network_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        wrap(build("yolov8n"), NAMES, SIZE, **arguments).look(images())


def test_networks_of_no_known_family_are_refused():
    class Other(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = torch.nn.Sequential(torch.nn.Linear(2, 2))

    with pytest.raises(ValueError, match="Linear at its end cannot be explained"):
        wrap(Other(), NAMES, SIZE)
    with pytest.raises(ValueError, match="for YOLOv10 and YOLO26"):
        wrap(build("masks"), NAMES, SIZE, nms_free=True)
