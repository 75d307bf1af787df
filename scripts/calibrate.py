"""Are a model's scores what they say? D-ECE and reliability diagrams, before and after a temperature a class.

Written for this project; definitions stand in `yolospine_ultra.evaluate.calibration`. What is reported after scaling is
of patients that the temperatures were not fitted on. With `--weights` the temperatures, fitted on all patients of DATA,
go into the checkpoint, for `yolo predict model=best.pt calibrate=True`. Examples:

    yolo val model=best.pt data=spider-lumbar.yaml data_root=DIR save_json=True
    python scripts/calibrate.py spider-lumbar.yaml --data-root DIR --predictions runs/detect/val/predictions.json \\
        --weights best.pt --out calibration
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yolospine_ultra.data.labels import Problem
from yolospine_ultra.evaluate.calibration.plots import save_plots
from yolospine_ultra.evaluate.calibration.report import PatientSet, Rules, calibration_report, format_report
from yolospine_ultra.evaluate.command import fraction, run_command, whole_from
from yolospine_ultra.evaluate.dataset_files import SPLITS
from yolospine_ultra.evaluate.findings import read_dataset, read_predictions
from yolospine_ultra.evaluate.intervals import PATIENT, patients_of

RULES = Rules()


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="dataset YAML, or the name of one of the plugin's")
    parser.add_argument(
        "--predictions", type=Path, required=True, help="what `yolo val save_json=True` wrote, without calibrate"
    )
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="val", help="that they are of (default val)")
    parser.add_argument("--data-root", type=Path, help="folder in place of the YAML's path")
    parser.add_argument("--held-out-predictions", type=Path, help="of other patients, to measure on; else a cross-fit")
    parser.add_argument("--held-out-split", choices=(*SPLITS, "all"), default="test", help="(default test)")
    parser.add_argument("--first-category", type=int, default=1, help="category_id of class 0 (default 1)")
    parser.add_argument("--patient", default=PATIENT, help="finds the patient in an image's name (before the first _)")
    parser.add_argument("--iou", type=fraction, default=RULES.iou, help=f"of a right detection (default {RULES.iou})")
    parser.add_argument("--conf", type=fraction, default=RULES.conf, help=f"least score that counts ({RULES.conf})")
    parser.add_argument("--bins", type=whole_from(1), default=RULES.bins, help=f"of the score (default {RULES.bins})")
    parser.add_argument("--folds", type=whole_from(1), default=RULES.folds, help=f"of patients (default {RULES.folds})")
    parser.add_argument(
        "--least",
        type=whole_from(1),
        default=RULES.least,
        help=f"boxes of a class with its own temperature ({RULES.least})",
    )
    parser.add_argument("--weights", type=Path, help="checkpoint to put the temperatures in; it is rewritten")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--out", type=Path, help="folder for report.json and reliability.png")
    return parser.parse_args()


def read_set(
    args: argparse.Namespace, split: str, predictions: Path, problems: list[Problem]
) -> tuple[PatientSet, list[str]]:
    """A split with its predictions and patients, and the class names."""
    truth, names = read_dataset(args.data, split, args.data_root, problems.append)
    predicted = read_predictions(predictions, truth, len(names), problems.append, args.first_category)
    return PatientSet(truth, predicted, patients_of([x.name for x in truth], args.patient)), names


def study(args: argparse.Namespace, problems: list[Problem]) -> tuple[dict, str]:
    """Fit, measure, store."""
    fit, names = read_set(args, args.split, args.predictions, problems)
    held_out = None
    if args.held_out_predictions:
        held_out, _ = read_set(args, args.held_out_split, args.held_out_predictions, problems)
    rules = Rules(iou=args.iou, conf=args.conf, bins=args.bins, folds=args.folds, least=args.least)
    report = {"split": args.split} | calibration_report(fit, names, rules, held_out)
    if args.out:
        save_plots(report, args.out)
    if args.weights:  # last: a checkpoint is rewritten by a study that has come to its end
        from yolospine_ultra.engine.calibration import store_temperatures

        store_temperatures(args.weights, names, list(report["temperatures"]["classes"].values()))
    return report, format_report(report)


def main() -> int:
    """Do it, print, write; 2 where the input cannot be used."""
    args = arguments()
    return run_command(lambda problems: study(args, problems), args.out, args.json)


if __name__ == "__main__":
    raise SystemExit(main())
