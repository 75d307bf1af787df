"""Checkpoints to and from the portable form: portable.py write best.pt DIR, portable.py read DIR restored.pt."""

import argparse
import sys

from yolospine_ultra.portable import read_portable, write_portable


def main() -> int:
    """Parse the arguments and call the package; 2 where the input cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("write", "read"))
    parser.add_argument("source", help="checkpoint to write from, or portable folder to read")
    parser.add_argument("target", help="portable folder to write, or checkpoint to make")
    args = parser.parse_args()
    try:
        print((write_portable if args.action == "write" else read_portable)(args.source, args.target))
    except (OSError, ValueError, ImportError) as error:
        print(f"portable: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
