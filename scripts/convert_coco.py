"""YOLO datasets to COCO JSON and back, and predictions to COCO results.

    python scripts/convert_coco.py to-coco dataset.yaml --out annotations            (one JSON a split)
    python scripts/convert_coco.py to-yolo annotations/train.json annotations/val.json --splits train val --out dataset
    python scripts/convert_coco.py results predictions.json --coco annotations/val.json --out results.json

`to-coco` takes the plugin's dataset YAMLs, too: spider-lumbar.yaml --data-root DIR. `to-yolo` copies the images that
`--images` gives, one folder for all files or one for each. `results` takes the host's predictions.json (yolo val
save_json=True) or a folder of label files with confidences (yolo predict save_txt=True save_conf=True). Nothing that
exists is overwritten.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from yolospine_ultra.data.checks import resolve_data
from yolospine_ultra.data.coco import coco_to_yolo, label_text, predictions_to_coco, read_coco, yolo_to_coco
from yolospine_ultra.data.folders import new_folder
from yolospine_ultra.data.labels import Problem, count_problems

_SPLITS = ("train", "val", "test")


def _to_coco(data: str, data_root: Path | None, out: Path, splits: Sequence[str]) -> list[Problem]:
    """Write one JSON a split of a YOLO dataset."""
    problems: list[Problem] = []
    data = resolve_data(data, data_root)
    with new_folder(out) as folder:
        for split in splits:
            coco, found = yolo_to_coco(data, split)
            problems += found
            (folder / f"{split}.json").write_text(json.dumps(coco, allow_nan=False), encoding="utf-8")
            print(f"{split}: {len(coco['images'])} images, {len(coco['annotations'])} annotations")
    return problems


def _to_yolo(files: Sequence[Path], out: Path, splits: Sequence[str], images: Sequence[Path]) -> list[Problem]:
    """Write a YOLO folder of COCO datasets, one a split; without the images where they are not given."""
    twice = next((s for s in splits if splits.count(s) > 1), None)
    if twice:
        raise ValueError(f"split {twice} is named twice; expected each once.")
    if len(files) != len(splits):
        raise ValueError(f"files: {len(files)}, splits: {len(splits)}; expected one split for each file.")
    if len(images) > 1 and len(images) != len(files):
        raise ValueError(
            f"files: {len(files)}, folders of images: {len(images)}; expected one for all or one for each."
        )
    tables, names, problems = _read_files(files)
    with new_folder(out) as folder:
        for k, (split, table) in enumerate(zip(splits, tables, strict=True)):
            problems += _write_split(folder, split, table, images[min(k, len(images) - 1)] if images else None)
        missing = [s for s in ("train", "val") if s not in splits]
        stand_in = splits[-1] if "train" in splits else splits[0]
        places = {s: f"images/{s if s in splits else stand_in}" for s in dict.fromkeys(("train", "val", *splits))}
        text = yaml.safe_dump({**places, "names": dict(enumerate(names))}, sort_keys=False)
        (folder / "dataset.yaml").write_text(text, encoding="utf-8")
    print(f"classes: {', '.join(names)}")
    if missing:  # the host needs both
        said = f"{' and '.join(missing)} of dataset.yaml are the images of {stand_in} too"
        print(f"note: {said}; give a file for each split.", file=sys.stderr)
    return problems


def _read_files(files: Sequence[Path]) -> tuple[list[dict[str, np.ndarray]], list[str], list[Problem]]:
    """Labels of each COCO file, the class names of all, and what was left out."""
    tables, names, problems = [], [], []
    for file in files:
        table, found, left_out = coco_to_yolo(read_coco(file))
        names = names if tables else found
        if found != names:
            raise ValueError(
                f"{files[0]} has the classes {', '.join(names)}, {file} has {', '.join(found)}; expected the same."
            )
        tables.append(table)
        problems += [replace(p, file=f"{file.name}: {p.file}") if len(files) > 1 else p for p in left_out]
    return tables, names, problems


def _write_split(folder: Path, split: str, table: dict[str, np.ndarray], images: Path | None) -> list[Problem]:
    """Write the label files of a split, with its images where they are given."""
    problems: list[Problem] = []
    for name, rows in table.items():
        # the host finds labels by the last folder called images
        inside = PurePosixPath(*[p for p in PurePosixPath(name).parent.parts if p != "images"], Path(name).name)
        label = (folder / "labels" / split / inside).with_suffix(".txt")
        if label.exists():
            problems.append(Problem(name, "same-stem", "another image has the same label file; left out"))
            continue
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(label_text(rows), encoding="utf-8", newline="\n")
        if images is None:
            continue
        target = folder / "images" / split / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        if (images / name).is_file():
            shutil.copyfile(images / name, target)
        else:
            problems.append(Problem(name, "missing", f"not in {images}; its labels are written all the same"))
    print(f"{split}: {len(table)} images, {sum(len(r) for r in table.values())} labels")
    return problems


def _results(source: Path, coco: Path, out: Path) -> list[Problem]:
    """Write predictions as COCO results."""
    if out.exists():
        raise FileExistsError(f"{out} exists; remove it or choose another one.")
    results, problems = predictions_to_coco(source, read_coco(coco))
    out.write_text(json.dumps(results, allow_nan=False), encoding="utf-8")
    print(f"{len(results)} predictions")
    return problems


def main() -> int:
    """Parse the command line, convert, name the problems on stderr; 2 where nothing can be converted."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=__doc__.split("\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True)
    to_coco = actions.add_parser("to-coco", help="YOLO dataset to COCO")
    to_coco.add_argument("data", help="dataset YAML, or the name of one of the plugin's")
    to_coco.add_argument("--data-root", type=Path, help="folder in place of the YAML's path")
    to_coco.add_argument("--out", type=Path, required=True, help="folder to write, absent or empty")
    to_coco.add_argument("--splits", nargs="+", choices=_SPLITS, default=["train", "val"], help="default train val")
    to_yolo = actions.add_parser("to-yolo", help="COCO dataset to YOLO")
    to_yolo.add_argument("files", type=Path, nargs="+", help="COCO JSON of each split")
    to_yolo.add_argument("--out", type=Path, required=True, help="folder to write, absent or empty")
    to_yolo.add_argument("--splits", nargs="+", choices=_SPLITS, default=["train"], help="of each file (default train)")
    to_yolo.add_argument(
        "--images", type=Path, nargs="+", default=[], help="folder of the images of all files, or one for each; copied"
    )
    results = actions.add_parser("results", help="predictions to COCO results")
    results.add_argument("source", type=Path, help="predictions.json, or folder of label files with confidences")
    results.add_argument("--coco", type=Path, required=True, help="COCO JSON of the dataset")
    results.add_argument("--out", type=Path, required=True, help="file to write")
    options = vars(parser.parse_args())
    run = {"to-coco": _to_coco, "to-yolo": _to_yolo, "results": _results}[options.pop("action")]
    try:
        problems = run(**options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"{len(problems)} problems: {count_problems(problems)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
