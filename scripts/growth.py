"""How time grows with the image's side, the batch, the proposals of stage 2 and the tokens of Area Attention.

Untrained networks, fused; the calls take turns. Writes growth.csv and growth.png.
Example: `python scripts/growth.py --models yolospine-n yolov8n yolo26n --out results/growth`.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from ultralytics import YOLO
from ultralytics.utils import LOGGER

from yolospine_ultra.benchmark.environment import devices
from yolospine_ultra.benchmark.families.network import one_device
from yolospine_ultra.benchmark.growth import (
    Series,
    check_proposals,
    draw_growth,
    grow_batch,
    grow_proposals,
    grow_side,
    grow_tokens,
)
from yolospine_ultra.data.atomic import AtomicPath

SIDES = (256, 384, 512, 640, 768, 1024)
BATCHES = (1, 2, 4, 8, 16)
PROPOSALS = (50, 100, 200, 400, 700, 1000)
TOKENS = (144, 576, 1296, 2304, 4096, 9216)


def main() -> int:
    """Parse the command line, measure, write, print; 2 where a model cannot be built or has no stage 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", nargs="+", default=["yolospine-n", "yolov8n", "yolo26n"],
        help="names of model YAMLs, the first with two stages (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--imgsz", type=int, default=384, help="side where it is not what grows (%(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="of all calls (%(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or the index of a GPU (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("growth"), help="folder (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    LOGGER.setLevel("ERROR")
    try:
        series = measure(args.models, args.imgsz, args.rounds, args.device)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write(series, args.out)
    if args.json:
        print(json.dumps([asdict(s) | {"exponent": s.exponent} for s in series], indent=1))
    else:
        for s in series:
            times = ", ".join(f"{x}: {t:.1f}" for x, t in zip(s.sizes, s.ms, strict=True))
            print(f"{s.panel} | {s.name} | exponent {s.exponent:.2f} | ms {times}")
    return 0


def measure(names: list[str], imgsz: int, rounds: int, device: str) -> list[Series]:
    """Every series of the models."""
    devices(device)  # refuses one that is not there
    models = {n: YOLO(f"{n}.yaml").model.fuse(verbose=False).eval().to(one_device(device)) for n in names}
    check_proposals(models[names[0]])  # before the series of the others are measured
    return [
        *grow_side(models, SIDES, rounds, device),
        *grow_batch(models, BATCHES, imgsz, rounds, device),
        *grow_proposals(models[names[0]], PROPOSALS, imgsz, rounds, device),
        *grow_tokens(TOKENS, rounds, device),
    ]


def write(series: list[Series], out: Path) -> None:
    """Write growth.csv and growth.png."""
    out.mkdir(parents=True, exist_ok=True)
    text, picture = io.StringIO(), io.BytesIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("panel", "name", "size", "ms", "q1_ms", "q3_ms", "exponent"))
    for s in series:
        for row in zip(s.sizes, s.ms, s.q1_ms, s.q3_ms, strict=True):
            writer.writerow((s.panel, s.name, row[0], *(f"{v:.4g}" for v in row[1:]), f"{s.exponent:.3f}"))
    draw_growth(series).savefig(picture, format="png")
    AtomicPath(out / "growth.csv").write_bytes(text.getvalue().encode())
    AtomicPath(out / "growth.png").write_bytes(picture.getvalue())


if __name__ == "__main__":
    raise SystemExit(main())
