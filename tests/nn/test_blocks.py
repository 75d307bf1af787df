"""The building blocks: shapes, and each against an independent statement of what it computes."""

import math

import pytest
import torch
from torch.nn import functional as F

from yolospine_ultra.nn.area_attention import A2, AreaAttention
from yolospine_ultra.nn.dense_c2f import ChannelNorm, DenseC2f
from yolospine_ultra.nn.gelan import GELAN
from yolospine_ultra.nn.relan import RELAN


@pytest.mark.parametrize("block", [GELAN, RELAN, A2, DenseC2f])
@pytest.mark.parametrize(("c1", "c2"), [(32, 32), (24, 64)])
def test_shape_and_gradient_of_every_parameter(block, c1, c2):
    m = block(c1, c2, 2)
    y = m(torch.randn(2, c1, 8, 12))
    assert y.shape == (2, c2, 8, 12)
    y.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in m.parameters())


def test_relan_is_the_shortcut_where_gamma_is_zero():
    m = RELAN(16, 16, 2).eval()
    torch.nn.init.zeros_(m.gamma)
    x = torch.randn(1, 16, 4, 4)
    assert torch.equal(m(x), x)


def test_relan_adds_gamma_times_the_aggregation():
    m = RELAN(16, 16, 1, scale=0.3).eval()
    x = torch.randn(1, 16, 4, 4)
    first = m.cv1(x)
    expected = x + 0.3 * m.cv2(torch.cat((first, m.stages[0](first)), 1))
    torch.testing.assert_close(m(x), expected)


def naive_area_attention(m, x):
    """Strip by strip, head by head, with explicit softmax."""
    b, c, h, w = x.shape
    q, k, v = m.qkv(x).flatten(2).chunk(3, 1)
    out = torch.zeros(b, c, h * w)
    count = 2 ** max(0, math.ceil(math.log2(h * w / m.strip)))
    strip, d = math.ceil(h * w / count), c // m.heads
    for start in range(0, h * w, strip):
        s = slice(start, min(start + strip, h * w))
        for head in range(m.heads):
            r = slice(head * d, (head + 1) * d)
            weights = (q[:, r, s].transpose(1, 2) @ k[:, r, s] / d**0.5).softmax(-1)
            out[:, r, s] = (weights @ v[:, r, s].transpose(1, 2)).transpose(1, 2)
    return m.proj(out.view(b, c, h, w) + m.position(v.view(b, c, h, w)))


@pytest.mark.parametrize(("h", "w", "strip"), [(8, 8, 16), (4, 6, 24), (4, 6, 400), (5, 7, 9), (7, 7, 16), (1, 3, 2)])
def test_area_attention_against_loops(h, w, strip):
    torch.manual_seed(0)
    m = AreaAttention(32, 2, strip).eval()
    x = torch.randn(2, 32, h, w)
    y = m(x)
    assert y.isfinite().all()
    torch.testing.assert_close(y, naive_area_attention(m, x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("b", "h"), [(1, 8), (2, 8), (1, 7)])
def test_area_attention_is_one_kernel(b, h):
    """Of queries with five dimensions torch makes a product, a softmax and a product, in twice the time."""
    m, x = AreaAttention(32, 2, 16).eval(), torch.randn(b, 32, h, 8)
    with torch.no_grad(), torch.profiler.profile() as profile:
        m(x)
    names = {e.key for e in profile.key_averages()}
    assert any("flash_attention" in n for n in names) and not any("attention_math" in n for n in names)


def test_area_attention_keeps_strips_apart():
    m = AreaAttention(32, 1, strip=16).eval()
    m.position = torch.nn.Identity()  # its 7 x 7 window does cross strips
    x = torch.randn(1, 32, 8, 8)
    changed = x.clone()
    changed[..., :2, :] += 1  # the first of four strips of two rows
    assert torch.allclose(m(x)[..., 2:, :], m(changed)[..., 2:, :], atol=1e-6)
    assert not torch.allclose(m(x)[..., :2, :], m(changed)[..., :2, :], atol=1e-3)


def test_area_attention_refuses_uneven_heads():
    with pytest.raises(ValueError, match="30 channels cannot be split into 4 heads"):
        AreaAttention(30, 4)


def test_channel_norm_against_torch():
    m, x = ChannelNorm(6), torch.randn(2, 6, 3, 4)
    torch.testing.assert_close(m(x), F.layer_norm(x.permute(0, 2, 3, 1), (6,)).permute(0, 3, 1, 2))


def test_gelan_is_the_hosts_block_with_convolutions_and_derived_widths():
    from ultralytics.nn.modules import ELAN1

    ours, host = GELAN(32, 64).eval(), ELAN1(32, 64, 64, 32).eval()
    host.load_state_dict(
        {k.replace("cv2.0.", "cv2.").replace("cv3.0.", "cv3."): v for k, v in ours.state_dict().items()}
    )
    x = torch.randn(1, 32, 8, 8)
    torch.testing.assert_close(ours(x), host(x))


def test_gelan_aggregates_every_step():
    m = GELAN(16, 32, n=2, e=0.5).eval()
    x = torch.randn(1, 16, 4, 4)
    halves = m.cv1(x).chunk(2, 1)
    third = m.cv2[1](m.cv2[0](halves[1]))
    fourth = m.cv3[1](m.cv3[0](third))
    torch.testing.assert_close(m(x), m.cv4(torch.cat((*halves, third, fourth), 1)))


def test_area_attention_starts_as_the_identity_and_can_leave_it():
    m = A2(32, 32)
    x = torch.randn(2, 32, 8, 8)
    y = m(x)
    torch.testing.assert_close(y, x)
    (y - 1).square().mean().backward()
    assert all(branch.bn.weight.grad.abs().max() > 0 for branch in (m.layers[0].attention.proj, m.layers[0].mlp[1]))
