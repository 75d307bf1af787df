"""What runs on a CUDA GPU: the same figures as on the CPU, and the stock commands with `device=0`."""

import copy

import pytest
import torch
from conftest import SMALL, command, run
from ultralytics import YOLO
from ultralytics.utils import DEFAULT_CFG

from yolospine_ultra.engine.model import PluginDetectionModel
from yolospine_ultra.nn.mldr import MLDR
from yolospine_ultra.postprocess.detections import select_detections

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
TRUTHS = [[(0, 0.5, 0.5, 0.4, 0.3), (2, 0.5, 0.5, 0.4, 0.3)], [], [(1, 0.3, 0.4, 0.4, 0.3)]]


@pytest.fixture(autouse=True)
def exact():
    """Products and convolutions in float32: TF32 has three digits."""
    parts = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [p.allow_tf32 for p in parts]
    for p in parts:
        p.allow_tf32 = False
    yield
    for p, value in zip(parts, before, strict=True):
        p.allow_tf32 = value


def twins():
    """A model on the CPU, and its copy on the GPU."""
    torch.manual_seed(0)
    model = PluginDetectionModel("yolospine-n.yaml", nc=3, verbose=False).eval()
    model.args = DEFAULT_CFG
    return model, copy.deepcopy(model).cuda()


@pytest.mark.parametrize("fuse", [False, True])
def test_the_network_says_the_same(fuse):
    both = [m.fuse(verbose=False) if fuse else m for m in twins()]
    x = torch.rand(2, 3, 96, 128)
    with torch.no_grad():
        here, there = both[0](x)[0], both[1](x.cuda())[0].cpu()
    # scores in their order: proposals of almost equal objectness may change places
    pick = [y.transpose(1, 2).flatten(0, 1) for y in (here, there)]
    rows = [p[p[:, 4:].sum(1).argsort(descending=True)] for p in pick]
    torch.testing.assert_close(rows[1][:, 4:].amax(1), rows[0][:, 4:].amax(1), atol=1e-4, rtol=1e-3)


def test_losses_of_stage_one_are_the_same(truth_batch):
    batch, found = truth_batch(TRUTHS), []
    for m in twins():
        device = next(m.parameters()).device
        here = {k: v.to(device) for k, v in batch.items()}
        items = m.loss(here, m(here["img"]))[1]
        found.append({k: float(v) for k, v in items.items() if not k.startswith("mldr")})  # whose regions are drawn
    assert len(found[0]) == 4 and found[1] == pytest.approx(found[0], rel=1e-3, abs=1e-5)


def test_stage_two_and_its_gradients_are_the_same():
    torch.manual_seed(0)
    head = MLDR(5, (16, 24, 32), 8, dim=16, hidden=24).eval()
    feats = [torch.randn(2, c, 64 // s, 64 // s) for c, s in zip((16, 24, 32), (1, 2, 4), strict=True)]
    towers = [torch.randn(2, 8, 64 // s, 64 // s) for s in (1, 2, 4)]
    corners = torch.rand(40, 2) * 200
    boxes = torch.cat((corners, corners + 20 + 200 * torch.rand(40, 2)), 1).clamp(max=512)
    rest = (torch.arange(40) % 2, torch.randint(0, 6, (40, 2)), torch.randn(40, 5))
    found = []
    for device in ("cpu", "cuda"):
        m = copy.deepcopy(head).to(device)
        inputs = [x.clone().to(device).requires_grad_() for x in (*feats, *towers)]
        score, delta = m(inputs[:3], inputs[3:], boxes.to(device), *(x.to(device) for x in rest), 8.0)
        (score.square().sum() + delta.square().sum()).backward()
        found.append(
            [x.detach().cpu() for x in (score, delta, *(i.grad for i in inputs), *(p.grad for p in m.parameters()))]
        )
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there, here, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("suppression", ["gaussian", "linear", "hard"])
def test_suppression_is_the_same(suppression):
    torch.manual_seed(0)
    centres = torch.randint(60, 400, (8, 2)).float()[torch.arange(300) % 8] + 8 * torch.randn(300, 2)
    prediction = torch.cat((centres, 30 + 60 * torch.rand(300, 2), torch.rand(300, 4)), 1).T[None]
    arguments = {"conf": 0.1, "iou": 0.5, "max_det": 300, "suppression": suppression, "sigma": 0.5}
    here, there = (select_detections(prediction.to(d), **arguments)[0][0].cpu() for d in ("cpu", "cuda"))
    torch.testing.assert_close(there, here)


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """Weights of a training on the GPU by the stock command, with the host's mixed precision and determinism."""
    out = tmp_path_factory.mktemp("cuda")
    words = {**SMALL, "device": 0, "amp": True, "epochs": 20, "model": "yolospine-n.yaml", "data": tiny, "project": out}
    done = run([command("yolo"), "train", *(f"{k}={v}" for k, v in words.items()), "name=run", "lr0=0.003"], out)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out / "run" / "weights" / "last.pt"


def test_a_training_on_the_gpu_predicts_anywhere(trained, tiny):
    images = sorted((tiny.parent / "images" / "val").glob("*.png"))
    found = []
    for device in ("cpu", 0):
        results = YOLO(trained).predict(images, device=device, conf=0.01, imgsz=64, verbose=False)
        found.append([r.boxes.data.cpu() for r in results])
    assert sum(map(len, found[0])) > 0
    for here, there in zip(*found, strict=True):
        # by score: equal scores may change places, and what is at the threshold may be on either side of it
        n = min(len(here), len(there))
        assert abs(len(here) - len(there)) <= 0.02 * n + 1
        torch.testing.assert_close(there[:n, 4], here[:n, 4], atol=2e-3, rtol=0)


def test_the_validator_measures_the_same(trained, tiny):
    found = [YOLO(trained).val(data=tiny, device=d, imgsz=64, plots=False, verbose=False).box.map for d in ("cpu", 0)]
    assert found[1] == pytest.approx(found[0], abs=0.01)


@pytest.mark.parametrize("precision", ["half", "bf16"])
def test_mixed_precision_predicts_finite_boxes(trained, tiny, precision):
    model = YOLO(trained).model.eval().cuda()
    x = torch.rand(2, 3, 64, 64, device="cuda")
    with torch.no_grad(), torch.autocast("cuda", torch.float16 if precision == "half" else torch.bfloat16):
        y = model(x)[0]
    assert y.isfinite().all() and y[:, 4:].max() > 0
