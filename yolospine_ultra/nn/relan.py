"""R-ELAN, the residual efficient layer aggregation network.

Source: YOLOv12 (Tian et al. 2025, arXiv 2502.12524), section 3.3: the aggregation of ELAN in a single-bottleneck form,
and a block-level residual with a scaling factor. Deviations: the inner blocks are convolutional bottlenecks (attention
is a module of its own here, `AreaAttention`), and the scale starts at 0.1, the value CaiT (Touvron et al. 2021) gives
for shallow networks, because with YOLOv12's 0.01 the blocks contribute nothing during a short training from scratch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import Bottleneck, Conv

from yolospine_ultra.registry import register_block


@register_block(repeats=True)
class RELAN(nn.Module):
    """R-ELAN block, (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels; the residual is the identity where c1 == c2, else a 1 x 1 projection.
        n: aggregated stages, each of two bottlenecks.
        e: width of a stage relative to `c2`.
        scale: initial value of the learned residual scale gamma, one a channel.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.5, scale: float = 0.1) -> None:
        super().__init__()
        c = int(c2 * e)
        self.cv1 = Conv(c1, c, 1)
        self.stages = nn.ModuleList(nn.Sequential(Bottleneck(c, c, e=0.5), Bottleneck(c, c, e=0.5)) for _ in range(n))
        self.cv2 = Conv((n + 1) * c, c2, 1)
        self.shortcut = nn.Identity() if c1 == c2 else Conv(c1, c2, 1, act=False)
        self.gamma = nn.Parameter(torch.full((c2, 1, 1), scale))

    def forward(self, x: Tensor) -> Tensor:
        """shortcut(x) + gamma * aggregate(x)."""
        y = [self.cv1(x)]
        for stage in self.stages:
            y.append(stage(y[-1]))
        return self.shortcut(x) + self.gamma * self.cv2(torch.cat(y, 1))
