"""Segmentation networks of the benchmark: the score is the mean logit of a class's map inside the box.

Shape shorthand: C classes, S side of the input.

Source: Seg-Grad-CAM (Vinogradova et al. 2020), whose score is the sum of a class's logits over a set of pixels. Here it
is their mean over the box of the component. Explained are the features that the last, classifying layers read, of the
input's size; their paper takes the deepest ones, for which there is `layer`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from yolospine_ultra.benchmark.families.segmentation import SegmentationDetector
from yolospine_ultra.explain.cam import Patch
from yolospine_ultra.explain.model import MAX_FINDINGS, STAGE1, ExplainedModel, Finding, Scene, gradients, to_numpy


class MaskScene(Scene):
    """What a segmentation network saw in one image.

    Args:
        module: the network.
        logits: (C, S, S), with the graph.
        leaves: the features that are explained.
    """

    def __init__(self, module: SegmentationDetector, logits: Tensor, leaves: Sequence[Tensor]) -> None:
        self.module, self.logits, self.leaves = module, logits, leaves

    def found(self, conf: float) -> list[Finding]:
        """See `Scene`: the connected components of each class's map."""
        found = self.module.found(self.logits.detach()[None])[0]
        order = sorted((i for i, s in enumerate(found.scores) if s > conf), key=lambda i: -found.scores[i])
        return [Finding(found.boxes[i], int(found.classes[i]), float(found.scores[i])) for i in order[:MAX_FINDINGS]]

    def patches(self, finding: Finding, category: int, stage: str) -> list[Patch]:
        """See `Scene`."""
        (gradient,) = gradients(_inside(self.logits[category], finding).mean(), self.leaves[:1])
        height, width = self.logits.shape[1:]
        return [Patch(to_numpy(self.leaves[0])[0], gradient[0], (0, 0, width, height))]


class SegmentationModel(ExplainedModel):
    """A network of `benchmark.families.segmentation`."""

    def look(self, inputs: Tensor) -> MaskScene:
        """See `ExplainedModel`."""
        with self.leaves(self._last()) as leaves:
            logits = self.module(inputs)
        return MaskScene(self.module, logits[0], leaves)

    def _last(self) -> nn.Module:
        """The layers that classify: those at the end of either kind of network."""
        return list(self.module.net.children())[-1]

    @torch.no_grad()
    def scores(self, inputs: Tensor, finding: Finding) -> dict[str, Tensor]:
        """See `ExplainedModel`: mean probability inside the box."""
        probability = self.module(inputs)[:, finding.category].sigmoid()
        return {STAGE1: _inside(probability, finding).mean((1, 2))}

    def cascade(self) -> dict[str, list[nn.Module]]:
        """See `ExplainedModel`: the network's own parts, last to first."""
        return {name: [part] for name, part in reversed(list(self.module.net.named_children()))}


def _inside(values: Tensor, finding: Finding) -> Tensor:
    """The part (..., h, w) of maps (..., S, S) inside a finding's box, whose corners lie on pixels."""
    x1, y1, x2, y2 = (round(v) for v in finding.box)
    return values[..., y1:y2, x1:x2]
