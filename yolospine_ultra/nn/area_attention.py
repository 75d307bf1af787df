"""Area Attention (A2): multi-head attention inside horizontal strips of the map.

Source: YOLOv12 (Tian et al. 2025, arXiv 2502.12524), section 3.2, and its position perceiver, a depth-wise convolution
of the values. The map's H x W tokens, row by row, are cut in strips, and a token attends to its own strip. Deviations:
YOLOv12 cuts every map in four, which leaves the cost quadratic in the map; here a strip has at most `STRIP` tokens, as
many as YOLOv12's at 640 px, and the cost is linear. Maps that do not divide are padded with masked tokens instead of
being refused. Both branches of a layer start at zero (Goyal et al. 2017, arXiv 1706.02677, section 5.1) where YOLOv12
scales a block by 0.01: what an untrained attention adds to the map drowns it, and a training from scratch loses its
first epochs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.nn.modules import Conv

from yolospine_ultra.registry import register_block

HEAD_DIM = 32  # channels a head, as in YOLOv12
STRIP = 400  # tokens: (640 / 16)^2 / 4
MOST_DOUBLINGS = 16  # of the number of strips


class AreaAttention(nn.Module):
    """The attention operator, (B, dim, H, W) -> (B, dim, H, W).

    Args:
        dim: channels, a multiple of `heads`.
        heads: attention heads.
        strip: most tokens of a strip. The map is cut in 1, 2, 4, ... strips of one length, as few as that allows.
    """

    def __init__(self, dim: int, heads: int, strip: int = STRIP) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"AreaAttention: {dim} channels cannot be split into {heads} heads of equal width.")
        self.heads, self.strip = heads, strip
        self.qkv = Conv(dim, 3 * dim, 1, act=False)
        self.position = Conv(dim, dim, 7, g=dim, act=False)
        self.proj = Conv(dim, dim, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend inside each strip, add the position of the values, project."""
        b, c, h, w = x.shape
        n = h * w
        strips = _strips(n, self.strip)
        length = (n + strips - 1) // strips
        padded = strips * length
        qkv = self.qkv(x)
        v_map = qkv[:, 2 * c :]
        tokens = qkv.flatten(2)
        mask = None
        # a traced graph may be run at other sizes than it was traced at, so it always has these steps
        if padded != n or torch.jit.is_tracing():
            tokens = F.pad(tokens, (0, padded - n))
            mask = (torch.arange(b * padded, device=x.device) % padded < n).view(b * strips, 1, 1, length)
            # as large as the scores: shape inference of exported files takes sizes that it does not know for equal
            mask = mask.expand(-1, self.heads, length, -1)
        # (B, 3, heads, dim/heads, strips, length) -> three of (B x strips, heads, length, dim/heads): torch has one
        # kernel for it where they have four dimensions and are contiguous
        tokens = tokens.view(b, 3, self.heads, c // self.heads, strips, length).permute(1, 0, 4, 2, 5, 3).contiguous()
        q, k, v = tokens.view(3, b * strips, self.heads, length, c // self.heads)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y = y.view(b, strips, self.heads, length, c // self.heads).permute(0, 2, 4, 1, 3)
        y = y.reshape(b, c, padded)[..., :n].reshape(b, c, h, w)
        return self.proj(y + self.position(v_map))


def _strips(tokens: int, most: int) -> int:
    """The least power of two that cuts `tokens` into strips of at most `most`.

    Powers of two, because sides of an image are multiples of 32: up to 640 px no map has to be padded. A sum instead
    of a loop, because in a traced graph `tokens` is no number yet.
    """
    return 1 + sum((tokens > most * 2**k) * 2**k for k in range(MOST_DOUBLINGS))


class A2Layer(nn.Module):
    """Area Attention and a two-layer perceptron, both residual, (B, dim, H, W) -> (B, dim, H, W)."""

    def __init__(self, dim: int, heads: int, strip: int, mlp_ratio: float) -> None:
        super().__init__()
        self.attention = AreaAttention(dim, heads, strip)
        self.mlp = nn.Sequential(Conv(dim, int(dim * mlp_ratio), 1), Conv(int(dim * mlp_ratio), dim, 1, act=False))
        for branch in (self.attention.proj, self.mlp[1]):
            nn.init.zeros_(branch.bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x + attention, then + perceptron."""
        x = x + self.attention(x)
        return x + self.mlp(x)


@register_block(repeats=True)
class A2(nn.Module):
    """Area Attention block for a YAML row, (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels; where c1 differs a 1 x 1 convolution comes first.
        n: attention layers.
        strip: most tokens of a strip.
        mlp_ratio: hidden width of the perceptron relative to `c2`; YOLOv12 uses 1.2 to 2.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, strip: int = STRIP, mlp_ratio: float = 1.5) -> None:
        super().__init__()
        heads = max(c2 // HEAD_DIM, 1)
        self.stem = nn.Identity() if c1 == c2 else Conv(c1, c2, 1)
        self.layers = nn.Sequential(*(A2Layer(c2, heads, strip, mlp_ratio) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        """Project where needed, then attend `n` times."""
        return self.layers(self.stem(x))
