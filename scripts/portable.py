"""Checkpoints to and from the portable form: portable.py write best.pt DIR, portable.py read DIR best.pt."""

import argparse

from yolospine_ultra.portable import read_portable, write_portable


def main() -> None:
    """Parse the arguments and call the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("write", "read"))
    parser.add_argument("source", help="checkpoint to write from, or portable folder to read")
    parser.add_argument("target", help="portable folder to write, or checkpoint to make")
    args = parser.parse_args()
    print((write_portable if args.action == "write" else read_portable)(args.source, args.target))


if __name__ == "__main__":
    main()
