"""Cost: by hand, and the budget of the default model."""

import torch
from torch import nn

from yolospine_ultra.engine.cost import model_cost
from yolospine_ultra.engine.model import PluginDetectionModel
from yolospine_ultra.nn.area_attention import AreaAttention


def test_by_hand():
    # 3 x 3 convolution from 3 to 5 channels on 6 x 4 positions: 2 * 27 * 5 * 24 operations
    cost = model_cost(nn.Conv2d(3, 5, 3, padding=1), (6, 4))
    assert (cost.parameters, cost.flops) == (5 * 27 + 5, 2 * 27 * 5 * 24)


def test_attention_is_counted_and_falls_with_the_strips():
    def products(strip):
        whole = model_cost(AreaAttention(32, 2, strip), 16, channels=32).flops
        n, c = 256, 32
        convolutions = 2 * n * c * (3 * c + 49 + c)
        return whole - convolutions

    assert products(256) == 2 * 2 * 256**2 * 32  # q k and (q k) v
    assert products(64) * 4 == products(256)


def test_stage_two_is_counted_per_proposal():
    def flops(proposals):
        torch.manual_seed(0)
        model = PluginDetectionModel("yolospine-n.yaml", verbose=False)
        model.model[-1].proposals = proposals
        return model_cost(model, 128).flops

    few, more, most = flops(10), flops(20), flops(30)
    agreement = 2 * 6 * (30**2 - 2 * 20**2 + 10**2)  # each of six logits is averaged over all pairs; the rest is linear
    assert (most - more) - (more - few) == agreement < (more - few) / 1000


def test_default_model_is_within_its_budget():
    """The published table promises 25.9 M parameters ("33.5% fewer" of its own count) and 33.2 GFLOPs."""
    model = PluginDetectionModel("yolospine.yaml", nc=6, verbose=False)
    cost = model_cost(model, 384)
    assert cost.parameters <= 25.9e6 and cost.flops <= 33.2e9


def test_summary_reports_the_true_figure():
    model = PluginDetectionModel("yolospine-n.yaml", nc=6, verbose=False)
    assert model.info(imgsz=128)[3] == model_cost(model, 128).flops / 1e9
