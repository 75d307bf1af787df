"""Writing the spine phantom as a YOLO dataset folder, split by patient.

    images/{train,val}/*.png      8-bit grey slices
    labels/{train,val}/*.txt      YOLO boxes
    masks/{train,val}/*.png       anatomy as labels, numbered as in SPIDER (`PhantomSlice.mask`)
    instances_{train,val}.json    COCO: outlines, levels and grades of the findings (`export`)
    annotations.csv               a row a finding

Written for this project. Every patient draws from a random stream of its own, so the bytes on disk depend on the seed
alone and not on how the work is shared out. The folder is written beside its destination and renamed at the end: a
killed run leaves no half dataset under the final name.

Work is shared among joblib's processes: threads are no faster than one, since a slice is many short NumPy calls that
hold the interpreter lock, and the standard library's processes would run a user's script without a `__main__` guard
again. The data set is made from inside `exec()` in the host's `yolo` command, too.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from joblib import Parallel, delayed
from ultralytics.utils import TQDM

from yolospine_ultra.data.folders import new_folder
from yolospine_ultra.data.phantom.export import COLUMNS, coco_dataset, coco_instance, csv_row, label_line
from yolospine_ultra.data.phantom.patient import RANKS, SHARED_RANKS
from yolospine_ultra.data.phantom.slices import CLASS_NAMES, Patient, generate_slice, sample_patient

SPLITS = ("train", "val")
# Steps of severity, slip, age, number of slices: irrational, and the golden ratio, the most even, for the rarest event.
_STEPS = (2**0.5, (1 + 5**0.5) / 2, 7**0.5, 3**0.5)
_BLOCK = 64  # patients
_WORTH_A_WORKER = 64  # slices; a worker takes seconds to start
_NEIGHBOUR_MM = (3.5, 4.8)  # distance of a neighbouring slice from the midline


@dataclass(frozen=True)
class _Shot:
    """One planned slice of a patient; `key` names its own random stream."""

    name: str
    sequence: str
    offset_mm: float
    key: int


@dataclass(frozen=True)
class _Plan:
    """One patient and the slices taken of them."""

    number: int
    patient: Patient
    shots: tuple[_Shot, ...]


def _stream(seed: int, *key: int) -> np.random.Generator:
    """The random stream of a patient, or of one of a patient's slices."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _ranks(seed: int, number: int) -> tuple[np.ndarray, float]:
    """The `RANKS` ranks of a patient, and one for the number of slices, spread more evenly than by chance.

    The shared ones and the number of slices are a Kronecker sequence, started by the seed. Those of the discs are Latin
    hypercubes, one for every `_BLOCK` patients. Either way rare disorders come as often as their chance says: the sum
    of slipped slices in a thousand varies by 2% from seed to seed, that of independent draws by 13%.
    """
    start = _stream(seed, 0, 0, 2).random(len(_STEPS))
    *shared, many = (start + (number + 1) * np.array(_STEPS)) % 1
    block, place = divmod(number, _BLOCK)
    rng = _stream(seed, 0, 0, 3, block)
    strata = rng.permuted(np.tile(np.arange(_BLOCK), (RANKS - SHARED_RANKS, 1)), axis=1)
    own = (strata + rng.random(strata.shape)) / _BLOCK
    return np.concatenate([shared, own[:, place]]), float(many)


def _plan_patient(seed: int, number: int, limit: int) -> _Plan:
    """Draw a patient and the one to four slices taken: T2, T1, a neighbouring T2 slice, T2-SPACE."""
    rng = _stream(seed, number)
    ranks, many = _ranks(seed, number)
    patient = sample_patient(rng, ranks)
    count = 1 + int(np.searchsorted((0.25, 0.7, 0.9), many, side="right"))
    beside = float(rng.uniform(*_NEIGHBOUR_MM) * rng.choice((-1, 1)))
    middle = float(rng.uniform(-1, 1))
    pool = [("t2", middle, "t2"), ("t1", middle, "t1"), ("t2", beside, "t2_beside"), ("t2_space", middle, "t2_space")]
    taken = rng.choice(len(pool), size=len(pool), replace=False, p=(0.5, 0.25, 0.1, 0.15))[: min(count, limit)]
    shots = [_Shot(f"p{number:04d}_{pool[k][2]}", *pool[k][:2], int(k)) for k in taken]
    return _Plan(number, patient, tuple(shots))


def plan_patients(images: int, seed: int) -> list[_Plan]:
    """Draw patients until their slices add up to `images`; at least two patients, one for either split."""
    plans, left = [], images
    while left:
        limit = left if plans else left - 1
        plans.append(_plan_patient(seed, len(plans), limit))
        left -= len(plans[-1].shots)
    return plans


def split_patients(plans: list[_Plan], val_fraction: float, seed: int) -> dict[int, str]:
    """Assign whole patients to "val" until about `val_fraction` of the images are there; the rest is "train"."""
    wanted = val_fraction * sum(len(p.shots) for p in plans)
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, 0, 1))).permutation(len(plans))
    split, taken = {}, 0
    for rank, k in enumerate(order):
        # The first patient drawn validates and the last one trains, however small the data set.
        val = rank == 0 or (taken + len(plans[k].shots) / 2 <= wanted and rank < len(plans) - 1)
        split[plans[k].number] = "val" if val else "train"
        taken += len(plans[k].shots) if val else 0
    return split


