"""Tables and numbers as text for a terminal.

Written for this project.
"""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in columns, the first one to the left, the others to the right; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ([r[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(r[1:], widths[1:], strict=True))] for r in rows)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """A number, "-" for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def bounds(interval: Sequence[float | None], digits: int = 3) -> str:
    """Both ends of an interval, "-" for none."""
    low, high = interval
    return "-" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"
