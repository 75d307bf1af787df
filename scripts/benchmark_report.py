"""Tables (Markdown, CSV, LaTeX), plots and one self-contained HTML page of a sweep, from its files alone.

Example: `python scripts/benchmark_report.py results/spider-lumbar-n-sweep --images datasets/spider-lumbar/images`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from yolospine_ultra.benchmark.measure import measure_again
from yolospine_ultra.benchmark.report.write import write_report


def main() -> int:
    """Parse the command line, write the report, print where it is and what it says; 2 where it cannot be written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path, help="folder of a sweep, as scripts/benchmark_all.py writes it")
    parser.add_argument("--out", type=Path, help="folder of the report (default: report/ in the sweep's)")
    parser.add_argument("--paper", action="store_true", help="print the paper's figures beside the measured ones")
    parser.add_argument("--images", type=Path, help="folder with the evaluated images, for panels (default: no panels)")
    parser.add_argument("--credit", default="", help="source and licence of these images, printed where they are shown")
    parser.add_argument(
        "--caution", action="append", default=[], metavar="SENTENCE",
        help="what must not be concluded that the files cannot know, such as a busy machine; may be repeated",
    )  # fmt: skip
    parser.add_argument("--ours", help="model the report is about (default: the best whole YOLOspine)")
    parser.add_argument(
        "--short", nargs="+", type=Path, default=[], metavar="SWEEP",
        help="sweeps of a smaller budget, listed as proofs that their models run and kept out of the ranking",
    )  # fmt: skip
    parser.add_argument(
        "--measure", action="store_true",
        help="first measure the cells' predictions again, where the measures have changed since; no model is run",
    )  # fmt: skip
    args = parser.parse_args()
    try:
        if args.measure:
            print(f"{measure_again(args.sweep)} cells measured again")
        made = write_report(
            args.sweep, args.out, args.paper, args.images, args.ours, args.short, args.credit, args.caution
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for problem in made.problems:
        print(f"left out: {problem}", file=sys.stderr)
    print(f"{made.headline}\n{len(made.files)} files, {len(made.problems)} left out: {made.files[0]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
