"""Focal loss of a softmax, the classification loss of DDE.

Source: YOLOspine (Masood and Taj 2026), L_FL; Lin et al. 2017 for the focusing factor. Deviation: the target of a
region with several findings is spread evenly over them, since a softmax cannot give each of them probability one.
"""

from __future__ import annotations

from torch import Tensor

GAMMA = 2.0


def softmax_focal_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None, gamma: float = GAMMA) -> Tensor:
    """-sum_k w_k y_k (1 - p_k)^gamma log p_k of each row, with y = labels / sum(labels) and p = softmax(logits).

    Args:
        logits: (N, C).
        labels: multi-hot (N, C) in 0..1, which sum to the number of findings, at least one per row.
        weights: class weights w_k (C,), one each by default.
        gamma: focusing exponent, >= 0.

    Returns:
        Loss of each row, (N,).
    """
    log_p = logits.log_softmax(-1)
    y = labels / labels.sum(-1, keepdim=True).clamp(min=1)
    loss = -y * (1 - log_p.exp()) ** gamma * log_p
    return (loss if weights is None else loss * weights).sum(-1)
