"""Disc levels, Meyerding and Pfirrmann grades: fit, evaluate, apply; tables, JSON and pictures.

Written for this project; see `yolospine_ultra.evaluate.levels` and `yolospine_ultra.grading`. The dataset is only read.

    python scripts/grade.py meyerding fit spine-phantom.yaml --out meyerding        # cross-validated; writes the model
    python scripts/grade.py meyerding evaluate spine-phantom.yaml --model meyerding/meyerding.model
    python scripts/grade.py pfirrmann apply spider-lumbar.yaml --model pfirrmann.model --predictions predictions.json
    python scripts/grade.py levels evaluate spider-lumbar.yaml --data-root spider-lumbar

A model file is a pickle and can run code when loaded: use those you trust.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.data.labels import Problem
from yolospine_ultra.evaluate.command import fraction, run_command
from yolospine_ultra.evaluate.dataset_files import SPLITS, find_files
from yolospine_ultra.evaluate.findings import ImageFindings, read_dataset, read_predictions
from yolospine_ultra.evaluate.levels.assign import assign_levels
from yolospine_ultra.evaluate.levels.report import format_levels, level_report
from yolospine_ultra.evaluate.levels.spine_profile import SpineProfile, profile_text, read_profile
from yolospine_ultra.grading.apply import format_grades, grade_findings, image_files, t1_images
from yolospine_ultra.grading.boxes import read_boxes
from yolospine_ultra.grading.crops import plane_height
from yolospine_ultra.grading.grade_report import format_report
from yolospine_ultra.grading.hog_forest import FOLDS, load_model, save_model
from yolospine_ultra.grading.kinds import GRADINGS, at_predictions, beside_meyerding, evaluate_study, fit_study
from yolospine_ultra.grading.level_study import (
    REPEATS,
    fit_profile,
    format_study,
    levelled_images,
    prediction_study,
    removal_study,
)
from yolospine_ultra.grading.meyerding import KIND as MEYERDING
from yolospine_ultra.grading.meyerding import read_end_plates
from yolospine_ultra.grading.plots import save_grade_plots, save_level_accuracy, save_levels

LEVELS = "levels"
Answer = tuple[dict[str, Any], str]  # report and text


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("kind", choices=(LEVELS, *GRADINGS), help="what is graded")
    parser.add_argument("action", choices=("fit", "evaluate", "apply"))
    parser.add_argument("data", help="dataset YAML, or the name of one of the plugin's")
    parser.add_argument("--split", choices=(*SPLITS, "all"), help="default: train to fit, otherwise val")
    parser.add_argument("--data-root", type=Path, help="folder in place of the YAML's path")
    parser.add_argument("--model", type=Path, help="model that fit wrote; of levels a spine_profile.csv (optional)")
    parser.add_argument("--predictions", type=Path, help="COCO detection JSON, as `yolo val save_json=True` writes it")
    parser.add_argument("--first-category", type=int, default=1, help="its category_id of class 0 (default 1)")
    parser.add_argument("--conf", type=fraction, default=0.25, help="least score of a prediction (default 0.25)")
    defaults = ", ".join(f"{g.name} {g.minimum}" for g in GRADINGS.values())
    parser.add_argument(
        "--minimum", type=fraction, help=f"least probability of a grade that is given (default: {defaults})"
    )
    parser.add_argument("--features", nargs="+", choices=("hog", "signal"), help="to fit on (default: all there are)")
    parser.add_argument("--folds", type=int, default=FOLDS, help=f"of the cross-validation of fit (default {FOLDS})")
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"draws of removed discs (default {REPEATS})")
    parser.add_argument("--cropped", action="store_true", help="levels do not look at the image's lower edge")
    parser.add_argument("--seed", type=int, default=0, help="of forests and draws (default 0)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    parser.add_argument("--out", type=Path, help="folder for report.json, pictures, and the model of fit")
    args = parser.parse_args()
    if args.minimum is None and args.kind in GRADINGS:
        args.minimum = GRADINGS[args.kind].minimum
    args.split = args.split or ("train" if args.action == "fit" else "val")
    if args.action == "fit" and not args.out:
        parser.error("fit needs --out, the folder to write the model to")
    if args.kind != LEVELS and args.action != "fit" and not args.model:
        parser.error(f"{args.kind} {args.action} needs --model, the file that fit wrote")
    if min(args.folds - 1, args.repeats) < 1:
        parser.error("expected --folds of 2 or more and --repeats of 1 or more")
    return args


def findings(args: argparse.Namespace, problems: list[Problem]) -> tuple[list[ImageFindings], list[str]]:
    """The findings to work on, predictions where they are given, else labels; and the class names."""
    images, names = read_dataset(args.data, args.split, args.data_root, problems.append)
    if args.predictions:
        found = read_predictions(args.predictions, images, len(names), problems.append, args.first_category)
        images = [x.above(args.conf) for x in found]
    return images, names


def run_levels(args: argparse.Namespace, problems: list[Problem]) -> Answer:
    """Levels: measure a profile, count right levels, or name them."""
    profile = read_profile(args.model) if args.model else None
    if args.action == "apply":
        return apply_levels(args, problems, profile)
    boxes = read_boxes(args.data, args.split, None, args.data_root, report=problems.append)
    names = find_files(args.data, args.split, args.data_root).names
    images = levelled_images(boxes, names)
    if args.action == "fit":
        profile = fit_profile(images, names)
        AtomicPath(args.out / "spine_profile.csv").write_bytes(profile_text(profile).encode())
    report = removal_study(images, names, profile, not args.cropped, repeats=args.repeats, seed=args.seed)
    if args.predictions:
        report["predictions"] = prediction_study(images, findings(args, problems)[0], names, profile, not args.cropped)
    if args.out:
        save_level_accuracy(report, args.out)
    return report, format_study(report)


def apply_levels(args: argparse.Namespace, problems: list[Problem], profile: SpineProfile | None) -> Answer:
    """Name the level of every finding."""
    images, names = findings(args, problems)
    files = image_files(args.data, args.split, args.data_root)
    reports = []
    for image in images:
        height = None if args.cropped else plane_height(files[image.name])
        reports.append(level_report(image, names, assign_levels(image, names, height, profile)))
    if args.out:
        save_levels(reports, files, args.out)
    return {"images": reports}, "\n".join(map(format_levels, reports))


def run_grades(args: argparse.Namespace, problems: list[Problem]) -> Answer:
    """Meyerding and Pfirrmann grades: fit, evaluate, apply."""
    grading = GRADINGS[args.kind]
    if args.action == "apply":
        return apply_grades(args, problems)
    model = None if args.action == "fit" else load_model(args.model, args.kind)
    boxes, missed = grading.read(args.data, args.split, args.data_root, problems.append), None
    if args.predictions:
        boxes, missed = at_predictions(grading, boxes, *findings(args, problems))
    if model is None:
        kinds = args.features or grading.features
        model, report, found = fit_study(grading, boxes, kinds, args.minimum, args.folds, args.seed)
        save_model(model, args.out / f"{args.kind}.model")
    else:
        report, found = evaluate_study(grading, model, boxes, args.minimum)
    if missed is not None:
        report["notes"].append(f"{missed} graded boxes were not found by the detector and are not counted.")
        report["not_found"] = missed
    if args.kind == MEYERDING:
        report["beside"] = beside_meyerding(boxes, read_end_plates(args.data, args.split, args.data_root))
    if args.out:
        save_grade_plots(report, boxes, found, model.grades, grading.roman, args.out)
    return report, format_report(report, grading.roman)


def apply_grades(args: argparse.Namespace, problems: list[Problem]) -> Answer:
    """Grade predictions, or labels where none are given."""
    grading, model = GRADINGS[args.kind], load_model(args.model, args.kind)
    images, names = findings(args, problems)
    files = image_files(args.data, args.split, args.data_root)
    if args.kind != MEYERDING:
        t1 = t1_images(args.data, args.split, args.data_root, problems.append)
        images = [x for x in images if Path(x.name).name not in t1]
    rows = grade_findings(grading, model, images, names, files, args.minimum)
    return {"kind": args.kind, "minimum": args.minimum, "grades": rows}, format_grades(rows, grading.roman)


def study(args: argparse.Namespace, problems: list[Problem]) -> Answer:
    """Do what the command line asks for."""
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    report, shown = (run_levels if args.kind == LEVELS else run_grades)(args, problems)
    return {"data": str(args.data), "split": args.split} | report, shown


def main() -> int:
    """Do it, print, write; 2 where the input cannot be used."""
    args = arguments()
    return run_command(lambda problems: study(args, problems), args.out, args.json)


if __name__ == "__main__":
    raise SystemExit(main())
