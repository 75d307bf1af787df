"""Overlapping findings of a dataset, and how well a model's predictions find them: tables, curves, pictures.

Written for this project; the definitions stand in `yolospine_ultra.evaluate.overlap`. The dataset is only read.
Example: `python scripts/analyze_overlap.py spine-phantom.yaml --data-root datasets/spine-phantom --out overlap`, and
with the file that `yolo val ... save_json=True` wrote: `... --predictions runs/detect/val/predictions.json`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yolospine_ultra.data.labels import Problem
from yolospine_ultra.evaluate.command import fraction, run_command
from yolospine_ultra.evaluate.dataset_files import SPLITS
from yolospine_ultra.evaluate.findings import read_dataset, read_predictions
from yolospine_ultra.evaluate.overlap.pairs import PAIRINGS, TAU_ANAT, rules_by_class
from yolospine_ultra.evaluate.overlap.plots import save_plots
from yolospine_ultra.evaluate.overlap.report import default_rules, format_report, overlap_report, recall_report


def rule(text: str) -> tuple[tuple[str, str], float]:
    """`A+B=0.2` as the two class names and tau_spatial."""
    pair, _, tau = text.rpartition("=")
    first, _, second = pair.partition("+")
    if not first or not second:
        raise argparse.ArgumentTypeError(f"{text}: expected CLASS+CLASS=TAU, such as SS+LDB=0.18")
    return (first, second), fraction(tau)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="dataset YAML, or the name of one of the plugin's")
    parser.add_argument("--split", choices=(*SPLITS, "all"), help="default: all, with --predictions val")
    parser.add_argument("--data-root", type=Path, help="folder in place of the YAML's path")
    parser.add_argument("--predictions", type=Path, help="COCO detection JSON, as `yolo val save_json=True` writes it")
    parser.add_argument("--first-category", type=int, default=1, help="its category_id of class 0 (default 1)")
    parser.add_argument("--iou", type=fraction, default=0.5, help="least IoU of a found finding (default 0.5)")
    parser.add_argument("--conf", type=fraction, default=0.25, help="least score of a prediction (default 0.25)")
    parser.add_argument(
        "--tau",
        type=fraction,
        help="tau_spatial of every two classes (default: the paper's rules for its classes, otherwise 0.15)",
    )
    parser.add_argument(
        "--rule",
        type=rule,
        action="append",
        help="tau_spatial of two classes, CLASS+CLASS=TAU; may be repeated, then only these",
    )
    parser.add_argument(
        "--tau-anat", type=fraction, default=TAU_ANAT, help=f"least A of compatible classes (default {TAU_ANAT})"
    )
    parser.add_argument(
        "--pairing", choices=tuple(PAIRINGS), default="touching", help="which boxes co-occur (default touching)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    parser.add_argument("--out", type=Path, help="folder for report.json and pictures")
    return parser.parse_args()


def study(args: argparse.Namespace, problems: list[Problem]) -> tuple[dict, str]:
    """Find the pairs, and what predictions find of them."""
    split = args.split or ("val" if args.predictions else "all")
    images, names = read_dataset(args.data, split, args.data_root, problems.append)
    rules = rules_by_class(dict(args.rule), names) if args.rule else default_rules(names, args.tau)
    report = {"split": split} | overlap_report(images, names, rules, args.tau_anat, args.pairing)
    if args.predictions:
        found = read_predictions(args.predictions, images, len(names), problems.append, args.first_category)
        report["recall"] = recall_report(images, found, names, rules, args.iou, args.conf, args.tau_anat, args.pairing)
    if args.out:
        save_plots(report, args.out)
    return report, format_report(report)


def main() -> int:
    """Do it, print, write; 2 where the input cannot be used."""
    args = arguments()
    return run_command(lambda problems: study(args, problems), args.out, args.json)


if __name__ == "__main__":
    raise SystemExit(main())
