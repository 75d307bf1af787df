"""Writing the spine phantom as a YOLO dataset folder: images, labels, `annotations.csv`, split by patient.

Written for this project. Every patient draws from a random stream of its own, so the bytes on disk depend on the seed
alone and not on how the work is shared out. The folder is written beside its destination and renamed at the end: a
killed run leaves no half dataset under the final name.

Work is shared among threads, not processes: the data set is made from inside `exec()` in the host's `yolo` command and
from user scripts without a `__main__` guard, where a spawned process would run the user's script again. NumPy and
OpenCV release the interpreter lock for most of a slice.
"""

from __future__ import annotations

import csv
import os
import secrets
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from ultralytics.utils import TQDM

from yolospine_ultra.data.phantom import CLASS_NAMES, Finding, Patient, generate_slice, sample_patient

SPLITS = ("train", "val")
_COLUMNS = (
    *("image", "split", "patient", "sequence", "offset_mm", "level", "class"),
    *("x1", "y1", "x2", "y2", "pfirrmann", "slip_mm", "meyerding"),
)
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


def _plan_patient(seed: int, number: int, limit: int) -> _Plan:
    """Draw a patient and the one to three slices taken: T2, often T1, sometimes the neighbouring T2 slice."""
    rng = _stream(seed, number)
    patient = sample_patient(rng)
    count = int(rng.choice((1, 2, 3), p=(0.25, 0.45, 0.3)))
    beside = float(rng.uniform(*_NEIGHBOUR_MM) * rng.choice((-1, 1)))
    middle = float(rng.uniform(-1, 1))
    order = [("t2", middle, "t2"), ("t1", middle, "t1"), ("t2", beside, "t2_beside")]
    if count == 1 and rng.random() < 0.35:
        order = order[1:]
    shots = [_Shot(f"p{number:04d}_{tag}", seq, offset, k) for k, (seq, offset, tag) in enumerate(order[:count])]
    return _Plan(number, patient, tuple(shots[:limit]))


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


def label_line(finding: Finding, size: int) -> str:
    """One YOLO label line: class, centre x, centre y, width, height, normalised to 0..1 with six decimals."""
    x1, y1, x2, y2 = (v / size for v in finding.box)
    return f"{finding.class_id} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}"


def _row(finding: Finding, shot: _Shot, split: str, number: int) -> list[str]:
    """One line of `annotations.csv`."""
    box = [f"{v:.2f}" for v in finding.box]
    head = [f"{shot.name}.png", split, f"{number:04d}", shot.sequence, f"{shot.offset_mm:.2f}", finding.level]
    tail = [str(finding.pfirrmann), f"{finding.slip_mm:.2f}", str(finding.meyerding)]
    return [*head, CLASS_NAMES[finding.class_id], *box, *tail]


def _write_patient(plan: _Plan, split: str, folder: Path, seed: int, size: int) -> list[list[str]]:
    """Render and write all slices of one patient; return their rows of `annotations.csv`."""
    rows = []
    for shot in plan.shots:
        rng = _stream(seed, plan.number, shot.key)
        made = generate_slice(plan.patient, shot.sequence, shot.offset_mm, size, rng)
        ok, png = cv2.imencode(".png", made.image)
        if not ok:
            raise OSError(f"cannot encode {shot.name}.png")
        (folder / "images" / split / f"{shot.name}.png").write_bytes(png.tobytes())
        lines = "".join(label_line(f, size) + "\n" for f in made.findings)
        (folder / "labels" / split / f"{shot.name}.txt").write_text(lines, encoding="utf-8", newline="\n")
        rows += [_row(f, shot, split, plan.number) for f in made.findings]
    return rows


def _write_all(
    folder: Path, plans: list[_Plan], split: dict[int, str], seed: int, size: int, workers: int, progress: bool
) -> list[list[str]]:
    """Write every patient into `folder`; return the rows of `annotations.csv` in the order of the patients."""
    for kind in ("images", "labels"):
        for part in SPLITS:
            (folder / kind / part).mkdir(parents=True)
    rows = []
    total = sum(len(p.shots) for p in plans)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="phantom")
    bar = TQDM(total=total, desc="spine-phantom", unit="img", disable=not progress)
    try:
        jobs = [pool.submit(_write_patient, p, split[p.number], folder, seed, size) for p in plans]
        for plan, job in zip(plans, jobs, strict=True):
            rows += job.result()
            bar.update(len(plan.shots))
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()
    with (folder / "annotations.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(rows)
    return rows


def _check(out: Path, images: int, size: int, workers: int, val_fraction: float) -> None:
    """Refuse bad arguments before any work is done."""
    if images < 2:
        raise ValueError(f"images={images}: a training and a validation split need at least 2")
    if not 64 <= size <= 1024:
        raise ValueError(f"size={size}: choose 64 to 1024 pixels")
    if workers < 1:
        raise ValueError(f"workers={workers}: need at least 1")
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction={val_fraction}: choose a share between 0 and 1, both excluded")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not an empty folder; remove it or choose another one")


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
        workers: number of threads; by default one a core, at most 8.
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
    workers = min(8, os.cpu_count() or 1) if workers is None else workers
    _check(out, images, size, workers, val_fraction)
    plans = plan_patients(images, seed)
    split = split_patients(plans, val_fraction, seed)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")
    partial.mkdir(parents=True)
    try:
        rows = _write_all(partial, plans, split, seed, size, workers, progress)
        if out.is_dir():
            out.rmdir()  # empty, or this raises: someone else has filled it meanwhile
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    counted = Counter(row[_COLUMNS.index("class")] for row in rows)
    return {
        "path": out,
        "images": {s: sum(len(p.shots) for p in plans if split[p.number] == s) for s in SPLITS},
        "patients": {s: sum(v == s for v in split.values()) for s in SPLITS},
        "labels": {name: counted[name] for name in CLASS_NAMES},
    }
