"""Readers beside a model: the same table for each, McNemar's test, non-inferiority, kappa between readers.

Written for this project; the definitions and the form of the CSV (columns reader, image, class, and x1, y1, x2, y2 for
boxes) stand in `evaluate.validation.readers` and `reader_files.read_readings`. The dataset is only read. Example:
`python scripts/readers.py other.yaml --split test --predictions predictions.json --readers readers.csv
--thresholds chosen/thresholds.json --margin 0.05 --out readers`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from yolospine_ultra.data.labels import Problem
from yolospine_ultra.evaluate.command import fraction, run_command
from yolospine_ultra.evaluate.dataset_files import SPLITS
from yolospine_ultra.evaluate.intervals import PATIENT, patients_of
from yolospine_ultra.evaluate.study import read_study
from yolospine_ultra.evaluate.validation.operating_points import read_thresholds
from yolospine_ultra.evaluate.validation.plots import save_readers
from yolospine_ultra.evaluate.validation.reader_files import read_readings, read_seconds
from yolospine_ultra.evaluate.validation.readers import MARGIN, reader_report
from yolospine_ultra.evaluate.validation.readers_report import format_readers


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
    parser.add_argument(
        "--readers", type=Path, required=True, help="CSV with reader,image,class and for boxes x1,y1,x2,y2"
    )
    parser.add_argument(
        "--read-all", action="store_true", help="images without a row of a reader were read, and nothing found"
    )
    parser.add_argument(
        "--margin", type=fraction, default=MARGIN, help=f"of non-inferiority, a difference of shares (default {MARGIN})"
    )
    parser.add_argument("--iou", type=fraction, default=0.5, help="least IoU of a match (default 0.5)")
    points = parser.add_mutually_exclusive_group()
    points.add_argument("--conf", type=fraction, default=0.25, help="least score of a prediction (default 0.25)")
    points.add_argument(
        "--thresholds", type=Path, help="least score of each class, of external_validation.py --choose-thresholds"
    )
    parser.add_argument(
        "--ungraded", action="append", default=[], metavar="CLASS",
        help="class that nobody graded in these images, which is left out; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--patient",
        default=PATIENT,
        help="expression whose group finds the patient in an image's name (default: before its first _)",
    )
    parser.add_argument(
        "--seconds", help="seconds a scan: the model's as a number, or a CSV with reader,image,seconds (reader `model`)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    parser.add_argument("--out", type=Path, help="folder for report.json and pictures")
    return parser.parse_args()


def study(args: argparse.Namespace, problems: list[Problem]) -> tuple[dict, str]:
    """The report."""
    s = read_study(
        args.data, args.split, args.data_root, args.predictions, args.ungraded, args.first_category, problems.append
    )
    points = read_thresholds(args.thresholds, s.names)[0] if args.thresholds else np.full(len(s.names), args.conf)
    readings = read_readings(args.readers, s.truth, s.names, problems.append, args.read_all, args.ungraded)
    patients = patients_of([x.name for x in s.truth], args.patient)
    report = reader_report(s.truth, s.found, points, readings, s.names, patients, args.margin, args.iou)
    if args.seconds:
        report["seconds"] = read_seconds(args.seconds, s.truth, problems.append)
    report = {"split": args.split, **report, "notes": s.notes + report["notes"]}
    if args.out:
        save_readers(report, args.out)
    return report, format_readers(report)


def main() -> int:
    """Do it, print, write; 2 where the input cannot be used."""
    args = arguments()
    return run_command(lambda problems: study(args, problems), args.out, args.json)


if __name__ == "__main__":
    raise SystemExit(main())
