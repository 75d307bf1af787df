"""How much models lose when MR images get worse: noise, motion, bias field, Gibbs ringing, contrast, four levels each.

Written for this project; definitions stand in `yolospine_ultra.robustness`. With labels it measures mAP and its drop,
without only what of the clean detections is kept. Images and models are only read. With `--out`, what is measured is
written as it comes, and the same command goes on after an interruption. Examples:

    python scripts/robustness.py spider-lumbar.yaml --data-root DIR --models ours=best.pt stock=yolov8n.pt --out robust
    python scripts/robustness.py --images FOLDER --models best.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from yolospine_ultra.benchmark.detectors import digest, load_detector, name_models
from yolospine_ultra.data.labels import Problem
from yolospine_ultra.evaluate.command import fraction, run_command, whole_from
from yolospine_ultra.evaluate.dataset_files import SPLITS
from yolospine_ultra.evaluate.images import read_folder, read_image, read_labelled
from yolospine_ultra.evaluate.intervals import PATIENT
from yolospine_ultra.robustness.degrade import DEGRADATIONS, conditions
from yolospine_ultra.robustness.plots import save_plots
from yolospine_ultra.robustness.report import format_report, robustness_report
from yolospine_ultra.robustness.study import Cells, Settings, cell_key, run_study


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("data", nargs="?", help="dataset YAML, or the name of one of the plugin's")
    source.add_argument("--images", type=Path, help="in its place, a folder of images without labels")
    parser.add_argument("--models", nargs="+", required=True, metavar="[NAME=]FILE", help="weights that YOLO loads")
    parser.add_argument("--baseline", metavar="NAME", help="of corruption errors (default: the last of several models)")
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="val", help="(default val)")
    parser.add_argument("--data-root", type=Path, help="folder in place of the YAML's path")
    parser.add_argument("--patient", default=PATIENT, help="finds the patient in an image's name (before the first _)")
    parser.add_argument("--types", nargs="+", choices=tuple(DEGRADATIONS), help="(default: all)")
    parser.add_argument("--imgsz", type=int, help="input size, pixels (default: what each model was trained with)")
    parser.add_argument("--device", default="cpu", help="(default cpu)")
    parser.add_argument("--seed", type=whole_from(0), default=0, help="of degradations and bootstrap (default 0)")
    parser.add_argument("--conf", type=fraction, default=0.25, help="least score, but for mAP (default 0.25)")
    parser.add_argument("--credit", default="", help="line below the slices in the picture, such as their source")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    parser.add_argument("--out", type=Path, help="folder for cells, report.json and pictures")
    return parser.parse_args()


def study(args: argparse.Namespace, problems: list[Problem]) -> tuple[dict, str]:
    """Read, measure what is missing, report."""
    files, chosen = name_models(args.models), conditions(args.types)
    baseline = args.baseline or (list(files)[-1] if len(files) > 1 else None)
    if baseline is not None and baseline not in files:
        raise ValueError(f"--baseline {baseline} is none of the models {', '.join(files)}.")
    if args.images:
        images = read_folder(args.images, problems.append)
    else:
        images = read_labelled(args.data, args.split, args.data_root, args.patient, problems.append)
    settings = Settings(seed=args.seed, conf=args.conf, imgsz=args.imgsz)
    detectors = {m: load_detector(f, args.device, args.imgsz, images.classes) for m, f in files.items()}
    cells = Cells({m: cell_key(images, settings, digest(f)) for m, f in files.items()}, args.out)
    run_study(images, detectors, chosen, settings, cells, progress=True)
    weights = {m: str(f) for m, f in files.items()}
    report = {"data": str(args.images or args.data), "split": None if args.images else args.split}
    report |= robustness_report(images, weights, chosen, settings, cells, baseline)
    if args.out:
        shown = int(np.argmax([len(x) for x in images.truth])) if images.truth else 0  # most findings show most
        save_plots(report, args.out, read_image(images.files[shown]), args.seed, args.credit)
    return report, format_report(report)


def main() -> int:
    """Do it, print, write; 2 where the input cannot be used."""
    args = arguments()
    return run_command(lambda problems: study(args, problems), args.out, args.json)


if __name__ == "__main__":
    raise SystemExit(main())
