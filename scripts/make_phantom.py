"""Write a spine-phantom dataset from the command line; a thin front of `yolospine_ultra.data.phantom.dataset`.

Written for this project. Example: `python scripts/make_phantom.py --images 400 --seed 0 --out datasets/spine-phantom`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from yolospine_ultra.data.phantom.dataset import write_dataset


def main() -> int:
    """Parse the command line, write the dataset, print its counts as JSON; 2 where it cannot be written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=300, help="number of slices, at least 2 (default 300)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (default 0)")
    parser.add_argument("--imgsz", type=int, default=384, help="image side in pixels, 64 to 1024 (default 384)")
    parser.add_argument("--out", type=Path, required=True, help="destination folder, absent or empty")
    parser.add_argument("--workers", type=int, default=None, help="processes (default: one a core, at most 8)")
    args = parser.parse_args()
    try:
        made = write_dataset(args.out, args.images, args.seed, args.imgsz, args.workers)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps({**made, "path": str(made["path"])}, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
