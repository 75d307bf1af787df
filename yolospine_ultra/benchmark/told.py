"""What a dataset declares about its classes, put on the findings of a model that cannot be told.

A model that is told facts may lead by the facts. Rows that end in ``-told`` get the same ones after the network, so
that a lead over them is the model's: the normal class counts against the others, and the levels above and below divide
the score of a group, both by `yolospine_ultra.nn.relations`, with levels counted by `yolospine_ultra.nn.order`.

Two things differ from a model that is told in training. Such a detector was taught the classes of a group one by one,
so that the best score of them stands for the group, not the mean of their logits; and what it left out, a class below
`MIN_SCORE` at a box, counts as `MIN_SCORE`. Source: own.
"""

from __future__ import annotations

import numpy as np
import torch
import yaml
from torchvision.ops import batched_nms
from ultralytics.utils.ops import xyxy2xywh

from yolospine_ultra.benchmark.family import MAX_FINDINGS, MIN_SCORE, CellData
from yolospine_ultra.data.relations import fit_relations, read_relations
from yolospine_ultra.evaluate.findings import ImageFindings, read_dataset
from yolospine_ultra.nn.order import order_in_column
from yolospine_ultra.nn.relations import ClassRelations


def relations_of(data: CellData) -> ClassRelations:
    """What a cell's dataset declares, fitted to the labels of its training images; nothing where it has none."""
    if not data.train:
        return ClassRelations(len(data.names))
    truth, names = read_dataset(data.yaml, "train")
    labels = [{"cls": x.classes[:, None], "bboxes": xyxy2xywh(x.boxes)} for x in truth]
    declared = yaml.safe_load(data.yaml.read_text(encoding="utf-8")) | {"names": data.names}
    relations = ClassRelations(len(names))
    relations.declare(fit_relations(labels, read_relations(declared), len(names)))
    return relations


def tell(found: ImageFindings, relations: ClassRelations, iou: float) -> ImageFindings:
    """Findings with the scores that the relations of the classes give them, best first.

    A box has the classes that it was found with, and with one of a group all of the group.

    Args:
        found: of one image, every class of a box, with scores above `MIN_SCORE`.
        relations: as `relations_of` gives them.
        iou: of two boxes of a class, from which the worse is suppressed: classes of a group bring their boxes together.
    """
    if not len(found):
        return found
    nc = len(relations.normal)
    places, which = np.unique(found.boxes, axis=0, return_inverse=True)
    scores = np.zeros((len(places), nc))
    np.maximum.at(scores, (which.reshape(-1), found.classes), found.scores)
    boxes, scores = torch.from_numpy(places), torch.from_numpy(scores)
    counts = order_in_column(boxes, torch.zeros(len(boxes), dtype=torch.long), boxes[None], scores.amax(1)[None])
    best = torch.where(relations.together > 0, scores[:, None], 0).amax(2)  # of the group of each class
    region, label = best.nonzero(as_tuple=True)
    told = relations(best.clamp(MIN_SCORE).logit(eps=1e-6), counts)[region, label].double()
    keep = batched_nms(boxes[region], told, label, iou)
    keep = keep[told[keep] > MIN_SCORE][:MAX_FINDINGS]
    return ImageFindings(found.name, places[region[keep].numpy()], label[keep].numpy(), told[keep].numpy())
