"""Print a spine phantom beside the paper's tables; a thin front of `yolospine_ultra.data.phantom.report`.

Written for this project. Example: `python scripts/phantom_report.py datasets/spine-phantom`, or with `--json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from yolospine_ultra.data.phantom.report import compare


def main() -> int:
    """Print the comparison, whatever it says; 2 where the folder is no spine phantom."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="made by scripts/make_phantom.py; 1038 images are best"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable instead of a table")
    args = parser.parse_args()
    try:
        report = compare(args.folder)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report.as_dict(), indent=2) if args.json else report.as_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
