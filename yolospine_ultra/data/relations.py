"""How the classes of a dataset are related: which share boxes, by the training labels, and what its YAML declares.

::

    normal: IVDn # the class that excludes all others at its box
    same_finding: # classes that are one finding at different levels
      - [LDB, TDB]

Source: own; `yolospine_ultra.nn.relations` says what it is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou
from ultralytics.utils.ops import xywh2xyxy

from yolospine_ultra.evaluate.intervals import wilson
from yolospine_ultra.losses.assign import SAME_REGION
from yolospine_ultra.nn.order import order_in_column
from yolospine_ultra.nn.relations import HALF_CREDIBLE, Facts, no_facts

KEYS = ("normal", "same_finding")  # of the dataset YAML
STRENGTH = 1.0  # inverse of the L2 penalty on the slopes, scikit-learn's C


class Relations(NamedTuple):
    """Class indices: the normal class, None without one, and groups of classes that are one finding."""

    normal: int | None
    groups: list[list[int]]


def read_relations(data: dict[str, Any]) -> Relations:
    """What a dataset's dictionary, with its `names`, declares; nothing by default.

    Raises:
        ValueError: `normal` is no class, or `same_finding` no list of groups of at least two classes, each class in one
            group at most and the normal one in none.
    """
    normal, groups = data.get("normal"), data.get("same_finding") or []
    classes, where = list(data["names"].values()), data.get("yaml_file", "the dataset YAML")
    if normal is not None and normal not in classes:
        raise ValueError(f"`normal` in {where} is {normal!r}, which is no class; the classes are {classes}.")
    what = f"`same_finding` in {where}"
    if not isinstance(groups, list) or not all(isinstance(g, list) and len(g) > 1 for g in groups):
        raise ValueError(f"{what} must be a list of groups of two class names or more, but is {groups!r}.")
    names = [name for group in groups for name in group]
    unknown = [n for n in names if n not in classes]
    if unknown:
        raise ValueError(f"{what} names {unknown}, which are no classes; the classes are {classes}.")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"{what} names {twice} more than once; a class belongs to one group.")
    if normal in names:
        raise ValueError(f"{what} names the normal class, {normal!r}, which is no finding.")
    index = {name: i for i, name in data["names"].items()}
    return Relations(None if normal is None else index[normal], [[index[n] for n in group] for group in groups])


def fit_relations(labels: Sequence[dict[str, Any]], relations: Relations, nc: int) -> Facts:
    """What the training labels show and the dataset declares.

    A class without a box in the training labels has nothing to learn from: it divides no group, and a normal class that
    is never seen would count against all others wherever it is not predicted, which is everywhere.

    Args:
        labels: of each training image, the host's: `cls` (N, 1), `bboxes` (N, 4) as centre and size. An image that is
            there more than once, by its `im_file`, counts once.
        relations: as `read_relations` gives them.
        nc: number of classes C.
    """
    labels = list({x.get("im_file", i): x for i, x in enumerate(labels)}.values())
    boxes = sum(len(x["cls"]) for x in labels)
    facts = no_facts(nc)._replace(credibility=torch.tensor(boxes / (boxes + HALF_CREDIBLE)))
    if relations != Relations(None, []):
        _declared(facts, labels, relations)
    return facts._replace(shared=_shared(labels, facts.together))


def _declared(facts: Facts, labels: Sequence[dict[str, Any]], relations: Relations) -> None:
    """Write the normal class and the groups into `facts`."""
    classes, counts = _levels(labels)
    if relations.normal is not None and (classes == relations.normal).any():
        facts.normal[relations.normal] = 1
    for group in relations.groups:
        present = [c for c in group if (classes == c).any()]
        if len(present) < 2:
            continue
        weights, biases, order = _divide(classes, counts, present)
        for c, w, b in zip(order, weights, biases, strict=True):
            facts.slope[c], facts.offset[c] = torch.as_tensor(w), float(b)
            facts.together[c, present] = 1


def _shared(labels: Iterable[dict[str, Any]], together: Tensor) -> Tensor:
    """P(j | c) in row c, (C, C): least share of the boxes of c that stage 1 is taught j at too (IoU >= `SAME_REGION`).

    Where a class of a group is labelled, all of it is taught, by `together`. Least is the lower end of Wilson's 95%
    interval: the few boxes of a rare class prove little.
    """
    nc = len(together)
    boxes_of, shared = torch.zeros(nc), torch.zeros(nc, nc)
    for label in labels:
        boxes = xywh2xyxy(torch.as_tensor(np.asarray(label["bboxes"])).float().reshape(-1, 4))
        classes = torch.as_tensor(np.asarray(label["cls"])).reshape(-1).long()
        one_hot = torch.nn.functional.one_hot(classes, nc).float() @ together
        boxes_of += one_hot.sum(0)
        shared += one_hot.T @ ((box_iou(boxes, boxes) >= SAME_REGION).float() @ one_hot).clamp(max=1)
    pairs = [(c, j) for c in range(nc) for j in range(nc) if c != j and shared[c, j]]
    least = torch.zeros(nc, nc)
    for c, j in pairs:
        least[c, j] = wilson(int(shared[c, j]), int(boxes_of[c]))[0]
    return least


def _levels(labels: Iterable[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Classes (N,) of all labelled boxes, and the levels above and below each, (N, 2)."""
    classes, counts = [np.zeros(0, int)], [np.zeros((0, 2))]
    for label in labels:
        boxes = xywh2xyxy(torch.as_tensor(np.asarray(label["bboxes"])).float().reshape(-1, 4))
        if len(boxes):
            here = torch.zeros(len(boxes), dtype=torch.long)
            classes.append(np.asarray(label["cls"]).reshape(-1).astype(int))
            counts.append(order_in_column(boxes, here, boxes[None], torch.ones(1, len(boxes))).double().numpy())
    return np.concatenate(classes), np.concatenate(counts)


def _divide(
    classes: np.ndarray, counts: np.ndarray, group: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, Sequence[int]]:
    """Slopes (M, 2) and offsets (M,) of the M classes of a group, and their order."""
    from sklearn.linear_model import LogisticRegression  # seconds to import, which every cell of a sweep would pay

    mine = np.isin(classes, group)
    fit = LogisticRegression(C=STRENGTH, max_iter=1000).fit(counts[mine], classes[mine])
    weights, biases = fit.coef_, fit.intercept_
    if len(group) == 2:  # one row, the logit of the second class
        weights, biases = np.concatenate((-weights, weights)) / 2, np.concatenate((-biases, biases)) / 2
    return weights, biases, fit.classes_.tolist()
