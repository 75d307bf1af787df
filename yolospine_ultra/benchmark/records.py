"""What a sweep leaves on disk: its protocol, one record a cell, and the files from which tables and plots are made.

    results/<sweep>/
      sweep.json              protocol: data, budget, common recipe, model rows, environment (`Sweep`)
      ground_truth.json       COCO ground truth of every evaluated image; images carry `patient` and `fold`, too
      cells/<cell>/record.json       one trained and evaluated model (`Record`)
      cells/<cell>/predictions.json  its detections, COCO detection JSON with `file_name`, at most 300 an image
      latency.json            whole predict calls in interleaved rounds, {model: {median_ms, q1_ms, q3_ms, ...}}
      summary.csv             dataset, model, scale, metric, class, n, mean, sd, ci_low, ci_high
      comparisons.csv         dataset, a, b, metric, diff, ci_low, ci_high (a minus b)
      ranks.csv               dataset, model, metric, n, mean_rank, ci_low, ci_high
      work/                   weights, logs and views of the data; not for keeping, ignored by git

A cell is named `<model>_seed<seed>`, with `_fold<fold>` behind it where there are folds. Category ids count from 1 in
the order of the class names, as the host's `save_json` writes them; `image_id` is that of `ground_truth.json`. Every
file is written whole or not at all. What is measured is what `predictions.json` holds, so that every number can be made
again from the folder. Written for this project.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from yolospine_ultra.benchmark.family import ModelEntry
from yolospine_ultra.benchmark.metrics import to_coco, to_coco_results
from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.evaluate.findings import ImageFindings

FORMAT = 1  # of the files; another one is refused
ELSEWHERE = ("environment.", "budget.device", "budget.threads", "budget.workers", "budget.jobs")  # the machine's
DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class Sweep:
    """What all cells of a sweep share; two that differ here are never mixed in one folder.

    Attributes:
        dataset: name of the data, the stem of its YAML.
        fingerprint: SHA-256 of names, images and labels, see `benchmark.dataset.BenchmarkData.fingerprint`.
        names: class names by index.
        channels: image channels.
        folds: number of folds, None for one training on the train split, evaluated on val.
        budget: epochs, imgsz, batch, device, threads, workers and jobs.
        recipe: training arguments common to all models, in Ultralytics' names.
        conf: least score of a prediction in the confusion matrix and what is made from it; mAP uses all.
        environment: versions and hardware that results may depend on, see `benchmark.environment`.
        commit: commit of the program's source, "" outside a repository; with "+dirty" where files differ from it.
        command: the command that began the sweep.
        initial: where trainings begin with the weights of another sweep: its `sweep` (folder, relative to this one),
            `dataset`, `fingerprint`, `epochs` and `imgsz`; empty for trainings from scratch.
        models: every row by name; rows may be added later, the only thing that may.
        format: of the files.
    """

    dataset: str
    fingerprint: str
    names: dict[int, str]
    channels: int
    folds: int | None
    budget: dict[str, Any]
    recipe: dict[str, Any]
    conf: float
    environment: dict[str, Any]
    commit: str
    command: str
    models: dict[str, ModelEntry]
    format: int = FORMAT
    initial: dict[str, Any] = field(default_factory=dict)

    @property
    def class_names(self) -> list[str]:
        """Class names in the order of their indices."""
        return [self.names[i] for i in sorted(self.names)]

    def differences(self, other: Sweep, elsewhere: bool = False) -> list[str]:
        """What keeps cells of `other` out of this sweep, each as "key: this, not that".

        Args:
            other: another sweep.
            elsewhere: it may have been run on another machine: `ELSEWHERE` does not count.
        """
        ours, theirs = (s._identity(elsewhere) for s in (self, other))
        found = [f"{k}: {ours.get(k)}, not {theirs.get(k)}" for k in ours | theirs if ours.get(k) != theirs.get(k)]
        both = self.models.keys() & other.models.keys()
        return found + [f"model {m} is built or trained otherwise" for m in sorted(both) if _differ(self, other, m)]

    def _identity(self, elsewhere: bool) -> dict[str, Any]:
        """Everything that must agree, flat; without what is the machine's, if it may be `elsewhere`."""
        flat: dict[str, Any] = {}
        for key in ("dataset", "fingerprint", "names", "channels", "folds", "conf", "format"):
            flat[key] = getattr(self, key)
        flat |= {f"initial.{k}": v for k, v in self.initial.items() if k != "sweep"}  # wherever that folder lies
        for part in ("budget", "recipe", "environment"):
            flat |= {f"{part}.{k}": v for k, v in getattr(self, part).items()}
        return {k: v for k, v in flat.items() if not (elsewhere and k.startswith(ELSEWHERE))}


