"""Overlapping findings of a dataset, and how well a model's predictions find them: tables, curves, pictures.

Written for this project; the definitions stand in `yolospine_ultra.evaluate.overlap`. The dataset is only read.
Example: `python scripts/analyze_overlap.py spine-phantom.yaml --data-root datasets/spine-phantom --out overlap`, and
with the file that `yolo val ... save_json=True` wrote: `... --predictions runs/detect/val/predictions.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.data.labels import Problem, count_problems
from yolospine_ultra.evaluate.dataset_files import SPLITS
from yolospine_ultra.evaluate.findings import read_dataset, read_predictions
from yolospine_ultra.evaluate.overlap import PAIRINGS, TAU_ANAT, rules_by_class
from yolospine_ultra.evaluate.overlap_plots import save_plots
from yolospine_ultra.evaluate.overlap_report import default_rules, format_report, overlap_report, recall_report

SHOWN = 20  # problems that are named on the terminal; the JSON has all


def share(text: str) -> float:
    """A number within 0..1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 0 to 1")
    return value


def rule(text: str) -> tuple[tuple[str, str], float]:
    """`A+B=0.2` as the two class names and tau_spatial."""
    pair, _, tau = text.rpartition("=")
    first, _, second = pair.partition("+")
    if not first or not second:
        raise argparse.ArgumentTypeError(f"{text}: expected CLASS+CLASS=TAU, such as SS+LDB=0.18")
    return (first, second), share(tau)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="dataset YAML, or the name of one of the plugin's")
    parser.add_argument("--split", choices=(*SPLITS, "all"), help="default: all, with --predictions val")
    parser.add_argument("--data-root", type=Path, help="folder in place of the YAML's path")
    parser.add_argument("--predictions", type=Path, help="COCO detection JSON, as `yolo val save_json=True` writes it")
    parser.add_argument("--first-category", type=int, default=1, help="its category_id of class 0 (default 1)")
    parser.add_argument("--iou", type=share, default=0.5, help="least IoU of a found finding (default 0.5)")
    parser.add_argument("--conf", type=share, default=0.25, help="least score of a prediction (default 0.25)")
    parser.add_argument(
        "--tau",
        type=share,
        help="tau_spatial of every two classes (default: the paper's rules for its classes, otherwise 0.15)",
    )
    parser.add_argument(
        "--rule",
        type=rule,
        action="append",
        help="tau_spatial of two classes, CLASS+CLASS=TAU; may be repeated, then only these",
    )
    parser.add_argument(
        "--tau-anat", type=share, default=TAU_ANAT, help=f"least A of compatible classes (default {TAU_ANAT})"
    )
    parser.add_argument(
        "--pairing", choices=tuple(PAIRINGS), default="touching", help="which boxes co-occur (default touching)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    parser.add_argument("--out", type=Path, help="folder for report.json and pictures")
    return parser.parse_args()


def main() -> int:
    """Analyse, print, write; 2 where the input cannot be used."""
    args = arguments()
    problems: list[Problem] = []
    try:
        split = args.split or ("val" if args.predictions else "all")
        images, names = read_dataset(args.data, split, args.data_root, problems.append)
        rules = rules_by_class(dict(args.rule), names) if args.rule else default_rules(names, args.tau)
        report = {"split": split} | overlap_report(images, names, rules, args.tau_anat, args.pairing)
        if args.predictions:
            found = read_predictions(args.predictions, images, len(names), problems.append, args.first_category)
            report["recall"] = recall_report(
                images, found, names, rules, args.iou, args.conf, args.tau_anat, args.pairing
            )
        report["problems"] = {"counts": count_problems(problems), "list": [str(p) for p in problems]}
        text = json.dumps(report, indent=2, allow_nan=False)
        if args.out:
            save_plots(report, args.out)
            AtomicPath(args.out / "report.json").write_bytes(text.encode())
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for problem in problems[:SHOWN]:
        print(f"warning: {problem}", file=sys.stderr)
    if problems:
        counts = ", ".join(f"{n} {kind}" for kind, n in count_problems(problems).items())
        print(f"warning: {len(problems)} problems in the input: {counts}", file=sys.stderr)
    print(text if args.json else format_report(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
