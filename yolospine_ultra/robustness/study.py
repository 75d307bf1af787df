"""The study: every model on the clean images once, then on every type and level; one cell a model and condition.

Written for this project. A cell is written when it is measured, with a key of everything it depends on, so that a study
that was interrupted, or gets another model, goes on where it was: cells with the right key are taken as they are.

Clean and degraded images go the same way, as 8-bit files to the model's `predict`. Batches hold images of one size, as
the host would letterbox an image otherwise when its neighbours are of another.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from ultralytics.utils import TQDM

from yolospine_ultra import __version__
from yolospine_ultra.benchmark.family import Detector
from yolospine_ultra.benchmark.records import write_json
from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.images import StudyImages, read_image
from yolospine_ultra.evaluate.intervals import or_none, resample_weights
from yolospine_ultra.robustness.degrade import Condition, degrade
from yolospine_ultra.robustness.measure import Precision, agreement, drop, image_quality, precision

CLEAN = "clean"
CHUNK = 64  # images that lie degraded on disk at a time
RESAMPLES = 1000

Cell = dict[str, Any]
Quality = tuple[float | None, float | None]  # PSNR and SSIM
Prepared = tuple[Path, tuple[int, ...], Quality]  # file, height and width, quality


@dataclass(frozen=True)
class Settings:
    """What a study is run with, besides images and models.

    Attributes:
        seed: of degradations and resamples.
        conf: least score of a detection that counts, but for mAP, which takes all.
        imgsz: input size in pixels, None for the size each model was trained with.
        resamples: of the bootstrap over patients.
    """

    seed: int = 0
    conf: float = 0.25
    imgsz: int | None = None
    resamples: int = RESAMPLES


class Cells:
    """Cells that are measured, in memory and, with a folder, in `FOLDER/cells/MODEL/CONDITION.json`.

    Args:
        keys: of each model: what its cells depend on. A file with another key is not read, and is replaced.
        folder: where the files are.
    """

    def __init__(self, keys: Mapping[str, str], folder: Path | None = None) -> None:
        self.keys, self.folder = keys, folder
        self.known: dict[tuple[str, str], Cell] = {}

    def get(self, model: str, condition: str) -> Cell | None:
        """A cell, None where it is not measured yet."""
        if (model, condition) not in self.known and self.folder is not None:
            cell = _read(self._file(model, condition))
            if cell.pop("key", None) == self.keys[model]:
                self.known[model, condition] = cell
        return self.known.get((model, condition))

    def put(self, model: str, condition: str, cell: Cell) -> None:
        """Keep a cell, and write it."""
        self.known[model, condition] = cell
        if self.folder is not None:
            write_json(self._file(model, condition), {"key": self.keys[model], **cell})

    def _file(self, model: str, condition: str) -> Path:
        return self.folder / "cells" / model / f"{condition}.json"


def _read(file: Path) -> Cell:
    """What a file holds, {} where it is not there or no JSON object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def cell_key(images: StudyImages, settings: Settings, weights: str) -> str:
    """What the cells of a model depend on, as one text: package, images, settings, and the digest of its weights."""
    parts = [__version__, images.fingerprint, images.patients, vars(settings), weights]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def run_study(
    images: StudyImages,
    detectors: Mapping[str, Detector],
    conditions: Sequence[Condition],
    settings: Settings,
    cells: Cells,
    progress: bool = False,
) -> None:
    """Measure every cell that is missing in `cells`.

    Args:
        images: labelled or not.
        detectors: models by name.
        conditions: types and levels.
        settings: of the study.
        cells: those that are there, and those that are made.
        progress: show a line with the remaining time on the standard error.
    """
    open_cells = {m: [c for c in conditions if cells.get(m, str(c)) is None] for m in detectors}
    waiting = [m for m in detectors if open_cells[m] or cells.get(m, CLEAN) is None]
    total = len(waiting) + sum(map(len, open_cells.values()))
    bar = TQDM(total=total, desc="robustness", unit="cell", file=sys.stderr, disable=not progress or not total)
    weights = None if images.truth is None else resample_weights(images.patients, settings.resamples, settings.seed)
    needed = [c for c in conditions if any(c in open_cells[m] for m in waiting)]
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(_prepared(images, [None, *needed] if waiting else [], settings.seed, Path(folder))) as chunks,
    ):  # closed first: nothing writes any more when the folder is removed
        clean, _ = _detect(images, chunks, {m: detectors[m] for m in waiting})
        before = {m: None if weights is None else _precision(images, clean[m], weights) for m in waiting}
        for m in waiting:
            cells.put(m, CLEAN, _clean_cell(images, clean[m], before[m], settings.conf))
            bar.update(1)
        for condition in needed:
            models = [m for m in waiting if condition in open_cells[m]]
            found, quality = _detect(images, chunks, {m: detectors[m] for m in models})
            for m in models:
                cell = dict(quality) | agreement(*(_above(x, settings.conf) for x in (clean[m], found[m])))
                if weights is not None:
                    after = _precision(images, found[m], weights)
                    cell |= drop(before[m], after) | {"classes": _by_class(images, after)}
                cells.put(m, str(condition), cell)
                bar.update(1)
    bar.close()


