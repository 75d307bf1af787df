"""Findings of an image by disc level, as a radiologist's report lists them: "L4/L5: DDD, LDB".

Written for this project; the levels are those of `levels`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.levels.assign import SpineLevels
from yolospine_ultra.evaluate.levels.spine_profile import LEVELS

_SURE = 0.9  # support below which the text says that the numbering may be off; no probability, see `SpineLevels`


def level_report(image: ImageFindings, names: Sequence[str], spine: SpineLevels) -> dict[str, Any]:
    """Group the findings of an image.

    Args:
        image: findings, labelled or predicted.
        names: class names by index.
        spine: their levels, from `assign_levels`.

    Returns:
        image: its name; levels: from the head down, each level's classes in the order of `names`, every one once;
        missed: levels between them without a disc finding; without_level: classes of the findings that have none;
        support: of the numbering; findings: each with class, level, box (x1 y1 x2 y2) and score (None for labels).

    Raises:
        ValueError: `spine` is of another number of findings.
    """
    if len(spine.levels) != len(image):
        raise ValueError(f"{image.name} has {len(image)} findings, but {len(spine.levels)} levels were given.")
    levels = np.array(spine.levels, dtype=object)
    grouped = {}
    for level in reversed(LEVELS):
        classes = np.unique(image.classes[levels == level])
        if len(classes):
            grouped[level] = [names[c] for c in classes]
    scores = [None] * len(image) if image.scores is None else [float(s) for s in image.scores]
    findings = [
        {"class": names[c], "level": level, "box": [float(v) for v in box], "score": score}
        for c, level, box, score in zip(image.classes, spine.levels, image.boxes, scores, strict=True)
    ]
    return {
        "image": image.name,
        "levels": grouped,
        "missed": list(reversed(spine.missed)),
        "without_level": [names[c] for c, level in zip(image.classes, spine.levels, strict=True) if level is None],
        "support": spine.support,
        "findings": findings,
    }


def format_levels(report: Mapping[str, Any]) -> str:
    """A `level_report` as lines of text, the highest level first."""
    lines = [report["image"]]
    for level in reversed(LEVELS):
        if level in report["levels"]:
            lines.append(f"  {level}: {', '.join(report['levels'][level])}")
        elif level in report["missed"]:
            lines.append(f"  {level}: no disc found")
    if report["support"] is None:
        lines.append("  no disc found")
    elif report["support"] < _SURE:
        lines.append(f"  numbering uncertain (support {report['support']:.2f}): the lowest disc may not be as named")
    if report["without_level"]:
        lines.append(f"  without a level: {', '.join(report['without_level'])}")
    return "\n".join(lines)
