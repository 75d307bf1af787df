"""Everything that is measured of one finding: its maps by stage and method, and how far each can be trusted.

Written for this project; the measures stand in `specificity`, `pointing`, `faithfulness` and `sanity`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from yolospine_ultra.explain.cam import ClassIndependentError, MapError, cell_maps, flatten, paint
from yolospine_ultra.explain.faithfulness import Faithfulness, faithfulness
from yolospine_ultra.explain.frame import Frame
from yolospine_ultra.explain.model import ExplainedModel, Finding, Scene
from yolospine_ultra.explain.pointing import covered, energy_in_box, pointing_hit
from yolospine_ultra.explain.specificity import Specificity, rank_correlation, specific_map

RANDOM = "random"  # the reference among the methods


@dataclass(eq=False)
class MapRecord:
    """A map and what was measured of it.

    Attributes:
        stage: one of the model's.
        method: key of `cam.METHODS`, or `RANDOM`: the same cells with random values.
        values: of the input's size, 0..1; None where the map was refused.
        refused: why, "" for a map that is there.
        class_independent: whether it was refused for that.
        specificity: how it differs from the maps of other classes, None of the reference.
        energy: share of it in the box.
        hit: whether its largest value lies in the box.
        faithful: deletion and insertion, None where they are not defined.
        sanity: rank correlation with the map of shuffled weights, by the part that was shuffled last; 0 where that
            network has no evidence at all. Empty of the reference.
    """

    stage: str
    method: str
    values: np.ndarray | None = None
    refused: str = ""
    class_independent: bool = False
    specificity: Specificity | None = None
    energy: float | None = None
    hit: bool | None = None
    faithful: Faithfulness | None = None
    sanity: dict[str, float | None] = field(default_factory=dict)


def explain_finding(
    model: ExplainedModel,
    frame: Frame,
    scene: Scene,
    shuffled: Mapping[str, Scene],
    finding: Finding,
    methods: Sequence[str],
    rng: np.random.Generator,
    curves: bool = True,
) -> list[MapRecord]:
    """Make and measure the maps of a finding.

    Args:
        model: that found it.
        frame: the image.
        scene: what the model saw in it.
        shuffled: what the models of `sanity.cascade` saw in it, by the part that was shuffled last.
        finding: of `scene`.
        methods: keys of `cam.METHODS`.
        rng: of the reference, and of equal values.
        curves: measure deletion and insertion, which is what takes time.

    Returns:
        For each stage a record a method, then the reference.
    """
    records = []
    for stage in model.stages:
        patches = {name: scene.patches(finding, c, stage) for c, name in enumerate(model.names)}
        own = patches[model.names[finding.category]]
        others = {part: s.patches(finding, finding.category, stage) for part, s in shuffled.items()}
        regions = [p.region for p in own]
        for method in methods:
            record = MapRecord(stage, method)
            records.append(record)
            try:
                cells, record.specificity = specific_map(method, patches, model.names[finding.category])
            except MapError as error:
                record.refused, record.class_independent = str(error), isinstance(error, ClassIndependentError)
                continue
            record.values = paint(cells, regions, frame.size)
            for part, changed in others.items():
                left = flatten(cell_maps(method, changed))
                record.sanity[part] = rank_correlation(flatten(cells), left) if left.any() else 0.0
        cells = [rng.random(p.activations.shape[1:]) for p in own]
        records.append(MapRecord(stage, RANDOM, paint(cells, regions, frame.size)))
    box, there = box_in_content(frame, finding), [r for r in records if r.values is not None]
    for record in there:
        values = frame.within(record.values)
        record.energy, record.hit = energy_in_box(values, box), pointing_hit(values, box)
    if curves:
        _measure_curves(model, frame, finding, there, rng)
    return records


def _measure_curves(
    model: ExplainedModel, frame: Frame, finding: Finding, records: Sequence[MapRecord], rng: np.random.Generator
) -> None:
    """Fill in deletion and insertion of maps that are there."""
    maps = {s: [r.values for r in records if r.stage == s] for s in model.stages}
    measured = faithfulness(frame, maps, lambda images: model.scores(images, finding), rng)
    for stage in model.stages:
        for record, value in zip((r for r in records if r.stage == stage), measured[stage], strict=True):
            record.faithful = value


def box_in_content(frame: Frame, finding: Finding) -> np.ndarray:
    """A finding's box (4,) in pixels of the part of the input that the image fills."""
    x, y = frame.content[:2]
    return finding.box - [x, y, x, y]


def box_share(frame: Frame, finding: Finding) -> float:
    """The box's share of the image's area, which is the energy of a flat map."""
    content = frame.within(frame.inputs).shape[2:]
    return float(covered(box_in_content(frame, finding), content).mean())
