"""What the models cost: true parameters, GFLOPs (2 x MACs, attention and stage 2 in), latency of the predict call.

Nothing is trained and nothing is downloaded. With --sweep the models, input size and classes are those of a sweep, and
the figures are written to its specs.json, where reports find them.
Example: `python scripts/specs.py --models yolov8m 'yolospine-[nm]' --latency`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ultralytics.utils import LOGGER

from yolospine_ultra.benchmark.records import read_sweep, write_json
from yolospine_ultra.benchmark.report.formats import FORMATS
from yolospine_ultra.benchmark.report.spec_table import spec_table
from yolospine_ultra.benchmark.specs import PAPER_MODELS, measure
from yolospine_ultra.benchmark.zoo import select

ROUNDS = 15


def main() -> int:
    """Parse the command line, measure, print a table or JSON; 2 where a model or a setting is unknown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", nargs="+", default=list(PAPER_MODELS), help="names or patterns (default: the paper's)"
    )
    parser.add_argument("--sweep", type=Path, help="folder of a sweep, in place of --models, --imgsz and --nc")
    parser.add_argument("--imgsz", type=int, default=384, help="side of the square input in pixels (default 384)")
    parser.add_argument("--nc", type=int, default=6, help="number of classes (default 6)")
    parser.add_argument("--latency", action="store_true", help="time whole predict calls, fused, in interleaved rounds")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of --latency (default {ROUNDS})")
    parser.add_argument(
        "--images", nargs="+", type=Path, default=[], help="files to time with (default: a phantom slice)"
    )
    parser.add_argument("--batch", type=int, default=1, help="images a call of --latency (default 1)")
    parser.add_argument("--device", default="cpu", help="cpu or the index of a GPU, for --latency (default cpu)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of --latency (default 1)")
    parser.add_argument("--paper", action="store_true", help="print the paper's figures beside the measured ones")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON in place of a table")
    shape.add_argument("--format", choices=list(FORMATS), default="md", help="of the table (default md)")
    args = parser.parse_args()
    try:
        _check(args)
        entries, channels = select(args.models), 3
        if args.sweep:
            sweep = read_sweep(args.sweep)
            entries, channels = list(sweep.models.values()), sweep.channels
            args.imgsz, args.nc = sweep.budget["imgsz"], len(sweep.names)
        rounds = args.rounds if args.latency else 0
        with _log_beside_the_table():
            content = measure(
                entries, args.imgsz, args.nc, rounds, args.images, args.batch, args.device, args.threads, _complain,
                channels,
            )  # fmt: skip
    except (ValueError, OSError) as error:
        _complain(f"error: {error}")
        return 2
    if args.sweep:
        write_json(args.sweep / "specs.json", content)
    if args.json:
        print(json.dumps(content, indent=1))
    else:
        print(FORMATS[args.format](spec_table(content, {e.name: e for e in entries}, args.paper)), end="")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse settings that no model can take.

    Raises:
        ValueError: a number out of range.
        FileNotFoundError: an image that is not there.
    """
    if args.imgsz < 32 or args.imgsz % 32:
        raise ValueError(f"--imgsz {args.imgsz}: expected a multiple of 32.")
    for name in ("nc", "rounds", "batch", "threads"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} {getattr(args, name)}: expected at least 1.")
    for file in args.images:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is not a file; expected an image.")


@contextmanager
def _log_beside_the_table() -> Iterator[None]:
    """The host logs to standard output; while this is open, to standard error."""
    former = [handler.setStream(sys.stderr) for handler in LOGGER.handlers]
    try:
        yield
    finally:
        for handler, stream in zip(LOGGER.handlers, former, strict=True):
            handler.setStream(stream or sys.stderr)  # None: it wrote there before


def _complain(text: str) -> None:
    """Print a sentence where it does not mix with the table."""
    print(text, file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