def _differ(first: Sweep, second: Sweep, model: str) -> bool:
    """Whether two sweeps mean different detectors by one name."""
    a, b = first.models[model], second.models[model]
    return (a.family, a.build, a.recipe, a.predict) != (b.family, b.build, b.recipe, b.predict)


@dataclass(frozen=True)
class Record:
    """One cell: a model, trained with a seed and evaluated on images it has not seen.

    Attributes:
        cell: name, as the folder.
        dataset, model, family, scale: which row on what; scale is "" where a model has only one.
        seed, fold: fold is None where the sweep has no folds.
        status: `DONE`, or `FAILED` and then everything measured is empty.
        error: why it failed, one line.
        started: UTC, ISO 8601.
        images, patients: how many of each in "train" and "val".
        metrics: map50_95, map75, map50 (COCO, 101 points); accuracy, macro_f1, weighted_f1, kappa, mcc with background
            for what was missed and what is false, the same with `matched_` before them for matched boxes only;
            pair_recall, pair_precision of the paper's overlapping pairs, and one_site_recall, of two labels on one
            site; recall_fp1, pair_recall_fp1, one_site_recall_fp1 at the score that lets in one false positive an
            image. None where it is not defined on this data. Shares of 1, not percent.
        classes: by class name: map50_95, map75, map50 (None without ground truth, and then not in the mean),
            ground_truth (boxes).
        confusion: (C + 1, C + 1) counts, row = truth, column = prediction, the last of each = background.
        seconds: train (whole training), epoch (train / epochs), predict (all val images), total (of the job up to this
            record).
        memory: MiB: train_rss, predict_rss (most the process has had by the end of each), train_cuda, predict_cuda
            (most the allocator has given out; None without a GPU, and for trainings on several).
        parameters: of the network as trained, every element once.
        environment: as in `Sweep`, of the process that ran the cell, with packages of the family.
        commit, command: as in `Sweep`, of that process.
    """

    cell: str
    dataset: str
    model: str
    family: str
    scale: str
    seed: int
    fold: int | None
    status: str
    error: str = ""
    started: str = ""
    images: dict[str, int] = field(default_factory=dict)
    patients: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)
    classes: dict[str, dict[str, float | int | None]] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float | None] = field(default_factory=dict)
    parameters: int = 0
    environment: dict[str, Any] = field(default_factory=dict)
    commit: str = ""
    command: str = ""
    format: int = FORMAT


def cell_name(model: str, seed: int, fold: int | None) -> str:
    """Name of a cell and of its folder."""
    return f"{model}_seed{seed}" + ("" if fold is None else f"_fold{fold}")


def write_json(file: Path, content: Any, indent: int | None = 1) -> None:
    """Write JSON whole or not at all; NaN and infinity are refused."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=indent, allow_nan=False, separators=None if indent else (",", ":"))
    AtomicPath(file).write_bytes((text + "\n").encode())


def write_sweep(folder: Path, sweep: Sweep) -> None:
    """Write `sweep.json`, and keep `work/` out of git."""
    (folder / "work").mkdir(parents=True, exist_ok=True)
    AtomicPath(folder / "work" / ".gitignore").write_bytes(b"*\n")
    write_json(folder / "sweep.json", dataclasses.asdict(sweep))


def read_sweep(folder: str | Path) -> Sweep:
    """Read `sweep.json`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is of another format.
    """
    content = _read(Path(folder) / "sweep.json")
    content["names"] = {int(k): v for k, v in content["names"].items()}
    content["models"] = {k: ModelEntry(**v) for k, v in content["models"].items()}
    return Sweep(**content)


def write_record(folder: Path, record: Record) -> None:
    """Write a cell's record; what is not a finite number becomes None."""
    content = dataclasses.asdict(record)
    content["metrics"] = {k: _finite(v) for k, v in record.metrics.items()}
    content["classes"] = {c: {k: _finite(v) for k, v in row.items()} for c, row in record.classes.items()}
    write_json(folder / "cells" / record.cell / "record.json", content)


