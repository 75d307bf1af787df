"""DenseC2f with layer normalisation, the block of the paper's V3.3 variant.

Source: the published YOLOspine V3.3 as described by its README ("DenseC2f + adaptive LayerNorm"); DenseNet (Huang et
al. 2017) for the connectivity. Written from that description, not from its code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.nn.modules import Conv

from yolospine_ultra.registry import register_block


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of a map, (B, c, H, W) -> (B, c, H, W), with learned gain and shift."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c))
        self.bias = nn.Parameter(torch.zeros(c))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each position on its own, so that no statistic of the batch is kept."""
        return F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, 1e-5).movedim(-1, 1)


@register_block(repeats=True)
class DenseC2f(nn.Module):
    """C2f whose stages each read all earlier ones, (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels.
        n: dense stages.
        e: width of a stage relative to `c2`.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.5) -> None:
        super().__init__()
        c = int(c2 * e)
        self.cv1 = Conv(c1, 2 * c, 1)
        self.stages = nn.ModuleList(
            nn.Sequential(Conv((2 + i) * c, c, 1), ChannelNorm(c), Conv(c, c, 3)) for i in range(n)
        )
        self.cv2 = Conv((2 + n) * c, c2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Grow the dense stack stage by stage, then merge it."""
        y = self.cv1(x)
        for stage in self.stages:
            y = torch.cat((y, stage(y)), 1)
        return self.cv2(y)
