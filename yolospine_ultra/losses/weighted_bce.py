"""Weighted binary cross-entropy, the classification loss of MLDR.

Source: YOLOspine (Masood and Taj 2026), L_WBCE. Deviation: targets may lie between 0 and 1, where they say how well the
refined box fits, as in generalised focal loss (Li et al. 2020).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def weighted_bce(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """-(1/N) sum_i sum_k w_k [y log p + (1 - y) log(1 - p)], p = sigmoid(logits).

    Args:
        logits: (N, C), N >= 1.
        targets: y in 0..1, (N, C).
        weights: class weights w_k (C,), one each by default.

    Returns:
        A scalar.
    """
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (loss if weights is None else loss * weights).sum() / len(logits)
