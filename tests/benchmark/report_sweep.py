"""A small sweep on disk, written by hand, for the tests of the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from yolospine_ultra.benchmark.family import ModelEntry
from yolospine_ultra.benchmark.records import (
    Record,
    Sweep,
    Truth,
    cell_name,
    write_json,
    write_predictions,
    write_record,
    write_sweep,
    write_truth,
)
from yolospine_ultra.evaluate.findings import ImageFindings

NAMES = ("DDD", "SS", "LDB")  # SS is not labelled
MODELS = ("yolov8n", "yolospine-n", "yolospine-noa2-n", "yolo11n")
SEEDS = (0, 1)

SUMMARY = """\
dataset,model,scale,metric,class,n,mean,sd,ci_low,ci_high
toy,yolov8n,n,map50_95,all,2,0.31,0.01,0.22,0.4
toy,yolov8n,n,map50_95,DDD,2,0.3,0.02,0.12,0.48
toy,yolov8n,n,map50_95,SS,0,,,,
toy,yolov8n,n,map50_95,LDB,2,0.32,0.04,-0.04,0.68
toy,yolov8n,n,map50,all,2,0.5,0.02,0.32,0.68
toy,yolov8n,n,macro_f1,all,2,0.4,0.01,0.31,0.49
toy,yolov8n,n,recall_fp1,all,2,0.4,0.01,0.31,0.49
toy,yolov8n,n,parameters,all,2,3157200,0,3157200,3157200
toy,yolov8n,n,seconds_epoch,all,2,10,1,1,19
toy,yolov8n,n,seconds_train,all,2,600,60,60,1140
toy,yolov8n,n,memory_train_rss,all,2,2048,0,2048,2048
toy,yolospine-n,n,map50_95,all,2,0.42,0.01,0.33,0.51
toy,yolospine-n,n,map50_95,DDD,2,0.4,0.02,0.22,0.58
toy,yolospine-n,n,map50_95,LDB,2,0.44,0.03,0.17,0.71
toy,yolospine-n,n,map50,all,2,0.6,0.02,0.42,0.78
toy,yolospine-n,n,macro_f1,all,2,0.5,0.01,0.41,0.59
toy,yolospine-n,n,parameters,all,2,1980000,0,1980000,1980000
toy,yolospine-noa2-n,n,map50_95,all,2,0.4,0.01,0.31,0.49
toy,yolo11n,n,map50_95,all,2,0.35,0.01,0.26,0.44
toy,yolo11n,n,map50_95,DDD,2,0.4,0.02,0.22,0.58
"""
COMPARISONS = """\
dataset,a,b,metric,diff,ci_low,ci_high
toy,yolov8n,yolospine-n,map50_95,-0.11,-0.18,-0.02
toy,yolospine-n,yolo11n,map50_95,0.07,-0.01,0.15
toy,yolospine-n,yolospine-noa2-n,map50_95,0.02,-0.03,0.06
toy,yolov8n,yolo11n,map50_95,-0.04,-0.1,0.02
toy,yolospine-n,yolov8n,map50,0.1,0.02,0.2
toy,yolov8n,yolospine-n,recall_fp1,-0.09,-0.17,-0.01
"""
RANKS = """\
dataset,model,metric,n,mean_rank,ci_low,ci_high
toy,yolov8n,map50_95,2,3.5,3,4
toy,yolospine-n,map50_95,2,1.25,1,2
toy,yolo11n,map50_95,2,3,2,4
"""


def make_sweep(models: tuple[str, ...] = MODELS, **changes: object) -> Sweep:
    """The protocol; `changes` replace fields."""
    entries = {
        m: ModelEntry(m, "ultralytics", {"yaml": f"{m}.yaml"}, scale="n", note="a <b>note</b> | with, marks")
        for m in models
    }
    sweep = Sweep(
        dataset="toy", fingerprint="ab" * 32, names=dict(enumerate(NAMES)), channels=3, folds=None,
        budget={"epochs": 60, "imgsz": 64, "batch": 4, "device": "cpu", "threads": 1, "workers": 0},
        recipe={"optimizer": "AdamW"}, conf=0.25, environment={"torch": "2.14.1", "gpus": []}, commit="abc",
        command="python scripts/benchmark_all.py --models 'yolo*n' && echo <done>", models=entries,
    )  # fmt: skip
    return replace(sweep, **changes)


def make_record(model: str, seed: int, **changes: object) -> Record:
    """A finished cell."""
    record = Record(
        cell=cell_name(model, seed, None), dataset="toy", model=model, family="ultralytics", scale="n", seed=seed,
        fold=None, status="done", images={"train": 8, "val": 3}, patients={"train": 4, "val": 2},
        classes={"DDD": {"ground_truth": 30}, "SS": {"ground_truth": 0}, "LDB": {"ground_truth": 5}},
        confusion=[[20, 0, 5, 5], [0, 0, 0, 0], [1, 0, 3, 1], [4, 0, 2, 0]], seconds={"epoch": 10.0},
        parameters=1980000,
    )  # fmt: skip
    return replace(record, **changes)


def truth() -> list[ImageFindings]:
    """Labels of three images."""
    box = np.array([[8.0, 8, 40, 24], [8, 30, 40, 48]])
    return [ImageFindings(f"{i}.png", box + i, np.array([0, 2])) for i in range(3)]


def detections(good: int) -> list[ImageFindings]:
    """Detections that are right on the first `good` images and shifted far on the others."""
    return [
        ImageFindings(t.name, t.boxes + (0 if i < good else 20), t.classes, np.array([0.9, 0.8]))
        for i, t in enumerate(truth())
    ]


def write_small_sweep(folder: Path, sweep: Sweep | None = None) -> Path:
    """Write the sweep's files; returns the folder."""
    sweep = sweep or make_sweep()
    write_sweep(folder, sweep)
    write_truth(folder, Truth(truth(), ["p1", "p1", "p2"], [None] * 3), NAMES)
    for model in sweep.models:
        for seed in SEEDS:
            record = make_record(model, seed)
            write_record(folder, record)
            write_predictions(folder, record.cell, detections(2 if "spine" in model else 1), [1, 2, 3])
    for name, text in (("summary", SUMMARY), ("comparisons", COMPARISONS), ("ranks", RANKS)):
        head, *lines = text.splitlines(keepends=True)
        known = [x for x in lines if set(_models_of(name, x)) <= sweep.models.keys()]
        (folder / f"{name}.csv").write_text(head + "".join(known))
    latency = {"median_ms": 40.0, "q1_ms": 38.0, "q3_ms": 44.0, "rounds_ms": [40, 41], "calls": 10, "trained": True}
    write_json(folder / "latency.json", {"format": 1, "models": dict.fromkeys(list(sweep.models)[:2], latency)})
    specs = {
        m: {"parameters": 1, "flops": (i + 2) * 10**9, "regions": 300 * (i == 1)} for i, m in enumerate(sweep.models)
    }
    write_json(folder / "specs.json", {"imgsz": 64, "nc": 3, "models": specs})
    return folder


def _models_of(name: str, line: str) -> list[str]:
    """The models that a line of a CSV names."""
    fields = line.split(",")
    return fields[1:3] if name == "comparisons" else fields[1:2]


def write_images(folder: Path) -> Path:
    """The three images as files; returns the folder."""
    folder.mkdir(parents=True)
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((64, 64), 60 * i, np.uint8))
    return folder
