"""The sanity check of maps: a map that survives the loss of the weights explains the image, not the model.

Source: Adebayo et al. 2018, "Sanity checks for saliency maps", cascading randomisation: weights are made random from
the output to the input, one part of the network after the other, and each map is compared with the trained model's by
Spearman's rank correlation. Deviations: the values of each tensor are shuffled instead of drawn anew, statistics of
normalisation among them, which keeps the scale of every layer, so that maps do not change just because a network of
fresh weights is silent; and cells that have evidence in neither map do not count, see `specificity.rank_correlation`.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import nn
from ultralytics.nn.modules import DFL

from yolospine_ultra.explain.model import ExplainedModel
from yolospine_ultra.nn.relations import ClassRelations

SURVIVES = 0.5  # rank correlation with the map of a network without learnt weights, from which a map fails


def cascade(model: ExplainedModel, seed: int = 0) -> Iterator[tuple[str, ExplainedModel]]:
    """Copies of a model with ever more of its weights shuffled, from the output to the input.

    Args:
        model: stays as it is.
        seed: of the order that values get.

    Yields:
        The name of the part that was shuffled last, and the copy; the last one has no learnt weight left.
    """
    copy = deepcopy(model)
    rng = torch.Generator().manual_seed(seed)
    for name, parts in copy.cascade().items():
        for part in parts:
            shuffle(part, rng)
        yield name, deepcopy(copy)


@torch.no_grad()
def shuffle(module: nn.Module, rng: torch.Generator) -> None:
    """Shuffle the values within each parameter and floating-point buffer of a module, in place.

    What was not learnt stays: the host's `DFL`, which is the numbers 0, 1, 2 and so on, and facts about the classes.
    """
    fixed = {m.conv for m in module.modules() if isinstance(m, DFL)}
    fixed |= {m for m in module.modules() if isinstance(m, ClassRelations)}
    for part in module.modules():
        if part in fixed:
            continue
        for values in (*part.parameters(recurse=False), *part.buffers(recurse=False)):
            if values.is_floating_point() and values.numel() > 1:
                order = torch.randperm(values.numel(), generator=rng).to(values.device)
                values.copy_(values.flatten()[order].view_as(values))
