"""A table of estimates, and its Markdown, CSV and LaTeX forms.

Written for this project. LaTeX needs `booktabs`, nothing else.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from yolospine_ultra.benchmark.report.source import Estimate

Value = Estimate | float | str | None
DASH = "\N{EN DASH}"  # between the limits of an interval, and alone where nothing was measured


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        label: heading.
        digits: decimals shown.
        factor: what stored values are multiplied with to be shown, such as 100 for percent.
        better: 1 where more is better, -1 where less is, 0 where neither; the best measured value is set bold.
        signed: whether a plus sign is shown.
        printed: whether the column holds figures of the paper, which are never bold.
        limits: of what the value can be; a shown interval is cut there (Student's t knows no limits), in CSV it is not.
    """

    label: str
    digits: int = 1
    factor: float = 1.0
    better: int = 0
    signed: bool = False
    printed: bool = False
    limits: tuple[float, float] = (-math.inf, math.inf)

    def number(self, value: float) -> str:
        """A value as it is shown."""
        return f"{value * self.factor:{'+' if self.signed else ''}.{self.digits}f}"


@dataclass(frozen=True)
class Table:
    """A table: `rows` have a value a column; `notes` stand below it."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = field(default=())

    def best(self, column: int) -> float | None:
        """The best value of a column, None where nothing is to be set bold: no choice, or all the same as shown.

        A mean over fewer seeds than others of the column is no candidate: its seeds may be the easier ones.
        """
        rule = self.columns[column]
        values = [central(row[column]) for i, row in enumerate(self.rows) if self._counts(i, column)]
        if not rule.better or rule.printed or len({rule.number(v) for v in values}) < 2:
            return None
        return max(values, key=lambda v: rule.better * v)

    def is_best(self, row: int, column: int) -> bool:
        """Whether a cell is the best of its column, as shown: what rounds to the same is equally good."""
        best, value = self.best(column), central(self.rows[row][column])
        rule = self.columns[column]
        return best is not None and self._counts(row, column) and rule.number(value) == rule.number(best)

    def _counts(self, row: int, column: int) -> bool:
        """Whether a cell holds a number, and where it is a mean, one of as many seeds as any of its column."""
        value = self.rows[row][column]
        seeds = max((v.n for v in (r[column] for r in self.rows) if isinstance(v, Estimate)), default=0)
        return central(value) is not None and (not isinstance(value, Estimate) or value.n == seeds)


def central(value: Value) -> float | None:
    """The number that a cell is sorted by, None for text and nothing."""
    if isinstance(value, Estimate):
        return value.mean
    return None if value is None or isinstance(value, str) else float(value)


def spread(column: Column, value: Estimate, dash: str = DASH) -> tuple[str, str]:
    """The sd and the interval of an estimate as shown, "" each where there is none."""
    sd = "" if value.sd is None else f"{value.sd * column.factor:.{column.digits}f}"
    if value.low is None or value.high is None:
        return sd, ""
    between = " to " if column.signed else dash  # a dash before a sign is hard to read
    low, high = max(value.low, column.limits[0]), min(value.high, column.limits[1])
    return sd, f"{column.number(low)}{between}{column.number(high)}"


def markdown(table: Table) -> str:
    """GitHub Markdown: title, table, notes."""

    def cell(row: int, column: int) -> str:
        value, rule = table.rows[row][column], table.columns[column]
        if value is None or value == "":
            return DASH
        if isinstance(value, str):
            return markdown_text(value)
        shown = rule.number(central(value))
        shown = f"**{shown}**" if table.is_best(row, column) else shown
        if isinstance(value, Estimate):
            sd, interval = spread(rule, value)
            shown += (f" ± {sd}" if sd else "") + (f" ({interval})" if interval else "")
        return shown

    head = [markdown_text(c.label) for c in table.columns]
    align = [":--" if is_text(table, i) else "--:" for i in range(len(head))]
    lines = [head, align, *([cell(r, c) for c in range(len(head))] for r in range(len(table.rows)))]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    notes = "".join(f"\n{markdown_text(n)}\n" for n in table.notes)
    return f"{body}\n{notes}"


def is_text(table: Table, column: int) -> bool:
    """Whether a column holds words only."""
    values = [row[column] for row in table.rows]
    return all(isinstance(v, str) or v is None for v in values) and any(isinstance(v, str) for v in values)


def markdown_text(text: str) -> str:
    """Text without meaning in Markdown and HTML."""
    text = re.sub(r"([\\`*_\[\]|])", r"\\\1", " ".join(text.split()))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def table_csv(table: Table) -> str:
    """CSV with every digit: an estimate takes five columns, mean, sd, ci_low, ci_high and n; units as shown."""
    wide = [any(isinstance(row[i], Estimate) for row in table.rows) for i in range(len(table.columns))]
    head = []
    for rule, is_wide in zip(table.columns, wide, strict=True):
        head += [rule.label] + ([f"{rule.label} {k}" for k in ("sd", "ci_low", "ci_high", "n")] if is_wide else [])
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for row in table.rows:
        cells: list[str] = []
        for value, rule, is_wide in zip(row, table.columns, wide, strict=True):
            cells += _csv_cells(value, rule, is_wide)
        writer.writerow(cells)
    return out.getvalue()


def _csv_cells(value: Value, rule: Column, wide: bool) -> list[str]:
    """The fields that a value takes."""

    def shown(number: float | None) -> str:
        return "" if number is None else f"{number * rule.factor:.10g}"

    if isinstance(value, Estimate):
        return [shown(value.mean), shown(value.sd), shown(value.low), shown(value.high), str(value.n)]
    first = "" if value is None else (_inert(value) if isinstance(value, str) else shown(value))
    return [first] + [""] * (4 if wide else 0)


def _inert(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "²": r"$^2$", "κ": r"$\kappa$", "±": r"$\pm$", DASH: "--",
    "✓": r"$\checkmark$", "<": r"$<$", ">": r"$>$", "Δ": r"$\Delta$", "≥": r"$\geq$",
}  # fmt: skip


def latex_text(text: str) -> str:
    """Text without meaning in LaTeX."""
    return "".join(_LATEX.get(c, c) for c in " ".join(text.split()))


def latex(table: Table) -> str:
    """A LaTeX `table` with booktabs rules; intervals stand small behind the value."""

    def cell(row: int, column: int) -> str:
        value, rule = table.rows[row][column], table.columns[column]
        if value is None or value == "":
            return "--"
        if isinstance(value, str):
            return latex_text(value)
        shown = rule.number(central(value))
        shown = rf"\textbf{{{shown}}}" if table.is_best(row, column) else shown
        if isinstance(value, Estimate):
            sd, interval = spread(rule, value, "--")
            shown += (rf" $\pm$ {sd}" if sd else "") + (rf" {{\scriptsize({interval})}}" if interval else "")
        return shown

    columns = range(len(table.columns))
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{latex_text(table.title)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{''.join('l' if is_text(table, c) else 'r' for c in columns)}}}",
        r"\toprule",
        " & ".join(latex_text(c.label) for c in table.columns) + r" \\",
        r"\midrule",
        *(" & ".join(cell(r, c) for c in columns) + r" \\" for r in range(len(table.rows))),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip{{\footnotesize {latex_text(note)}}}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Table], str]] = {"md": markdown, "csv": table_csv, "tex": latex}
