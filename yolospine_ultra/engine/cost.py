"""What a model costs: true parameters, and floating point operations with attention and stage 2.

Source: torch's `FlopCounterMode`, 2 x MACs, on a forward pass of the real input size. The host's own figure scales a
probe of one stride to the input size, which is wrong for work that does not grow with the map, such as stage 2.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Parameters (every element once, shared ones once) and operations of one image's forward pass."""

    parameters: int
    flops: int


def model_cost(model: nn.Module, size: tuple[int, int] | int, channels: int = 3) -> Cost:
    """Cost of `model` for one image.

    Args:
        model: a detection model; it is copied, not changed.
        size: input height and width in pixels, or one number for a square.
        channels: input channels.

    Returns:
        Parameters, and 2 x MACs of convolutions, matrix products and attention.
    """
    height, width = (size, size) if isinstance(size, int) else size
    model = deepcopy(model).float().eval()
    image = torch.zeros(1, channels, height, width, device=next(model.parameters()).device)
    # the plain form of attention is made of matrix products, which are counted; the fused ones of the CPU are not
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(image)
    return Cost(sum(p.numel() for p in model.parameters()), counter.get_total_flops())
