"""What the labels show and a dataset declares about its classes, and how it joins the scores of both stages.

Shape shorthand: R regions over all images, C classes.

Source: own. The softmax of stage 1 splits its mass where a region has two labels: .5 each means both as well as one
of them, nobody knows which. Labels tell the two apart, by how often classes share a box. With p_c the softmax, at most
`MOST_SURE` of it, and P(j | c) the least share of the boxes of c that training proves to have label j too (Wilson's 95%
limit, so that a rare class proves little), the evidence for c is

    log p_c - log sum over j other than c of (1 - P(j | c)) p_j,

in which mass on a class that stands beside c anyway does not count against c. Of classes that never share a box it is
the logit of p_c. Classes of a group, below, are one finding here: p_c is the mass on all of them.

Stage 2 learns from few regions and is surer of them than it should be; how much its logit is worth beside that of stage
1 depends on how many labelled boxes n it has seen. As in credibility theory (Buehlmann 1967, ASTIN Bulletin 4:199-207),
it counts with Z = n / (n + `HALF_CREDIBLE`), stage 1 with the rest.

A rare class is learnt badly by itself, and labels follow rules that a network has to guess: a disc called
normal has no other label, and a lumbar and a thoracic disc bulge are one finding at two levels. With l_c the logit of
class c, the rules are

1. Normal class N: l_c' = (1 - v) l_c - v l_N for every other class. What is not normal is more likely anything else,
   and normality is learnt from many.
2. Group G, one finding at different levels: both stages are taught all of G wherever one of it is labelled, so that
   every class of G learns from the boxes of all; in the target of stage 1's softmax they share the part of one finding.
   q_G = sigmoid(mean over c in G of l_c'), and q_c = q_G * P(c | G, n) at a region with n = (above, below) levels in
   its column. P is a multinomial logistic fitted to the training labels of whole images
   (`yolospine_ultra.data.relations`), not trained with the network: a mosaic of four images has no levels to count.

A dataset that declares nothing gets q_c = sigmoid(l_c).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from yolospine_ultra.nn.proposals import MOST_SURE

HALF_CREDIBLE = 1000.0  # labelled boxes; by folds of patients and a phantom (docs/experiments.md, 16)
AS_ONE = 0.9  # of P(j | c) within a group that was taught as one
AGAINST_NORMAL = 0.2  # v; chosen on folds of training patients (docs/experiments.md, 14 and 15)


class Facts(NamedTuple):
    """What is known of C classes.

    Attributes:
        normal: 1 for the normal class, (C,).
        together: 1 where two classes are one finding, (C, C), ones on the diagonal.
        slope: of the logits of P(c | G, n), (C, 2).
        offset: theirs, (C,).
        shared: P(j | c) in row c, (C, C), zeros on the diagonal; 1 within a group, whatever is given.
        credibility: Z, 0..1; a count would not fit a checkpoint's half precision.
    """

    normal: Tensor
    together: Tensor
    slope: Tensor
    offset: Tensor
    shared: Tensor
    credibility: Tensor


def no_facts(nc: int) -> Facts:
    """Nothing declared, no class that shares boxes, and a half for each stage."""
    return Facts(
        torch.zeros(nc), torch.eye(nc), torch.zeros(nc, 2), torch.zeros(nc), torch.zeros(nc, nc), torch.tensor(0.5)
    )


class ClassRelations(nn.Module):
    """Logits and class probabilities by the relations of the classes; none, and Z of a half, until `declare` is called.

    Args:
        nc: number of classes C.
    """

    def __init__(self, nc: int) -> None:
        super().__init__()
        for name, value in no_facts(nc)._asdict().items():
            self.register_buffer(name, value)

    def declare(self, facts: Facts) -> None:
        """Take over what `yolospine_ultra.data.relations.fit_relations` gives."""
        for name, value in facts._asdict().items():
            getattr(self, name).copy_(value)
        self.shared.copy_(torch.maximum(self.shared, self.together)).fill_diagonal_(0)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._refuse_taught_one_by_one()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._refuse_taught_one_by_one()

    def _refuse_taught_one_by_one(self) -> None:
        """Weights of before groups were taught as one have no boxes in common within them."""
        shared = self._buffers.get("shared")  # None in files that the head refuses anyway
        if shared is not None and ((self.together > 0) & (shared < AS_ONE)).fill_diagonal_(False).any():
            raise RuntimeError(
                "This checkpoint was taught classes of one finding one by one, as yolospine_ultra did before it taught "
                "them as one; its scores of them would be wrong now. Train the model again, or load it with the "
                "yolospine_ultra that trained it."
            )

    @property
    def sizes(self) -> Tensor:
        """How many classes the group of each class has, itself among them, (C,)."""
        return self.together.float().sum(1)

    def taught(self, labels: Tensor) -> Tensor:
        """Labels (..., C) in {0, 1} that regions are taught, of those they have: with a class all of its group."""
        return self.joined(labels).clamp(max=1)

    def joined(self, values: Tensor) -> Tensor:
        """Values (..., C) of the classes, of those of a group their sum."""
        return _rows(values, self.together)

    def averaged(self, values: Tensor) -> Tensor:
        """Values (..., C) of the classes, of those of a group their mean."""
        return self.joined(values) / self.sizes.to(values.dtype)

    def marginal(self, evidence: Tensor) -> Tensor:
        """Evidence for each class by itself, from logits of the softmax over the findings, (..., C) both."""
        p = evidence.float().sigmoid()
        beside = self.shared.float() * (1 - self.together.float()) / self.sizes
        return p.log() - (1 - p - _rows(p, beside)).clamp(min=1 - MOST_SURE).log()

    def combine(self, evidence: Tensor, logits: Tensor) -> Tensor:
        """Logits (..., C) of both stages together, of the logits of stage 1's softmax and of stage 2, (..., C) each."""
        z = self.credibility.float()
        return z * logits + (1 - z) * self.marginal(evidence)

    def shares(self, counts: Tensor) -> Tensor:
        """P(c | G, n), (R, C) in 0..1, for counts n (R, 2) of levels above and below; those of a group sum to one."""
        counts = counts.float()
        logits = _rows(counts, self.slope) + self.offset.float()
        rivals = (logits[:, None] - logits[:, :, None]).clamp(max=60).exp()  # (R, c, d): of d relative to c
        return 1 / (rivals * self.together.float()).sum(2)

    def forward(self, logits: Tensor, counts: Tensor) -> Tensor:
        """Probabilities (R, C) of finite logits (R, C) at regions with `counts` (R, 2) levels above and below.

        In single precision, also where the model has half: probabilities near one are what scores are ordered by.
        """
        logits, normal = logits.float(), self.normal.float()
        v = AGAINST_NORMAL * normal.sum() * (1 - normal)  # of each class; 0 for the normal one
        logits = (1 - v) * logits - v * (logits * normal).sum(1, keepdim=True)
        return self.averaged(logits).sigmoid() * self.shares(counts)


def _rows(values: Tensor, matrix: Tensor) -> Tensor:
    """`values` (..., N) times the rows of `matrix` (M, N), (..., M), in the precision of `values` under autocast too.

    No sum over a broadcast product: OpenVINO's CPU plugin computes that wrongly.
    """
    with torch.autocast(values.device.type, enabled=False):
        return values @ matrix.to(values.dtype).T
