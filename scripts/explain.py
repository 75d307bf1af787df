"""Why a model found what it found: GradCAM, GradCAM++ and LayerCAM of single findings, and how far to trust each map.

Written for this project; definitions stand in `yolospine_ultra.explain`. Beside each map stand the share of it in the
box, deletion and insertion with a random map's in brackets, how it differs from the maps of other classes, and what
is left of it when the weights are shuffled. A map that is the same for another class is an error and is not drawn; the
command then ends with status 1. The model and the images are only read. Needs the extra `explain`. Examples:

    python scripts/explain.py spider-lumbar.yaml --data-root DIR --weights best.pt --out explained
    python scripts/explain.py --images FOLDER --weights best.pt --select all --classes LDB --out explained
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from yolospine_ultra.data.labels import Problem
from yolospine_ultra.evaluate.command import fraction, run_command
from yolospine_ultra.evaluate.dataset_files import SPLITS
from yolospine_ultra.evaluate.images import read_folder, read_labelled
from yolospine_ultra.evaluate.intervals import PATIENT
from yolospine_ultra.explain.cam import METHODS, require_library
from yolospine_ultra.explain.load import load_explained
from yolospine_ultra.explain.plots import PanelWriter
from yolospine_ultra.explain.report import explain_report, format_report, save_rows
from yolospine_ultra.explain.study import SELECTIONS, Settings, explain_images


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("data", nargs="?", help="dataset YAML, or the name of one of the plugin's")
    source.add_argument("--images", type=Path, help="in its place, a folder of images without labels")
    parser.add_argument("--weights", type=Path, required=True, help="of a YOLO, RT-DETR, YOLOspine, or the benchmark's")
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="val", help="(default val)")
    parser.add_argument("--data-root", type=Path, help="folder in place of the YAML's path")
    parser.add_argument("--patient", default=PATIENT, help="finds the patient in an image's name (before the first _)")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS), help="(default: all)")
    parser.add_argument(
        "--select",
        choices=SELECTIONS,
        default="best",
        help="best prediction of each class in an image, all, or those matched with a label (default best)",
    )
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="classes to explain (default: all)")
    parser.add_argument("--conf", type=fraction, default=0.25, help="least score (default 0.25)")
    parser.add_argument(
        "--layer", metavar="NAME", help="module explained at stage 1, as model.16 (default: what the head reads)"
    )
    parser.add_argument("--nms-free", action="store_true", help="the branch without suppression of YOLOv10 and YOLO26")
    parser.add_argument("--imgsz", type=int, help="input size, pixels (default: what the model was trained with)")
    parser.add_argument(
        "--curves",
        type=fraction,
        default=0.05,
        help="share of findings, drawn at random, with deletion and insertion, the slow part (default 0.05)",
    )
    parser.add_argument("--device", default="cpu", help="(default cpu)")
    parser.add_argument("--seed", type=int, default=0, help="of shuffled weights, random maps, bootstrap (default 0)")
    parser.add_argument("--credit", default="", help="line below each panel, such as the images' source")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    parser.add_argument("--out", type=Path, help="folder for report.json, explanations.json and .csv, and panels")
    return parser.parse_args()


def study(args: argparse.Namespace, problems: list[Problem]) -> tuple[dict, str]:
    """Read, explain, report."""
    require_library()
    if args.images:
        images = read_folder(args.images, problems.append)
    else:
        images = read_labelled(args.data, args.split, args.data_root, args.patient, problems.append)
    model = load_explained(args.weights, args.device, args.imgsz, images.classes, args.nms_free, args.layer)
    classes = tuple(args.classes) if args.classes else None
    settings = Settings(tuple(args.methods), args.select, args.conf, classes, args.curves, args.seed)
    with PanelWriter(args.out / "panels", args.credit) if args.out else nullcontext() as show:
        rows = explain_images(images, model, settings, show, progress=True)
    report = {"data": str(args.images or args.data), "split": None if args.images else args.split}
    report |= {"weights": str(args.weights)} | explain_report(images, model, settings, rows)
    if args.out:
        save_rows(rows, args.out)
    return report, format_report(report)


def main() -> int:
    """Do it, print, write; 1 where a map does not depend on the class, 2 where the input cannot be used."""
    args = arguments()
    refused = []

    def run(problems: list[Problem]) -> tuple[dict, str]:
        report, text = study(args, problems)
        refused.append(report["class_independent"])
        return report, text

    return run_command(run, args.out, args.json) or int(bool(refused[0]))


if __name__ == "__main__":
    raise SystemExit(main())
