"""Exported forms of a model beside PyTorch: time of the predict call, and whether they find the same.

The calls of all forms take turns. Needs the extra `export`.
Example: `python scripts/benchmark_export.py --weights best.pt --images SLICES --forms onnx openvino`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from ultralytics.utils import LOGGER

from yolospine_ultra.benchmark.exports import NEEDS, compare_exports
from yolospine_ultra.evaluate.command import whole_from
from yolospine_ultra.evaluate.images import read_folder


def main() -> int:
    """Parse the command line, export, measure, print; 2 where a form, the weights or the images cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="a checkpoint")
    parser.add_argument("--images", type=Path, required=True, help="folder of images or scans")
    parser.add_argument("--count", type=whole_from(1), default=20, help="of them, spread evenly (%(default)s)")
    parser.add_argument("--forms", nargs="+", default=list(NEEDS), help="of the host's export (%(default)s)")
    parser.add_argument("--imgsz", type=whole_from(32), default=384, help="side of the square input (%(default)s)")
    parser.add_argument("--rounds", type=whole_from(1), default=9, help="of all calls (%(default)s)")
    parser.add_argument("--threads", type=whole_from(1), default=1, help="CPU threads of PyTorch (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    args = parser.parse_args()
    LOGGER.setLevel("ERROR")
    try:
        files = read_folder(args.images).files
        images = files[:: max(len(files) // args.count, 1)][: args.count]
        with tempfile.TemporaryDirectory() as folder:
            found = compare_exports(
                args.weights, args.forms, images, args.imgsz, args.rounds, args.threads, Path(folder)
            )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps({form: asdict(t) | {"agreement": asdict(a)} for form, (t, a) in found.items()}, indent=1))
        return 0
    base = found["pytorch"][0].median_ms
    print("| form | ms (quartiles) | of PyTorch's time | same findings | missing, added | box, px | score |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for form, (t, a) in found.items():
        print(
            f"| {form} | {t.median_ms:.1f} ({t.q1_ms:.1f}\u2013{t.q3_ms:.1f}) | {t.median_ms / base:.2f} | {a.both} "
            f"| {a.missing}, {a.added} | {a.box:.1g} | {a.score:.1g} |"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
