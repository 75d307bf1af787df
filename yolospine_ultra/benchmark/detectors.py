"""The models of a study: any weights that `ultralytics.YOLO` loads, predicting as a user gets it.

Written for this project, on the benchmark's detector of the same models.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from yolospine_ultra.benchmark.families.ultralytics_family import UltralyticsDetector
from yolospine_ultra.benchmark.family import MAX_FINDINGS, MIN_SCORE

BATCH = 16  # images a call; those of one size only, so that a detection does not depend on its neighbours
TASKS = ("detect", "segment", "pose")  # with upright boxes


def name_models(given: Sequence[str]) -> dict[str, Path]:
    """Names and files of models.

    Args:
        given: each `FILE` or `NAME=FILE`. Without a name it is the file's stem, and where several have the same stem,
            the folders that tell them apart.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a name twice, or with characters that cannot stand in a file's name.
    """
    pairs = [("", Path(g)) if Path(g).exists() or "=" not in g else _split(g) for g in given]
    for _, file in pairs:
        if not file.exists():
            raise FileNotFoundError(f"{file} is not there; expected weights that ultralytics.YOLO loads.")
    unnamed = [f.absolute() for name, f in pairs if not name]
    stems = [f.stem for f in unnamed]
    shared = os.path.commonpath([f.parent for f in unnamed]) if unnamed else ""
    named: dict[str, Path] = {}
    for name, file in pairs:
        apart = "-".join(file.absolute().relative_to(shared).with_suffix("").parts) if not name else ""
        name = name or (file.stem if stems.count(file.stem) == 1 else apart)
        if not re.fullmatch(r"[\w.+-]+", name):
            raise ValueError(f"model name {name!r}: expected letters, digits and . + - _ only; give NAME=FILE.")
        if name in named:
            raise ValueError(f"two models are called {name!r}; give each a name, NAME=FILE.")
        named[name] = file
    return named


def _split(text: str) -> tuple[str, Path]:
    """`NAME=FILE` as its two parts."""
    name, _, file = text.partition("=")
    return name, Path(file)


def load_detector(
    file: Path, device: str = "cpu", imgsz: int | None = None, classes: Sequence[str] | None = None
) -> UltralyticsDetector:
    """A model that predicts as `YOLO(file).predict` does, with every score above 0.001, which mAP needs.

    Args:
        file: weights.
        device: as the host takes it.
        imgsz: input size in pixels, None for the size the model was trained with.
        classes: what its classes must be, None for any.

    Raises:
        ValueError: it cannot be loaded, has no boxes, or has other classes.
    """
    from ultralytics import YOLO

    try:
        facade = YOLO(file)
        names = list(facade.names.values())
    except (TypeError, RuntimeError, AttributeError, KeyError, ImportError, OSError) as error:
        raise ValueError(f"{file} cannot be loaded as a model: {error}") from error
    if facade.task not in TASKS:
        raise ValueError(f"{file} is a model for {facade.task}; expected one of {', '.join(TASKS)}.")
    if classes is not None and names != list(classes):
        raise ValueError(f"{file} has the classes {', '.join(names)}, but the data has {', '.join(classes)}.")
    size = {} if imgsz is None else {"imgsz": imgsz}
    arguments = {"conf": MIN_SCORE, "max_det": MAX_FINDINGS, "batch": BATCH, "device": device, **size}
    return UltralyticsDetector(facade, arguments)


def digest(file: Path) -> str:
    """SHA-256 of weights, of every file of a folder in the order of their names."""
    files = sorted(f for f in file.rglob("*") if f.is_file()) if file.is_dir() else [file]
    total = hashlib.sha256()
    for f in files:
        total.update(hashlib.sha256(f.read_bytes()).digest())
    return total.hexdigest()