def _precision(images: StudyImages, found: Sequence[ImageFindings], weights: np.ndarray) -> Precision:
    return precision(images.truth, found, len(images.classes), weights)


def _above(found: Sequence[ImageFindings], conf: float) -> list[ImageFindings]:
    return [x.above(conf) for x in found]


def _clean_cell(images: StudyImages, found: Sequence[ImageFindings], value: Precision | None, conf: float) -> Cell:
    """The cell of the clean images."""
    cell: Cell = {"detections": sum(map(len, _above(found, conf)))}
    if value is not None:
        cell |= {"map50_95": or_none(value.map50_95[0]), "map50": or_none(value.map50[0])}
        cell["classes"] = _by_class(images, value)
    return cell


def _by_class(images: StudyImages, value: Precision) -> dict[str, float | None]:
    """AP50-95 by class name, None for classes without labels."""
    return dict(zip(images.classes, map(or_none, value.classes), strict=True))


def _detect(
    images: StudyImages, chunks: Iterator[list[Prepared]], detectors: Mapping[str, Detector]
) -> tuple[dict[str, list[ImageFindings]], Cell]:
    """Findings of each model in every image of the next condition, and the mean image quality."""
    found: dict[str, list[ImageFindings]] = {m: [] for m in detectors}
    qualities: list[Quality] = []
    if not detectors:
        return found, {}
    for start in range(0, len(images), CHUNK):
        prepared = next(chunks)
        groups = defaultdict(list)
        for i, (_, shape, _) in enumerate(prepared):
            groups[shape].append(i)
        qualities += [quality for _, _, quality in prepared]
        for m, detector in detectors.items():
            chunk: dict[int, ImageFindings] = {}
            for group in groups.values():
                chunk |= zip(group, detector.detect([prepared[i][0] for i in group]), strict=True)
            found[m] += [replace(chunk[i], name=images.names[start + i]) for i in range(len(prepared))]
    return found, _mean_quality(qualities)


def _prepared(
    images: StudyImages, conditions: Sequence[Condition | None], seed: int, folder: Path
) -> Iterator[list[Prepared]]:
    """All images under each condition, `CHUNK` at a time; the next chunk is made while the models see this one.

    The host gives a model all processors but one. Of the files only those of two chunks are there at a time.
    """
    units = [(c, start) for c in conditions for start in range(0, len(images), CHUNK)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:

        def begin(unit: int) -> list[Future]:
            condition, start = units[unit]
            place = folder / str(unit % 2)
            place.mkdir(exist_ok=True)
            files = images.files[start : start + CHUNK]
            return [pool.submit(_prepare, f, condition, seed, place / f"{i:03d}.bmp") for i, f in enumerate(files)]

        following = begin(0) if units else []
        for unit in range(len(units)):
            made = [future.result() for future in following]
            following = begin(unit + 1) if unit + 1 < len(units) else []
            yield made


def _prepare(file: Path, condition: Condition | None, seed: int, written: Path) -> Prepared:
    """Write an image of 8 bits, not compressed, degraded where there is a condition."""
    image = read_image(file)
    changed = image if condition is None else degrade(image, condition, seed)
    cv2.imwrite(str(written), changed)
    return written, image.shape[:2], (None, None) if condition is None else image_quality(image, changed)


def _mean_quality(qualities: Sequence[Quality]) -> Cell:
    """Mean PSNR and SSIM, each over the images where it is defined; None where it is in none."""
    kept = [[v for v in values if v is not None] for values in zip(*qualities, strict=True)]
    psnr, ssim = (float(np.mean(v)) if v else None for v in kept)
    return {"psnr_db": psnr, "ssim": ssim}
