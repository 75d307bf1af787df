"""Train and evaluate models x seeds x folds on one dataset under one protocol.

Example, three small models on the real lumbar set, three seeds, resumable at any time:

    python scripts/benchmark_all.py --data cfg/datasets/spider-lumbar.yaml --data-root PATH/TO/spider-lumbar \
        --models yolospine-n,yolov8n,rtdetr-l --seeds 0,1,2 --epochs 60 --imgsz 320 --out results/spider-n

It leaves a record of every cell, predictions, summary.csv, comparisons.csv and ranks.csv in --out; the format is in
yolospine_ultra/benchmark/records.py. Exit status: 0; 1 a cell failed; 2 bad input; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ultralytics.cfg import smart_value

from yolospine_ultra.benchmark.dataset import PATIENT
from yolospine_ultra.benchmark.runner import Options, run_sweep
from yolospine_ultra.benchmark.zoo import missing, rows


def _numbers(text: str) -> list[int]:
    return [int(x) for x in text.split(",")]


def _folds(text: str) -> int | None:
    return None if text == "none" else int(text)


def _setting(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}, expected KEY=VALUE such as lr0=0.002")
    return key, smart_value(value)  # as `yolo` reads its words: 1e-3 is a number


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", help="dataset YAML, or the name of one of cfg/datasets")
    p.add_argument("--data-root", help="folder of the data in place of the YAML's path")
    p.add_argument("--models", default="", help="rows by name or pattern, model files, module:attribute; with commas")
    p.add_argument("--list", action="store_true", help="list all rows and end")
    p.add_argument("--seeds", type=_numbers, default=[0, 1, 2], help="with commas (0,1,2)")
    p.add_argument("--folds", type=_folds, default=None, metavar="K|none", help="folds by patient over train and val")
    p.add_argument("--seal-val", action="store_true", help="folds over train alone: to choose without seeing val")
    p.add_argument("--patient", default=PATIENT, help="finds the patient in a file's stem (before the first _)")
    p.add_argument("--epochs", type=int, default=60, help="(%(default)s)")
    p.add_argument("--imgsz", type=int, default=320, help="side of the input, pixels (%(default)s)")
    p.add_argument("--batch", type=int, default=16, help="images a step (%(default)s)")
    p.add_argument("--device", default="cpu", help="cpu, 0, or 0,1 for one training on several GPUs (%(default)s)")
    p.add_argument("--threads", type=int, default=1, help="CPU threads of a cell (%(default)s)")
    p.add_argument("--workers", type=int, default=0, help="processes that load images (%(default)s)")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at a time on this machine (%(default)s)")
    p.add_argument("--set", type=_setting, action="append", default=[], metavar="KEY=VALUE", help="common recipe")
    p.add_argument("--conf", type=float, default=0.25, help="least score outside of mAP (%(default)s)")
    p.add_argument("--latency-rounds", type=int, default=5, help="0 measures no latency (%(default)s)")
    p.add_argument("--out", type=Path, help="folder of the sweep, such as results/NAME")
    p.add_argument("--resume", action="store_true", help="go on with the sweep in --out; failed cells run again")
    p.add_argument(
        "--init", type=Path, metavar="SWEEP", help="begin with the weights of the same models and seeds there"
    )
    p.add_argument("--dry-run", action="store_true", help="print the plan, write nothing")
    p.add_argument(
        "--ray", nargs="?", const="auto", metavar="ADDRESS", help="spread cells over a cluster (auto, local)"
    )
    return p


def main() -> int:
    """Run the command."""
    parser = _parser()
    a = parser.parse_args()
    if a.list:
        for entry in rows().values():
            print(f"{entry.name:28} {entry.family:14} {missing(entry) or entry.note or entry.paper}")
        return 0
    if not (a.data and a.models and a.out):
        parser.error("--data, --models and --out are needed, or --list")
    names = [x.strip() for x in a.models.split(",") if x.strip()]
    options = Options(
        data=a.data, root=a.data_root, patient=a.patient, models=names, seeds=a.seeds, folds=a.folds, epochs=a.epochs,
        imgsz=a.imgsz, batch=a.batch, device=a.device, threads=a.threads, workers=a.workers, jobs=a.jobs,
        recipe=dict(a.set), conf=a.conf, out=a.out, resume=a.resume, dry_run=a.dry_run, rounds=a.latency_rounds,
        ray=a.ray, init=a.init, seal_val=a.seal_val,
    )  # fmt: skip
    try:
        return run_sweep(options)
    except (OSError, ValueError, ImportError) as error:
        print(f"benchmark_all: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted; what is finished is in {a.out}, go on with --resume", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
