"""MLDR, the Multi-Label Disorder Refiner: stage 2, on regions of interest around the proposals of stage 1.

Shape shorthand: B images, R regions over all images, C classes, D channels of the region features.

Source: YOLOspine (Masood and Taj 2026), section "Stage 2": the multi-scale features of DDE are reused through skip
connections, RoIAlign extracts 7 x 7 features of each proposal, a sigmoid scores each class on its own, and boxes are
refined. Deviations: the levels are summed to one map at the finest stride before RoIAlign, so that a region sees all of
them; a second, wider region gives the surroundings (a bulge is judged against the canal beside it); the number of
levels above and below tells the level (`nn/order.py`); what stage 1 says is where a score starts (`nn/proposals.py`);
and every class has its own refined box, since two disorders of one segment have different boxes. Medical sets are
small, and what is decided here is learnt from a few hundred regions: the crop is halved to 4 x 4 before it is embedded,
and both are dropped out (Srivastava et al. 2014).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision.ops  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor, nn
from ultralytics.nn.modules import Conv, DWConv

CONTEXT = 2.0  # sides of the wide region relative to the proposal's
COUNT_SCALE = 4.0  # levels to a unit of the order's embedding: a lumbar image shows about eight
POOL = 7  # bins a side of RoIAlign
DROPOUT = 0.5  # of the region features and of their embedding, in training


class MLDR(nn.Module):
    """Multi-label scores and class-specific box deltas of regions.

    Args:
        nc: number of classes C.
        ch: channels of the pyramid levels, finest first.
        tower: channels of DDE's class features, the same on every level.
        dim: channels D of the map that regions are cut from.
        hidden: width of a region's embedding.
        order: whether a region is told how many levels lie above and below it.
        class_boxes: whether every class has its own refined box; otherwise all classes share one.
    """

    def __init__(
        self,
        nc: int,
        ch: tuple[int, ...],
        tower: int,
        dim: int = 64,
        hidden: int = 128,
        order: bool = True,
        class_boxes: bool = True,
    ) -> None:
        super().__init__()
        self.nc = nc
        self.lateral = nn.ModuleList(Conv(c + tower, dim, 1) for c in ch)
        self.smooth = DWConv(dim, dim, 3)
        self.region = nn.Sequential(Conv(2 * dim, dim, 1), DWConv(dim, dim, 3, 2), Conv(dim, dim, 1))
        self.dropout = nn.Dropout(DROPOUT)
        self.order = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, hidden)) if order else None
        self.embed = nn.Linear(dim * ((POOL + 1) // 2) ** 2, hidden)
        self.mix = nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, nc)
        self.delta = nn.Linear(hidden, 4 * nc if class_boxes else 4)
        self.trust = nn.Parameter(torch.ones(nc))
        nn.init.zeros_(self.score.bias)
        nn.init.normal_(self.delta.weight, std=1e-3)  # the first refinement is close to none
        nn.init.zeros_(self.delta.bias)

    @property
    def class_rows(self) -> tuple[str, ...]:
        """Parameters that have as many rows for each class."""
        own = ("delta.weight", "delta.bias") if self.delta.out_features == 4 * self.nc else ()
        return ("score.weight", "score.bias", "trust", *own)

    def merge(self, feats: list[Tensor], towers: list[Tensor]) -> Tensor:
        """One map (B, D, H, W) at the finest stride from the pyramid and DDE's class features."""
        size = feats[0].shape[2:]
        levels = [
            lat(torch.cat(pair, 1)) for lat, pair in zip(self.lateral, zip(feats, towers, strict=True), strict=True)
        ]
        return self.smooth(levels[0] + sum(F.interpolate(x, size=size, mode="nearest") for x in levels[1:]))

    def forward(
        self,
        feats: list[Tensor],
        towers: list[Tensor],
        boxes: Tensor,
        index: Tensor,
        counts: Tensor,
        evidence: Tensor,
        stride: float,
    ) -> tuple[Tensor, Tensor]:
        """Score and refine regions.

        Args:
            feats: pyramid maps (B, c_l, H_l, W_l), finest first.
            towers: class features of DDE, (B, tower, H_l, W_l).
            boxes: regions (R, 4), x1 y1 x2 y2 in input pixels, finite and inside the image.
            index: image of each region, (R,), integers.
            counts: levels above and below each region, (R, 2); unused without `order`.
            evidence: what stage 1 says about each region, (R, C), logits.
            stride: input pixels a cell of the finest level.

        Returns:
            Class logits (R, C) and deltas (R, C, 4) for `decode_boxes`.
        """
        merged = self.merge(feats, towers)
        # the maps and not the crops, which overlap, have more cells, and would be copied to stand side by side
        return self.judge(*self.cut(*self.project(merged, merged), boxes, index, stride), counts, evidence)

    def project(self, tight: Tensor, wide: Tensor) -> tuple[Tensor, Tensor]:
        """The first convolution of `region` by halves, to be added, (N, D, h, w) each: of maps, or of crops of regions.

        It is 1 x 1 and RoIAlign is linear, so that either may come first.
        """
        first, second = self.region[0].conv.weight.chunk(2, 1)
        return F.conv2d(tight, first), F.conv2d(wide, second)

    def cut(self, tight: Tensor, wide: Tensor, boxes: Tensor, index: Tensor, stride: float) -> tuple[Tensor, Tensor]:
        """Crops (R, D, 7, 7) of regions from one map, and of the wide ones from another, (B, D, H, W) each.

        Args:
            tight, wide: the maps.
            boxes, index, stride: as of `forward`.
        """
        # RoIAlign in single precision: coordinates and areas of the widened boxes, made here, would be rounded in half
        boxes, column = boxes.float(), index[:, None].float()
        # one sample a bin: at the finest stride a bin is about one cell, and Mask R-CNN (He et al. 2017) found the
        # number of samples not to matter
        # The operator itself, aligned: on a GPU where algorithms shall be deterministic, as by the host's default,
        # torchvision's function compiles a version in Python, which takes a C compiler and a while for every shape
        crops = [
            torch.ops.torchvision.roi_align(m.float(), torch.cat((column, b), 1), 1 / stride, POOL, POOL, 1, True)
            for m, b in ((tight, boxes), (wide, _widen(boxes)))
        ]
        return crops[0], crops[1]

    def judge(self, tight: Tensor, wide: Tensor, counts: Tensor, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` returns, of both crops of regions behind the first convolution."""
        first, second, third = self.region
        x = (tight + wide).to(first.conv.weight.dtype)
        if first.conv.bias is None:
            x = first.bn(x)
        else:  # the host has fused the norm into the convolution
            x += first.conv.bias[:, None, None]
        x = third(second(first.act(x)))
        x = self.embed(self.dropout(x.flatten(1)))
        if self.order is not None:
            x = x + self.order(counts.to(x.dtype) / COUNT_SCALE)
        x = self.dropout(F.silu(x))
        x = x + F.silu(self.mix(x))
        score = self.score(x) + self.trust * evidence.to(x.dtype)
        return score, self.delta(x).unflatten(1, (-1, 4)).expand(-1, self.nc, -1)


def _widen(boxes: Tensor) -> Tensor:
    """`boxes` (R, 4) with sides `CONTEXT` times as long; they may reach over the edge, where RoIAlign reads zeros."""
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) * (CONTEXT / 2)
    return torch.cat((centre - half, centre + half), 1)
