"""External validation of a model's predictions: agreement, sensitivity and specificity, FROC, operating points.

Written for this project; the definitions stand in `evaluate.validation` (`external`, `rating`, `rates`, `froc`,
`operating_points`). The dataset is only read. Example, thresholds from validation images, numbers from others:

    yolo val model=best.pt data=spider-lumbar.yaml data_root=DIR save_json=True
    python scripts/external_validation.py spider-lumbar.yaml --data-root DIR --predictions VAL/predictions.json \
        --choose-thresholds f1 --out chosen
    python scripts/external_validation.py other.yaml --split test --predictions OTHER/predictions.json \
        --thresholds chosen/thresholds.json --out external
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from yolospine_ultra.data.labels import Problem
from yolospine_ultra.evaluate.command import fraction, run_command
from yolospine_ultra.evaluate.dataset_files import SPLITS
from yolospine_ultra.evaluate.intervals import PATIENT, patients_of
from yolospine_ultra.evaluate.study import Study, read_study
from yolospine_ultra.evaluate.validation.external import external_report, format_external
from yolospine_ultra.evaluate.validation.froc import Ranked, rank
from yolospine_ultra.evaluate.validation.operating_points import (
    Criterion,
    choose_thresholds,
    read_thresholds,
    write_thresholds,
)
from yolospine_ultra.evaluate.validation.plots import save_external
from yolospine_ultra.evaluate.validation.reader_files import read_seconds


def criterion(text: str) -> Criterion:
    """A criterion of `operating_points`."""
    try:
        return Criterion.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="dataset YAML, or the name of one of the plugin's")
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="val", help="default: val")
    parser.add_argument("--data-root", type=Path, help="folder in place of the YAML's path")
    parser.add_argument(
        "--predictions", type=Path, required=True, help="COCO detection JSON, as `yolo val save_json=True` writes it"
    )
    parser.add_argument("--first-category", type=int, default=1, help="its category_id of class 0 (default 1)")
    parser.add_argument("--iou", type=fraction, default=0.5, help="least IoU of a match (default 0.5)")
    parser.add_argument("--conf", type=fraction, default=0.25, help="least score of a prediction (default 0.25)")
    points = parser.add_mutually_exclusive_group()
    points.add_argument("--thresholds", type=Path, help="least score of each class, as --choose-thresholds wrote it")
    points.add_argument(
        "--choose-thresholds", type=criterion, metavar="CRITERION",
        help="choose them on these images and write OUT/thresholds.json: f1, the greatest F1, or fp=X, the least with "
        "at most X false positives an image",
    )  # fmt: skip
    parser.add_argument(
        "--ungraded", action="append", default=[], metavar="CLASS",
        help="class that nobody graded in these images, which is left out; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--patient",
        default=PATIENT,
        help="expression whose group finds the patient in an image's name (default: before its first _)",
    )
    parser.add_argument("--seconds", help="seconds a scan, measured elsewhere: a number, or a CSV with image,seconds")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    parser.add_argument("--out", type=Path, help="folder for report.json, pictures and chosen thresholds")
    args = parser.parse_args()
    if args.choose_thresholds and not args.out:
        parser.error("--choose-thresholds needs --out, the folder that thresholds.json is written to")
    return args


def operating_point(
    args: argparse.Namespace, s: Study, ranked: list[Ranked], patients: list[str]
) -> tuple[np.ndarray, list[str], dict | None]:
    """Thresholds (C,), read, chosen, or one for all classes; notes on them; and what was chosen."""
    if args.thresholds:
        thresholds, used = read_thresholds(args.thresholds, s.names)
        same = len(used & set(patients))
        note = f"Thresholds were chosen on {same} patients of these names: optimistic if they are the same."
        return thresholds, [note] if same else [], None
    if not args.choose_thresholds:
        return np.full(len(s.names), args.conf), [], None
    chosen = choose_thresholds(ranked, s.names, patients, args.choose_thresholds, args.conf)
    notes = [f"Thresholds ({args.choose_thresholds}) were chosen on these same images: optimistic."]
    notes += [f"Threshold of {n}: {c['why']} {args.conf:g}." for n, c in chosen["classes"].items() if "why" in c]
    return np.array([c["threshold"] for c in chosen["classes"].values()]), notes, chosen


def study(args: argparse.Namespace, problems: list[Problem]) -> tuple[dict, str]:
    """The report; thresholds are written where they were chosen."""
    s = read_study(
        args.data, args.split, args.data_root, args.predictions, args.ungraded, args.first_category, problems.append
    )
    patients = patients_of([x.name for x in s.truth], args.patient)
    ranked = rank(s.truth, s.found, len(s.names), args.iou)
    thresholds, notes, chosen = operating_point(args, s, ranked, patients)
    report = external_report(s.truth, s.found, s.names, thresholds, ranked, patients, args.iou)
    if args.seconds:
        report["seconds"] = read_seconds(args.seconds, s.truth, problems.append)
    report = {"split": args.split, **report, "notes": s.notes + notes + report["notes"]}
    if args.out:
        save_external(report, args.out)
    if chosen:
        write_thresholds(chosen, args.out / "thresholds.json")
    return report, format_external(report)


def main() -> int:
    """Do it, print, write; 2 where the input cannot be used."""
    args = arguments()
    return run_command(lambda problems: study(args, problems), args.out, args.json)


if __name__ == "__main__":
    raise SystemExit(main())
