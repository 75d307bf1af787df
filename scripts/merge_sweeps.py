"""Tables of several sweeps of one protocol, seen as one: more seeds or models of another day or machine.

Example: `python scripts/merge_sweeps.py results/seeds0-2 results/seeds3-5 --out results/six-seeds`.
Committed sweeps keep their predictions in predictions.tar.xz; unpack these first.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from yolospine_ultra.benchmark.merge import merge_tables


def main() -> int:
    """Parse the command line, write the tables, print of what they are made; 2 where they cannot be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "sweeps", nargs="+", type=Path, help="folders of sweeps, as scripts/benchmark_all.py writes them"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for summary.csv, comparisons.csv and ranks.csv")
    args = parser.parse_args()
    try:
        made = merge_tables(args.sweeps, args.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for difference in made.differences:
        print(f"differs  {difference}")
    ranked = (
        f"ranks over seeds {', '.join(map(str, made.common))}" if made.common else "no seed of all models: no ranks"
    )
    print(f"{args.out}: {made.cells} cells of {len(args.sweeps)} sweeps, {ranked}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
