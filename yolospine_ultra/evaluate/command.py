"""What the commands of all studies share: numbers on the command line, and a study from its call to what is printed.

Written for this project.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.data.labels import Problem, count_problems

SHOWN = 20  # problems that are named on the terminal; the JSON has all


def fraction(text: str) -> float:
    """A number within 0..1, for argparse."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 0 to 1")
    return value


def whole_from(least: int) -> Callable[[str], int]:
    """For argparse: whole numbers from `least`."""

    def whole(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text}: expected a whole number from {least}")
        return value

    return whole


def run_command(study: Callable[[list[Problem]], tuple[dict[str, Any], str]], out: Path | None, as_json: bool) -> int:
    """Run a study, write its report, print it.

    Args:
        study: appends what is wrong with the input to a list; gives the report, values that JSON can hold, and the
            report as text. Pictures are its own affair.
        out: folder for `report.json`, None for none.
        as_json: print JSON in place of the text.

    Returns:
        Exit status: 0, or 2 where the input cannot be used, which is said in one sentence.
    """
    problems: list[Problem] = []
    try:
        if out and out.exists() and not out.is_dir():
            raise NotADirectoryError(f"{out} is a file; expected a folder, or a name that is free.")
        report, shown = study(problems)
        report["problems"] = {"counts": count_problems(problems), "list": [str(p) for p in problems]}
        text = json.dumps(report, indent=2, allow_nan=False)
        if out:
            out.mkdir(parents=True, exist_ok=True)
            AtomicPath(out / "report.json").write_bytes(text.encode())
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for problem in problems[:SHOWN]:
        print(f"warning: {problem}", file=sys.stderr)
    if problems:
        counts = ", ".join(f"{n} {kind}" for kind, n in count_problems(problems).items())
        print(f"warning: {len(problems)} problems in the input: {counts}", file=sys.stderr)
    print(text if as_json else shown)
    return 0
