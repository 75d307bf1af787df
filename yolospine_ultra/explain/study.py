"""The study: every finding that is asked for, in every image, as rows of a table.

Written for this project. One look at an image serves all its findings, and so does one look of each model with shuffled
weights. What is explained is what `predict` gives.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ultralytics.utils import TQDM

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.images import StudyImages, read_image
from yolospine_ultra.evaluate.matching import match_by_class
from yolospine_ultra.explain.cam import METHODS, require_library
from yolospine_ultra.explain.finding import MapRecord, box_share, explain_finding
from yolospine_ultra.explain.frame import Frame
from yolospine_ultra.explain.model import ExplainedModel, Finding
from yolospine_ultra.explain.sanity import cascade

SELECTIONS = ("best", "all", "matched")
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What a study is run with.

    Attributes:
        methods: keys of `cam.METHODS`.
        select: "best" of each class in an image, "all", or those "matched" with a label.
        conf: least score.
        classes: names of classes to explain, None for all.
        curves: share of the findings, drawn at random, whose deletion and insertion are measured.
        seed: of everything random.
    """

    methods: tuple[str, ...] = tuple(METHODS)
    select: str = "best"
    conf: float = 0.25
    classes: tuple[str, ...] | None = None
    curves: float = 1.0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Explained:
    """A finding with its maps.

    Attributes:
        image: name of the image.
        number: of the finding in its image, from 0, best first.
        frame: the image.
        finding: the prediction.
        box: (4,) x1 y1 x2 y2 in pixels of the image.
        category: class name.
        correct: whether a label of its class matches it; None without labels.
        records: its maps.
    """

    image: str
    number: int
    frame: Frame
    finding: Finding
    box: np.ndarray
    category: str
    correct: bool | None
    records: list[MapRecord]


def explain_images(
    images: StudyImages,
    model: ExplainedModel,
    settings: Settings,
    show: Callable[[Explained], None] | None = None,
    progress: bool = False,
) -> list[Row]:
    """Explain findings in all images.

    Args:
        images: labelled or not.
        model: that finds.
        settings: of the study.
        show: called with each finding, to draw it.
        progress: show a line with the remaining time on the standard error.

    Returns:
        A row of plain values a map, `explain_finding`'s reference included.

    Raises:
        ImportError: pytorch-grad-cam is missing.
        ValueError: a class or method is unknown, or labels are asked for and there are none.
    """
    require_library()
    _check(images, model, settings)
    shuffled = dict(cascade(model, settings.seed))
    rows: list[Row] = []
    for i in TQDM(range(len(images)), desc="explain", unit="image", file=sys.stderr, disable=not progress):
        frame = model.frame(read_image(images.files[i]))
        scene = model.look(frame.inputs)
        found = scene.found(settings.conf)
        boxes = frame.boxes_to_image(np.array([f.box for f in found]))
        correct = _correct(images.truth[i], found, boxes) if images.truth is not None else [None] * len(found)
        chosen = choose(found, correct, settings, model.names)
        others = {part: m.look(frame.inputs) for part, m in shuffled.items()} if chosen else {}
        for k in chosen:
            rng = np.random.default_rng((settings.seed, i, k))
            start = time.perf_counter()
            curves = rng.random() < settings.curves
            records = explain_finding(model, frame, scene, others, found[k], settings.methods, rng, curves)
            seconds = time.perf_counter() - start
            name = model.names[found[k].category]
            explained = Explained(images.names[i], k, frame, found[k], boxes[k], name, correct[k], records)
            patient = None if images.patients is None else images.patients[i]
            rows += [{"patient": patient} | _row(explained, r, seconds) for r in records]
            if show is not None:
                show(explained)
    return rows


def choose(
    found: Sequence[Finding], correct: Sequence[bool | None], settings: Settings, names: Sequence[str]
) -> list[int]:
    """Indices of the findings of an image that are explained, best first.

    Args:
        found: best first.
        correct: of each, as in `Explained`.
        settings: `select` and `classes` count.
        names: class names.
    """
    chosen, seen = [], set()
    for k, finding in enumerate(found):
        wanted = settings.classes is None or names[finding.category] in settings.classes
        if settings.select == "best":
            wanted &= finding.category not in seen
        elif settings.select == "matched":
            wanted &= bool(correct[k])
        if wanted:
            chosen.append(k)
            seen.add(finding.category)
    return chosen


def _check(images: StudyImages, model: ExplainedModel, settings: Settings) -> None:
    """Refuse settings that mean nothing here."""
    for value, known, what in (
        (settings.select, SELECTIONS, "selection"),
        *((m, METHODS, "method") for m in settings.methods),
        *((c, model.names, "class") for c in settings.classes or ()),
    ):
        if value not in known:
            raise ValueError(f"{what} {value!r} is unknown; expected one of {', '.join(known)}.")
    if settings.select == "matched" and images.truth is None:
        raise ValueError("select 'matched' needs labels, but the images have none; choose best or all.")


def _correct(truth: ImageFindings, found: Sequence[Finding], boxes: np.ndarray) -> list[bool]:
    """Which predictions are matched with a label of their class, one to one at IoU .5."""
    scores, classes = (np.array([getattr(f, key) for f in found]) for key in ("score", "category"))
    matched = set(match_by_class(truth, ImageFindings(truth.name, boxes, classes, scores)).tolist())
    return [k in matched for k in range(len(found))]


def _row(explained: Explained, record: MapRecord, seconds: float) -> Row:
    """A map as plain values."""
    specificity, faithful = record.specificity, record.faithful
    return {
        "image": explained.image,
        "finding": explained.number,
        "class": explained.category,
        "score": explained.finding.score,
        "box": explained.box.tolist(),
        "correct": explained.correct,
        "stage": record.stage,
        "method": record.method,
        "refused": record.refused,
        "class_independent": record.class_independent,
        "class_difference": specificity.difference if specificity else None,
        "class_correlation": specificity.correlation if specificity else None,
        "closest_class": specificity.closest if specificity else None,
        "energy": record.energy,
        "box_share": box_share(explained.frame, explained.finding),
        "hit": record.hit,
        "deletion": faithful.deletion if faithful else None,
        "insertion": faithful.insertion if faithful else None,
        "deleted": faithful.deleted if faithful else None,
        "inserted": faithful.inserted if faithful else None,
        "sanity": record.sanity,
        "seconds": seconds,
    }
