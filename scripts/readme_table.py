"""README tables from committed sweeps: everything between '<!-- benchmark results/SWEEP -->' and '<!-- /benchmark -->'.

Example: `python scripts/readme_table.py`, or `python scripts/readme_table.py --check` in continuous integration.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from yolospine_ultra.benchmark.report.readme import fill_blocks
from yolospine_ultra.data.atomic import AtomicPath


def main() -> int:
    """Make the tables anew or check them; 1 where the check fails, 2 where they cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readme", type=Path, nargs="?", default=Path("README.md"), help="file (default README.md)")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where the file is not what it should be"
    )
    args = parser.parse_args()
    try:
        text = args.readme.read_text(encoding="utf-8")
        made = fill_blocks(text, args.readme.absolute().parent)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.check and made != text:
        print(f"{args.readme} is not what its results say; run python scripts/readme_table.py.", file=sys.stderr)
        return 1
    if made != text:
        AtomicPath(args.readme).write_bytes(made.encode())
    print(f"{args.readme}: {'as its results say' if made == text else 'made anew'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
