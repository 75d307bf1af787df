"""GELAN, the generalised efficient layer aggregation network, with plain convolutions as its computational blocks.

Source: YOLOv9 (Wang et al. 2024, arXiv 2402.13616), figure 4 (c): ELAN whose stacked convolutions may be any
computational blocks. The block itself is the host's `RepNCSPELAN4`. Deviations: the blocks are convolutions, as in
YOLOv9's own first stage, not RepNCSP, with which a network of this size needs several times as many steps before it
finds anything at all; and the host takes three widths, of which its YAML parser scales only the first, whereas here the
inner two are derived from it, so that one YAML serves every scale.
"""

from __future__ import annotations

from torch import nn
from ultralytics.nn.modules import Conv, RepNCSPELAN4

from yolospine_ultra.registry import register_block


@register_block(repeats=True)
class GELAN(RepNCSPELAN4):
    """GELAN block, (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels, a multiple of 2.
        n: convolutions in each of the two computational blocks.
        e: width of the aggregation relative to `c2`.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 1.0) -> None:
        c = round(c2 * e / 2)
        super().__init__(c1, c2, 2 * c, c)
        self.cv2, self.cv3 = (nn.Sequential(*(Conv(c, c, 3) for _ in range(n))) for _ in range(2))
