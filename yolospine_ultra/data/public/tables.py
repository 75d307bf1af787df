"""Reading the CSV files of public datasets: by column names, each bad row a named problem."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from yolospine_ultra.data.labels import Problem


def read_table(
    file: Path, columns: Sequence[str], problems: list[Problem], shown: str | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with their line numbers; cells and column names without spaces around them.

    Args:
        file: comma-separated, UTF-8, with a header.
        columns: columns that must be there; capitals do not matter, the names given here are the keys.
        problems: rows with a cell missing are added as kind `row` and left out.
        shown: what problems call the file; its name by default.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no CSV text, or a column is missing.
    """
    shown = shown or file.name
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; it belongs to the download.")
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = [cell.strip() for cell in next(reader, [])]
            index = {cell.lower(): k for k, cell in enumerate(header)}
            missing = [c for c in columns if c.lower() not in index]
            if missing:
                raise ValueError(
                    f"{file} has no column {', '.join(missing)}; it has {', '.join(header[:12]) or 'none'}."
                )
            keys = [next((c for c in columns if c.lower() == cell.lower()), cell) for cell in header]
            needed = [index[c.lower()] for c in columns]
            for cells in reader:
                if not any(c.strip() for c in cells):
                    continue
                if max(needed, default=0) >= len(cells):
                    detail = f"{len(cells)} cells, expected {len(header)}; left out"
                    problems.append(Problem(shown, "row", detail, reader.line_num))
                    continue
                yield reader.line_num, dict(zip(keys, (c.strip() for c in cells), strict=False))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file} is no CSV text ({error.__class__.__name__}).") from None


def whole_number(text: str) -> int | None:
    """An integer cell, also as pandas writes it into a column with gaps (`12.0`); None where it is none."""
    try:
        value = float(text)
        return int(value) if value == int(value) and abs(value) < 2**53 else None
    except (ValueError, OverflowError):
        return None