def _finite(value: float | None) -> float | None:
    """The value, None for NaN and infinity, which JSON does not have."""
    return value if value is not None and math.isfinite(value) else None


def read_record(folder: str | Path, cell: str) -> Record:
    """The record of a cell.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is of another format or no record.
    """
    return Record(**_read(Path(folder) / "cells" / cell / "record.json"))


def is_done(folder: str | Path, cell: str) -> bool:
    """Whether a cell has a record and has not failed."""
    file = Path(folder) / "cells" / cell / "record.json"
    return file.is_file() and read_record(folder, cell).status == DONE


def read_records(folder: str | Path) -> list[Record]:
    """Every record of a sweep, done and failed, in the order of their names.

    Raises:
        ValueError: one is of another format or no record.
    """
    return [read_record(folder, f.parent.name) for f in sorted((Path(folder) / "cells").glob("*/record.json"))]


@dataclass(frozen=True, eq=False)
class Truth:
    """Every evaluated image of a sweep.

    Attributes:
        images: labelled findings of each.
        patients: whose each is.
        folds: in which each is, None where the sweep has no folds.
    """

    images: list[ImageFindings]
    patients: list[str]
    folds: list[int | None]

    def of(self, fold: int | None) -> np.ndarray:
        """Indices of the images of a fold."""
        return np.array([i for i, f in enumerate(self.folds) if f == fold], dtype=int)


def write_truth(folder: Path, truth: Truth, names: Sequence[str]) -> None:
    """Write `ground_truth.json`; `names` are those of the classes by index."""
    content = to_coco(truth.images, len(names))
    for image, patient, fold in zip(content["images"], truth.patients, truth.folds, strict=True):
        image |= {"patient": patient, "fold": fold}
    content["categories"] = [{"id": c, "name": n} for c, n in enumerate(names, 1)]
    write_json(folder / "ground_truth.json", {"format": FORMAT, **content}, indent=None)


def read_truth(folder: str | Path) -> Truth:
    """Read `ground_truth.json`."""
    content = _read(Path(folder) / "ground_truth.json")
    rows: dict[int, list[tuple[list[float], int]]] = {x["id"]: [] for x in content["images"]}
    for a in content["annotations"]:
        x, y, w, h = a["bbox"]
        rows[a["image_id"]].append(([x, y, x + w, y + h], a["category_id"] - 1))
    made = []
    for image in content["images"]:
        boxes, classes = [r[0] for r in rows[image["id"]]], [r[1] for r in rows[image["id"]]]
        made.append(ImageFindings(image["file_name"], np.array(boxes).reshape(-1, 4), np.array(classes, dtype=int)))
    return Truth(made, [x["patient"] for x in content["images"]], [x["fold"] for x in content["images"]])


def write_predictions(folder: Path, cell: str, found: Sequence[ImageFindings], ids: Sequence[int]) -> Path:
    """Write a cell's `predictions.json`; boxes to 0.001 px, scores to 0.00001, as the host's.

    What is the same after rounding stands there once, as it is counted once when it is read.

    Args:
        folder: of the sweep.
        cell: its name.
        found: findings with scores of each image.
        ids: of each image in `ground_truth.json`.
    """
    entries = {}
    for image, number in zip(found, ids, strict=True):
        for entry in to_coco_results([image]):
            bbox = [round(v, 3) for v in entry["bbox"]]
            made = {**entry, "image_id": number, "bbox": bbox, "score": round(entry["score"], 5)}
            entries[number, entry["category_id"], made["score"], tuple(bbox)] = made
    file = folder / "cells" / cell / "predictions.json"
    write_json(file, list(entries.values()), indent=None)
    return file


def predictions_file(folder: Path, cell: str) -> Path:
    """Where a finished cell's predictions are.

    Raises:
        FileNotFoundError: they are not there.
    """
    file = folder / "cells" / cell / "predictions.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing, and a cell is measured from its predictions; committed sweeps have them in "
            "predictions.tar.xz, to be unpacked there."
        )
    return file


def _read(file: Path) -> dict[str, Any]:
    """A JSON object of this format."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; expected a folder that scripts/benchmark_all.py has written.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}; restore it from where it came.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{file} has format {found}, expected {FORMAT}; it was written by another version.")
    return content
