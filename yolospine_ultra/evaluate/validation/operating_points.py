"""Operating points: the least score of each class's predictions, chosen on one set of images and used on others.

Written for this project. Two criteria, class by class, over the scores that occur as thresholds; a prediction is right
or false as in `froc`:

    f1      the greatest F1 = 2 TP / (2 TP + FP + FN), of equals the highest threshold;
    fp=X    the least threshold with at most X false positives an image.

A threshold fits the images it was chosen on: sensitivity and F1 there are optimistic, so that a threshold belongs to
validation patients and its numbers to others. The file keeps the patients for that reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.validation.froc import Ranked


@dataclass(frozen=True)
class Criterion:
    """How thresholds are chosen: by the greatest F1, or, with a limit, by false positives an image of at most that."""

    limit: float | None = None

    def __str__(self) -> str:
        return "f1" if self.limit is None else f"fp={self.limit:g}"

    @staticmethod
    def parse(text: str) -> Criterion:
        """A criterion from `f1` or `fp=X`.

        Raises:
            ValueError: neither, or an X that is no number of at least 0.
        """
        kind, _, limit = text.partition("=")
        if text == "f1":
            return Criterion()
        try:
            value = float(limit)
        except ValueError:
            value = -1.0
        if kind != "fp" or not 0 <= value < float("inf"):
            raise ValueError(f"{text}: expected f1, or fp=X with X false positives an image, such as fp=0.5")
        return Criterion(value)


def choose_threshold(ranked: Ranked, criterion: Criterion, default: float) -> dict[str, Any]:
    """Choose one class's threshold.

    Args:
        ranked: its predictions, of `froc.rank`.
        criterion: how.
        default: threshold where the criterion has nothing to go by: no label (F1), or no prediction.

    Returns:
        threshold; tp, fp, fn, f1 (None without labels) and false_positives, an image, at it; and `why` where it is not
        the criterion's. It may lie by the least step above the best score, where every threshold lets in too many.
    """
    scores, right, false = ranked.counts()
    labels, images = int(ranked.labels.sum()), len(ranked.labels)
    why = None
    if criterion.limit is None:
        reason = "labels" if not labels else "right predictions" if not ranked.right.any() else ""
        best = int(np.argmax(2 * right / (right + false + labels))) if not reason else -1
        threshold = float(scores[best]) if not reason else default
    else:
        reason = "" if len(scores) else "predictions"
        allowed = np.flatnonzero(false / images <= criterion.limit)
        above = np.nextafter(scores[0], 2) if len(scores) else default
        threshold = float(scores[allowed[-1]] if len(allowed) else above)
    if reason:
        why = f"no {reason} to choose by, so the default"
    kept = ranked.scores >= threshold
    tp, fp = int(ranked.right[kept].sum()), int((~ranked.right[kept]).sum())
    f1 = 2 * tp / (tp + fp + labels) if labels else None
    row = {"threshold": threshold, "tp": tp, "fp": fp, "fn": labels - tp, "f1": f1, "false_positives": fp / images}
    return row | ({"why": why} if why else {})


def choose_thresholds(
    ranked: Sequence[Ranked],
    names: Sequence[str],
    patients: Sequence[str],
    criterion: Criterion,
    default: float,
) -> dict[str, Any]:
    """Choose the threshold of every class.

    Args:
        ranked: predictions of each class, of `froc.rank`.
        names: of the classes.
        patients: whose images are chosen on.
        criterion, default: as in `choose_threshold`.

    Returns:
        criterion, patients, and `classes`, each as `choose_threshold` gives it.
    """
    chosen = {n: choose_threshold(r, criterion, default) for n, r in zip(names, ranked, strict=True)}
    return {"criterion": str(criterion), "patients": sorted(set(patients)), "classes": chosen}


def write_thresholds(chosen: Mapping[str, Any], file: Path) -> None:
    """Write what `choose_thresholds` gave as JSON; its folder is made where it is not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    AtomicPath(file).write_bytes(json.dumps(chosen, indent=2, allow_nan=False).encode())


def read_thresholds(file: str | Path, names: Sequence[str]) -> tuple[np.ndarray, set[str]]:
    """Read what `write_thresholds` wrote.

    Args:
        file: the JSON. Only `classes`, each with a `threshold`, and `patients` are read.
        names: of the classes that need a threshold; others in the file are not used.

    Returns:
        (C,) thresholds in the order of `names`, and the patients that they were chosen on.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such JSON, a class without a threshold, or a threshold that is no number of at least 0.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not a file; expected the thresholds that --choose-thresholds wrote.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        classes = {k: float(v["threshold"]) for k, v in content["classes"].items()}
        patients = {str(x) for x in content.get("patients", ())}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} has no thresholds; expected the JSON of --choose-thresholds ({error!r}).") from error
    missing = [n for n in names if n not in classes]
    if missing:
        raise ValueError(f"{file} has no threshold for {', '.join(missing)}; it has {', '.join(classes) or 'none'}.")
    wrong = [n for n in names if not 0 <= classes[n] <= np.nextafter(1, 2)]
    if wrong:
        raise ValueError(f"{file}: the threshold of {wrong[0]} is {classes[wrong[0]]}, expected 0 to 1.")
    return np.array([classes[n] for n in names]), patients


def apply_thresholds(found: Sequence[ImageFindings], thresholds: np.ndarray) -> list[ImageFindings]:
    """The findings whose scores are at least the thresholds (C,) of their classes."""
    made = []
    for x in found:
        keep = x.scores >= thresholds[x.classes]
        made.append(replace(x, boxes=x.boxes[keep], classes=x.classes[keep], scores=x.scores[keep]))
    return made
