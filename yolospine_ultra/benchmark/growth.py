"""How time grows: with the image's side, the batch, the proposals of stage 2 and the tokens of Area Attention.

Written for this project. What is timed is the fused network with both stages (no file is read, nothing is suppressed),
stage 2 by itself, and the attention operator by itself, once with strips of a fixed length and once over the whole map.
Weights are untrained: none of these times depends on them. The calls of a series take turns, as in `timing`.

The exponent p of a series, time ~ x^p, is the slope of a least-squares line through log time against log x; 1 is
linear. Small sizes are dominated by what every call costs, so the line goes through the upper half of the sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from yolospine_ultra.benchmark.families.network import one_device
from yolospine_ultra.benchmark.timing import interleaved_latency, timer_for
from yolospine_ultra.nn.area_attention import STRIP, AreaAttention
from yolospine_ultra.nn.order import order_in_column
from yolospine_ultra.nn.proposals import Proposals
from yolospine_ultra.nn.spine_detect import SpineDetect

DIM, HEADS = 64, 2  # width of the attention: P3 of n scale


@dataclass(frozen=True)
class Series:
    """Times of one thing at several sizes.

    Attributes:
        panel: what grows.
        name: what is timed.
        sizes: of `panel`, rising.
        ms: median milliseconds at each.
        q1_ms, q3_ms: quartiles.
    """

    panel: str
    name: str
    sizes: tuple[int, ...]
    ms: tuple[float, ...]
    q1_ms: tuple[float, ...]
    q3_ms: tuple[float, ...]

    @property
    def exponent(self) -> float:
        """p of time ~ size^p over the upper half of the sizes; NaN of one size."""
        upper = slice(min(len(self.sizes) // 2, len(self.sizes) - 2), None)
        if len(self.sizes) < 2:
            return float("nan")
        return float(np.polyfit(np.log(self.sizes[upper]), np.log(self.ms[upper]), 1)[0])


def grow_side(models: Mapping[str, torch.nn.Module], sides: Sequence[int], rounds: int, device: str) -> list[Series]:
    """One image of each side in pixels, multiples of 32, by each model."""
    images = {s: torch.rand(1, 3, s, s, device=one_device(device)) for s in sides}
    calls = {(n, s): (lambda m=m, x=images[s]: m(x)) for n, m in models.items() for s in sides}
    return _time("side of the image, pixels", calls, rounds, device)


def grow_batch(
    models: Mapping[str, torch.nn.Module], batches: Sequence[int], side: int, rounds: int, device: str
) -> list[Series]:
    """Batches of images of one side by each model; the time is that of the batch."""
    images = {b: torch.rand(b, 3, side, side, device=one_device(device)) for b in batches}
    calls = {(n, b): (lambda m=m, x=images[b]: m(x)) for n, m in models.items() for b in batches}
    return _time("images in the batch", calls, rounds, device)


def check_proposals(model: torch.nn.Module) -> SpineDetect:
    """The head of a model with stage 2.

    Raises:
        ValueError: the model has none.
    """
    head = model.model[-1]
    if not isinstance(head, SpineDetect):
        raise ValueError(f"the model's head is {type(head).__name__}; expected SpineDetect, which has proposals.")
    return head


def grow_proposals(
    model: torch.nn.Module, proposals: Sequence[int], side: int, rounds: int, device: str
) -> list[Series]:
    """The whole network and stage 2 alone, on one image.

    Raises:
        ValueError: the model has no stage 2.
    """
    head = check_proposals(model)
    image = torch.rand(1, 3, side, side, device=one_device(device))
    preds = _raw(model, image)

    def whole(k: int) -> object:
        head.proposals = k
        return model(image)

    def stage_two(found: Proposals, index: torch.Tensor) -> object:
        counts = order_in_column(found.boxes[0], index, found.boxes, found.objectness)
        return head.refine(preds, found.boxes[0], index, counts, found.evidence[0])

    calls: dict[tuple[str, int], Callable[[], object]] = {}
    most = preds["obj"].shape[-1]
    for k in (k for k in proposals if k <= most):
        head.proposals = k
        found = head.propose(preds)
        index = torch.zeros(k, dtype=torch.long, device=image.device)
        calls["whole network", k] = lambda k=k: whole(k)
        calls["stage 2 alone", k] = lambda p=found, i=index: stage_two(p, i)
    return _time("proposals of stage 2", calls, rounds, device)


def grow_tokens(tokens: Sequence[int], rounds: int, device: str) -> list[Series]:
    """Area Attention on square maps of each number of tokens, in strips of the model's length, and in one strip."""
    calls = {}
    for n in tokens:
        side = round(n**0.5)
        x = torch.rand(1, DIM, side, side, device=one_device(device))
        for name, strip in ((f"strips of {STRIP}", STRIP), ("one strip", side * side)):
            operator = AreaAttention(DIM, HEADS, strip).eval().to(x.device)
            calls[name, side * side] = lambda a=operator, x=x: a(x)
    return _time("tokens of the map", calls, rounds, device)


def draw_growth(series: Sequence[Series]) -> Figure:
    """One panel a thing that grows, both axes logarithmic, with the exponent of every line."""
    panels = list(dict.fromkeys(s.panel for s in series))
    figure = Figure(figsize=(4.4 * len(panels), 3.8), layout="constrained", dpi=110)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for s in (s for s in series if s.panel == panel):
            (line,) = axes.loglog(s.sizes, s.ms, "o-", ms=4, label=f"{s.name}: p = {s.exponent:.2f}")
            axes.fill_between(s.sizes, s.q1_ms, s.q3_ms, color=line.get_color(), alpha=0.2, lw=0)
        axes.set_xlabel(panel)
        axes.set_xticks(s.sizes, [str(x) for x in s.sizes], rotation=45)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.supylabel("milliseconds")
    return figure


def _time(panel: str, calls: Mapping[tuple[str, int], Callable[[], object]], rounds: int, device: str) -> list[Series]:
    """Time calls by (name, size) in turns."""

    def timed(call: Callable[[], object]) -> Callable[[Path], object]:
        def run(_: Path) -> object:
            with torch.inference_mode():
                return call()

        return run

    found = interleaved_latency({k: timed(c) for k, c in calls.items()}, [Path()], rounds, timer_for(device))
    made = []
    for name in dict.fromkeys(n for n, _ in calls):
        own = sorted((size, times) for (n, size), times in found.items() if n == name)
        columns = [tuple(getattr(t, k) for _, t in own) for k in ("median_ms", "q1_ms", "q3_ms")]
        made.append(Series(panel, name, tuple(size for size, _ in own), *columns))
    return made


def _raw(model: torch.nn.Module, image: torch.Tensor) -> dict:
    """Raw predictions of stage 1: what the head gives beside its output."""
    with torch.inference_mode():
        return model(image)[1]
