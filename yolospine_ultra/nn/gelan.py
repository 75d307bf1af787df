"""GELAN, the generalised efficient layer aggregation network, with widths that follow the model's scale.

Source: YOLOv9 (Wang et al. 2024, arXiv 2402.13616), figure 4; the block itself is the host's `RepNCSPELAN4`. Deviation:
the host takes three widths, of which its YAML parser scales only the first; here the inner two are derived from it, so
that one YAML serves every scale.
"""

from __future__ import annotations

from ultralytics.nn.modules import RepNCSPELAN4

from yolospine_ultra.registry import register_block


@register_block(repeats=True)
class GELAN(RepNCSPELAN4):
    """GELAN block, (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: input channels.
        c2: output channels, a multiple of 4.
        n: bottlenecks in each of the two inner CSP blocks.
        e: width of the aggregation relative to `c2`.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.5) -> None:
        c3 = 2 * round(c2 * e / 2)
        super().__init__(c1, c2, c3, c3 // 2, n)
