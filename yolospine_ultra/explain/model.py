"""What a study asks of a family of detectors: findings with their place in the network, and gradients of their scores.

Shape shorthand: B images, C classes, D channels.

Written for this project. A family is a subclass of `ExplainedModel` and one of `Scene`, in a file of its own. The score
of a finding is that of ONE class at ONE place: an anchor point, a query, a proposal, or the pixels of a box. Features
whose gradient is wanted become leaves of the graph while the network runs; what lies before them is run without.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from yolospine_ultra.explain.cam import Patch
from yolospine_ultra.explain.frame import Fit, Frame, make_frame

MAX_FINDINGS = 300  # an image
STAGE1, STAGE2 = "stage 1", "stage 2"


@dataclass(frozen=True, eq=False)
class Finding:
    """A prediction that is explained.

    Attributes:
        box: (4,) x1 y1 x2 y2 in input pixels.
        category: class index.
        score: 0..1.
        place: anchor point or query that it came from; -1 where the box itself is the place.
        region: (4,) what stage 2 looked at, in input pixels; None without stage 2.
    """

    box: np.ndarray
    category: int
    score: float
    place: int = -1
    region: np.ndarray | None = None


class Scene(ABC):
    """A network's look at one image, with the graph that gradients are taken in."""

    @abstractmethod
    def found(self, conf: float) -> list[Finding]:
        """The predictions with a score above `conf`, best first, as `predict` gives them."""

    @abstractmethod
    def patches(self, finding: Finding, category: int, stage: str) -> list[Patch]:
        """Features and their gradients of the score of a class at a finding's place.

        Args:
            finding: of this image; it may be of a network with other weights, and so names a place, not a result.
            category: class index, not only the finding's own.
            stage: one of the model's `stages`.
        """


class ExplainedModel(ABC):
    """A trained network of a family, on its own copy of the weights: evaluation mode, single precision, no gradients.

    Args:
        module: the network; the caller's stays as it is.
        names: class names by index.
        imgsz: side of the input, pixels.
        channels: of the input, 1 or 3.
        device: where it runs.
        layer: name of the module whose output is explained at stage 1, in place of what the last layers read.

    Attributes:
        stages: names of the stages whose scores can be explained.
        fit: how an image becomes an input.
    """

    stages: tuple[str, ...] = (STAGE1,)
    fit: Fit = "square"

    def __init__(
        self,
        module: nn.Module,
        names: Sequence[str],
        imgsz: int,
        channels: int = 3,
        device: str | torch.device = "cpu",
        layer: str | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.module = own_copy(module).to(self.device)
        self.names, self.imgsz, self.channels, self.layer = list(names), imgsz, channels, layer
        if layer is not None and layer not in dict(self.module.named_modules()):
            raise ValueError(f"the model has no module {layer!r}; expected a name as of named_modules(), as model.16.")

    def frame(self, image: np.ndarray) -> Frame:
        """An image (h, w) or (h, w, 3) BGR uint8 as input."""
        return make_frame(image, self.imgsz, self.channels, self.fit, self.device)

    @abstractmethod
    def look(self, inputs: Tensor) -> Scene:
        """Run the network on one image (1, channels, H, W)."""

    @abstractmethod
    def scores(self, inputs: Tensor, finding: Finding) -> dict[str, Tensor]:
        """The score (B,) in 0..1 of the finding in each of some images (B, channels, H, W), for every stage."""

    @abstractmethod
    def cascade(self) -> dict[str, list[nn.Module]]:
        """Parts of the network by name, from its output to its input."""

    @contextmanager
    def leaves(self, reader: nn.Module) -> Iterator[list[Tensor]]:
        """While it lasts, the features that are explained are leaves of the graph; they are put into the list.

        Args:
            reader: the module whose input they are, a tensor or a list of them, unless a `layer` is named.

        Raises:
            ValueError: what was caught is no map of features, or the network does not use it exactly once.
        """
        kept: list[Tensor] = []
        calls = []

        def cut(value: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
            calls.append(1)
            maps = [value] if isinstance(value, Tensor) else value
            if not all(isinstance(m, Tensor) and m.ndim == 4 for m in maps):
                raise ValueError(f"module {self.layer!r} gives no map of features (B, D, H, W); name another one.")
            new = [m.detach().requires_grad_() for m in maps]
            kept.extend(new)
            return new[0] if isinstance(value, Tensor) else new

        if self.layer is None:
            handle = reader.register_forward_pre_hook(lambda _, given: (cut(given[0]), *given[1:]))
        else:
            handle = self.module.get_submodule(self.layer).register_forward_hook(lambda _, __, made: cut(made))
        try:
            with torch.enable_grad():
                yield kept
        finally:
            handle.remove()
        if len(calls) != 1:
            raise ValueError(f"module {self.layer!r} runs {len(calls)} times an image; name one that runs once.")


def own_copy(module: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode and single precision, without gradients of its parameters."""
    return deepcopy(module).float().eval().requires_grad_(False)


def gradients(score: Tensor, leaves: Sequence[Tensor]) -> list[np.ndarray]:
    """Gradient of a scalar in each of some tensors; zeros where it does not depend on one."""
    if not score.requires_grad:
        return [np.zeros(x.shape, np.float32) for x in leaves]
    found = torch.autograd.grad(score, list(leaves), retain_graph=True, allow_unused=True)
    return [to_numpy(torch.zeros_like(x) if g is None else g) for x, g in zip(leaves, found, strict=True)]


def to_numpy(values: Tensor) -> np.ndarray:
    """A tensor as an array, out of the graph."""
    return values.detach().cpu().numpy()


def best_overlap(boxes: Tensor, scores: Tensor, box: np.ndarray) -> Tensor:
    """How well a finding is found: max over candidates j of s_j IoU(box, b_j), as D-RISE (Petsiuk et al. 2021) asks.

    Args:
        boxes: (B, N, 4) x1 y1 x2 y2.
        scores: (B, N) of the finding's class.
        box: (4,) of the finding.

    Returns:
        (B,) in 0..1.
    """
    own = torch.as_tensor(box, dtype=boxes.dtype, device=boxes.device)[None]
    overlap = box_iou(own, boxes.flatten(0, 1)).view(scores.shape).nan_to_num(0)
    return (overlap * scores).amax(1)
