"""YOLO datasets to COCO JSON and back, and predictions to COCO results.

    python scripts/convert_coco.py to-coco dataset.yaml --out annotations            (one JSON a split)
    python scripts/convert_coco.py to-yolo annotations/val.json --out dataset --images images/val
    python scripts/convert_coco.py results predictions.json --coco annotations/val.json --out results.json

`results` takes the host's predictions.json (yolo val save_json=True) or a folder of label files with confidences
(yolo predict save_txt=True save_conf=True). Nothing that exists is overwritten.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import yaml

from yolospine_ultra.data.coco import coco_to_yolo, label_text, predictions_to_coco, read_coco, yolo_to_coco
from yolospine_ultra.data.folders import new_folder
from yolospine_ultra.data.labels import Problem, count_problems

_SPLITS = ("train", "val", "test")


def _to_coco(data: Path, out: Path, splits: Sequence[str]) -> list[Problem]:
    """Write one JSON a split of a YOLO dataset."""
    problems: list[Problem] = []
    with new_folder(out) as folder:
        for split in splits:
            coco, found = yolo_to_coco(data, split)
            problems += found
            (folder / f"{split}.json").write_text(json.dumps(coco, allow_nan=False), encoding="utf-8")
            print(f"{split}: {len(coco['images'])} images, {len(coco['annotations'])} annotations")
    return problems


def _to_yolo(file: Path, out: Path, split: str, images: Path | None) -> list[Problem]:
    """Write a YOLO folder of a COCO dataset; without the images where they are not given."""
    tables, names, problems = coco_to_yolo(read_coco(file))
    with new_folder(out) as folder:
        for name, rows in tables.items():
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
        places = dict.fromkeys(("train", "val", split), f"images/{split}")
        text = yaml.safe_dump({**places, "names": dict(enumerate(names))}, sort_keys=False)
        (folder / "dataset.yaml").write_text(text, encoding="utf-8")
    print(f"{len(tables)} images, {sum(len(r) for r in tables.values())} labels, classes {', '.join(names)}")
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
    to_coco.add_argument("data", type=Path, help="dataset YAML")
    to_coco.add_argument("--out", type=Path, required=True, help="folder to write, absent or empty")
    to_coco.add_argument("--splits", nargs="+", choices=_SPLITS, default=["train", "val"], help="default train val")
    to_yolo = actions.add_parser("to-yolo", help="COCO dataset to YOLO")
    to_yolo.add_argument("file", type=Path, help="COCO JSON")
    to_yolo.add_argument("--out", type=Path, required=True, help="folder to write, absent or empty")
    to_yolo.add_argument("--split", choices=_SPLITS, default="train", help="split to write it as (default train)")
    to_yolo.add_argument("--images", type=Path, help="folder of the images, to be copied beside the labels")
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