@dataclass(frozen=True)
class _Written:
    """What is known of a slice once its files are written."""

    name: str
    split: str
    rows: list[list[str]]
    instances: list[dict[str, Any]]


def _write_png(file: Path, pixels: np.ndarray) -> None:
    """Write a picture without loss."""
    ok, png = cv2.imencode(".png", pixels)
    if not ok:
        raise OSError(f"cannot encode {file.name}")
    file.write_bytes(png.tobytes())


def _write_patient(plan: _Plan, split: str, folder: Path, seed: int, size: int) -> list[_Written]:
    """Render and write all slices of one patient."""
    written = []
    for shot in plan.shots:
        rng = _stream(seed, plan.number, shot.key)
        made = generate_slice(plan.patient, shot.sequence, shot.offset_mm, size, rng)
        name = f"{shot.name}.png"
        _write_png(folder / "images" / split / name, made.image)
        _write_png(folder / "masks" / split / name, made.mask)
        lines = "".join(label_line(f, size) + "\n" for f in made.findings)
        (folder / "labels" / split / f"{shot.name}.txt").write_text(lines, encoding="utf-8", newline="\n")
        where = [name, split, f"{plan.number:04d}", shot.sequence, f"{shot.offset_mm:.2f}", f"{made.mm_per_px:.4f}"]
        rows = [csv_row(f, where) for f in made.findings]
        written.append(_Written(name, split, rows, [coco_instance(f, size) for f in made.findings]))
    return written


def _write_all(
    folder: Path, plans: list[_Plan], split: dict[int, str], seed: int, size: int, workers: int, progress: bool
) -> list[_Written]:
    """Write every patient into `folder`, then the tables over all of them."""
    for kind in ("images", "labels", "masks"):
        for part in SPLITS:
            (folder / kind / part).mkdir(parents=True)
    written = []
    total = sum(len(p.shots) for p in plans)
    pool = Parallel(workers, return_as="generator", idle_worker_timeout=10)
    bar = TQDM(total=total, desc="spine-phantom", unit="img", disable=not progress)
    try:
        for slices in pool(delayed(_write_patient)(p, split[p.number], folder, seed, size) for p in plans):
            written += slices
            bar.update(len(slices))
    finally:
        bar.close()
    with (folder / "annotations.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row for slice_ in written for row in slice_.rows)
    for part in SPLITS:
        content = coco_dataset([(w.name, w.instances) for w in written if w.split == part], size)
        (folder / f"instances_{part}.json").write_text(json.dumps(content), encoding="utf-8")
    return written


def _check(images: int, size: int, workers: int, val_fraction: float) -> None:
    """Refuse bad arguments before any work is done."""
    if images < 2:
        raise ValueError(f"images={images}: a training and a validation split need at least 2")
    if not 64 <= size <= 1024:
        raise ValueError(f"size={size}: choose 64 to 1024 pixels")
    if workers < 1:
        raise ValueError(f"workers={workers}: need at least 1")
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction={val_fraction}: choose a share between 0 and 1, both excluded")


def write_dataset(
    out: str | Path,
    images: int = 300,
    seed: int = 0,
    size: int = 384,
    workers: int | None = None,
    val_fraction: float = 0.2,
    progress: bool = True,
) -> dict:
    """Write a spine-phantom dataset.

    Args:
        out: destination folder; must not exist or be empty.
        images: number of slices, at least 2.
        seed: the same seed gives the same bytes, whatever `workers` is.
        size: side of the square images, 64 to 1024 pixels.
        workers: number of processes; by default one a core, at most 8, and fewer for few slices.
        val_fraction: share of the images in the validation split, between 0 and 1; whole patients are moved.
        progress: show a progress bar.

    Returns:
        `path` (Path), `images` (number a split), `patients` (number a split) and `labels` (number a class name).

    Raises:
        ValueError: an argument is out of range.
        FileExistsError: `out` is a file or a folder with something in it.
        OSError: an image cannot be encoded or the disk cannot be written.
    """
    out = Path(out).absolute()
    if workers is None:
        workers = max(1, min(8, os.cpu_count() or 1, images // _WORTH_A_WORKER))
    _check(images, size, workers, val_fraction)
    with new_folder(out) as partial:
        plans = plan_patients(images, seed)
        split = split_patients(plans, val_fraction, seed)
        written = _write_all(partial, plans, split, seed, size, workers, progress)
    counted = Counter(row[COLUMNS.index("class")] for slice_ in written for row in slice_.rows)
    return {
        "path": out,
        "images": {s: sum(len(p.shots) for p in plans if split[p.number] == s) for s in SPLITS},
        "patients": {s: sum(v == s for v in split.values()) for s in SPLITS},
        "labels": {name: counted[name] for name in CLASS_NAMES},
    }
