"""Which model plays which part in a report: ours, its ablations, baselines.

Written for this project.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from yolospine_ultra.benchmark.report.source import Results

OURS = "yolospine"  # what the names of our models begin with
FULL = re.compile(rf"{OURS}(-[nsmlx])?")  # the whole model, at any scale


@dataclass(frozen=True)
class Roles:
    """The parts.

    Attributes:
        ours: the model the report is about, None where it was not trained.
        baseline: the best other model by mean mAP50-95, None where there is no other.
        ranked: models that are ranked against each other, best first; ablations are not among them.
        ablations: ours and its variants, best first.
    """

    ours: str | None
    baseline: str | None
    ranked: tuple[str, ...]
    ablations: tuple[str, ...]


def assign_roles(results: Results, ours: str | None = None) -> Roles:
    """Parts of a sweep's models.

    Args:
        results: the sweep.
        ours: name of the model the report is about; None finds the best whole YOLOspine.

    Raises:
        ValueError: the sweep has no such model.
    """
    if ours is not None and ours not in results.sweep.models:
        raise ValueError(f"The sweep has no model {ours!r}; it has {', '.join(results.sweep.models)}.")
    models = results.models
    if ours is None:
        ours = next((m for m in models if FULL.fullmatch(m)), None) or next((m for m in models if _own(m)), None)
    elif ours not in models:
        ours = None  # known, but not measured
    variants = [m for m in models if ours and _own(ours) and _own(m) and m != ours and not FULL.fullmatch(m)]
    ranked = tuple(m for m in models if m not in variants)
    baseline = next((m for m in ranked if m != ours), None)
    return Roles(ours, baseline, ranked, tuple(m for m in models if m == ours or m in variants))


def _own(model: str) -> bool:
    """Whether a name is that of one of our models."""
    return model.startswith(OURS)
