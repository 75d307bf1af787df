"""Tables of a README, made from committed sweeps between two comments that name the sweep.

    <!-- benchmark results/spider-lumbar -->
    ...everything here is made anew...
    <!-- /benchmark -->

Written for this project. The same text on every machine, so that a check can compare it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from yolospine_ultra.benchmark.report.formats import Column, Table, Value, markdown, markdown_text
from yolospine_ultra.benchmark.report.roles import Roles, assign_roles
from yolospine_ultra.benchmark.report.source import Estimate, Results, read_results
from yolospine_ultra.benchmark.report.statements import beginning, count, headline
from yolospine_ultra.benchmark.report.tables import percent

BLOCK = re.compile(
    r"(?P<open><!-- benchmark (?P<sweep>[^\s>]+) -->\n)(?P<body>.*?)(?P<close><!-- /benchmark -->)", re.S
)


def fill_blocks(text: str, root: Path) -> str:
    """A README's text with every block made anew.

    Args:
        text: the README.
        root: folder that the sweeps' paths are relative to.

    Raises:
        ValueError: no block, an opening comment without its end, or a sweep that cannot be used.
        FileNotFoundError: a sweep that is not there.
    """
    found = BLOCK.findall(text)
    if not found or len(found) != text.count("<!-- benchmark "):
        raise ValueError(
            f"{text.count('<!-- benchmark ')} blocks begin and {len(found)} are whole; expected at least one "
            "'<!-- benchmark results/SWEEP -->' with a '<!-- /benchmark -->' on a line below."
        )
    return BLOCK.sub(lambda m: m["open"] + readme_block(root / m["sweep"], m["sweep"]) + m["close"], text)


def readme_block(folder: Path, link: str) -> str:
    """The text of a block: protocol, what the statistics say, the main table.

    Args:
        folder: of the sweep.
        link: its path as the README links it.

    Raises:
        ValueError, FileNotFoundError: see `fill_blocks`.
    """
    results = read_results(folder)
    roles = assign_roles(results)
    budget = results.sweep.budget
    seeds = sorted({r.seed for r in results.records})
    about = (
        f"[{results.sweep.dataset}]({link}): {count(len(seeds), 'seed')}, {count(budget['epochs'], 'epoch')} at "
        f"{budget['imgsz']} px {beginning(results.sweep)}, the same data and schedule for all. Mean ± sd over seeds "
        "(95% interval)."
    )
    parts = [about, headline(results, roles), markdown(main_table(results, roles)).rstrip()]
    if results.problems:
        parts.append(f"Left out: {markdown_text(' '.join(results.problems))}")
    return "\n\n".join(parts) + "\n"


def main_table(results: Results, roles: Roles) -> Table:
    """Accuracy and findings, differences of ours, cost, a row a model; ablations below the models that are ranked."""
    columns = [Column("model")]
    for label in ("mAP50-95", "found at one false box an image"):
        columns.append(percent(label))
        columns += [percent("ours minus it, points", better=0, signed=True)] if roles.ours else []
    columns += [Column("parameters, M", 2, 1e-6), Column("GFLOPs", 1, 1e-9), Column("latency, ms", 0)]
    models: Sequence[str] = [*roles.ranked, *(m for m in roles.ablations if m not in roles.ranked)]
    rows = []
    seeds = {m: value.n for m in models if (value := results.value(m))}
    for model in models:
        few = seeds.get(model, 0) < max(seeds.values())
        row: list[Value] = [f"{model} ({count(seeds.get(model, 0), 'seed')})" if few else model]
        for metric in ("map50_95", "recall_fp1"):
            row.append(results.value(model, metric))
            if roles.ours:
                c = results.comparison(roles.ours, model, metric)
                row.append(Estimate(c.diff, None, c.low, c.high) if c else None)
        parameters, latency = results.value(model, "parameters"), results.latency.get(model)
        row.append(parameters.mean if parameters else None)
        row.append(results.specs.get(model, {}).get("flops"))
        row.append(float(latency["median_ms"]) if latency else None)
        rows.append(tuple(row))
    notes = (
        "Differences: bootstrap over patients, the same for all, and seeds; an interval that holds zero shows none. "
        "They are not corrected for the number of comparisons.",
    )
    return Table("main", "Main table", tuple(columns), tuple(rows), notes if roles.ours else ())
