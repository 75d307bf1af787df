"""The paper's tables, made from a sweep.

Source: YOLOspine (Masood and Taj 2026), tables 'Internal Dataset', 'External Dataset', 'Training & Computational
Complexity' and 'Ablation Study'. Added to them: sd and 95% interval of every value, ranks, differences with their
intervals, true costs. Where the paper's figure is asked for, it has a column of its own that says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from yolospine_ultra.benchmark.paper import paper_figure
from yolospine_ultra.benchmark.report.formats import DASH, Column, Table, Value
from yolospine_ultra.benchmark.report.roles import Roles
from yolospine_ultra.benchmark.report.source import Comparison, Estimate, Results

MAP = "map50_95"
PAPER_NOTE = "Columns marked 'paper' hold what the paper prints: its own data, m scale, 200 epochs. Not measured here."
SPREAD_NOTE = (
    "Each value: mean ± sd over n seeds, with its 95% interval over seeds. Bold: best mean, by itself no claim."
)
EMPTY_NOTE = f"{DASH}: not defined on this data, such as a class without a labelled box, or not measured."

AGREEMENT = (
    ("accuracy", "accuracy"),
    ("macro_f1", "macro F1"),
    ("weighted_f1", "weighted F1"),
    ("kappa", "κ"),
    ("mcc", "MCC"),
)
EQUAL = (
    ("recall_fp1", "recall of findings, 1 false an image"),
    ("pair_recall_fp1", "recall of pairs, 1 false an image"),
    ("one_site_recall_fp1", "recall of one site, 1 false an image"),
)
OVERLAP = (
    ("pair_recall", "recall of overlapping pairs"),
    ("pair_precision", "precision of overlapping pairs"),
    ("one_site_recall", "recall of two labels on one site"),
    *EQUAL,
)


def percent(label: str, better: int = 1, signed: bool = False, printed: bool = False) -> Column:
    """A column of shares shown as percent."""
    return Column(label, 1, 100.0, better, signed, printed, (-1.0, 1.0) if signed else (0.0, 1.0))


def classwise(results: Results, roles: Roles, paper: bool = False) -> Table:
    """mAP50-95 by class and overall, then mAP50; models best first."""
    names = list(results.sweep.names.values())
    columns = [Column("model"), Column("n", 0), *(percent(n) for n in names), percent("mAP50-95"), percent("mAP50")]
    paper = paper and has_row(results, roles)
    if paper:
        columns.append(percent("paper: mAP50-95", printed=True))
    rows = []
    for model in roles.ranked:
        overall = results.value(model)
        row: list[Value] = [model, float(overall.n), *(results.value(model, MAP, n) for n in names), overall]
        row.append(results.value(model, "map50"))
        rows.append(tuple(row + ([_printed(results, model, "internal", MAP)] if paper else [])))
    notes = ["Percent, COCO 101 points, the same code for all models.", SPREAD_NOTE, *_missing(rows)]
    return Table("classwise", "Class-wise mAP50-95", tuple(columns), tuple(rows), _notes(notes, paper))


def agreement(results: Results, roles: Roles, paper: bool = False, matched: bool = False) -> Table:
    """Accuracy, F1, kappa and MCC, with background for what was missed or false, or of matched boxes only."""
    prefix = "matched_" if matched else ""
    columns = [
        Column("model"),
        Column("n", 0),
        *(Column(label, 3, better=1, limits=_limits(k)) for k, label in AGREEMENT),
    ]
    paper = paper and has_row(results, roles)
    if paper:
        columns += [Column(f"paper: {label}", 3, printed=True) for _, label in AGREEMENT]
    rows = []
    for model in roles.ranked:
        row: list[Value] = [model, float(results.value(model).n)]
        row += [results.value(model, prefix + key) for key, _ in AGREEMENT]
        rows.append(tuple(row + ([_printed(results, model, "external", k) for k, _ in AGREEMENT] if paper else [])))
    what = (
        "Matched boxes only (IoU ≥ 0.5): misses and false boxes do not count, so finding little can score high."
        if matched
        else "Every box counts: what was missed or is false enters as background (IoU ≥ 0.5, one to one)."
    )
    notes = [f"{what} Boxes with a score of at least {results.sweep.conf:g}.", SPREAD_NOTE, *_missing(rows)]
    title = "Agreement with the labels" + (", matched boxes only" if matched else "")
    return Table(
        "agreement_matched" if matched else "agreement", title, tuple(columns), tuple(rows), _notes(notes, paper)
    )


def _limits(metric: str) -> tuple[float, float]:
    """What a measure of agreement can be."""
    return (-1.0, 1.0) if metric in ("kappa", "mcc") else (0.0, 1.0)


def overlap(results: Results, roles: Roles) -> Table:
    """How overlapping findings are found."""
    columns = (Column("model"), Column("n", 0), *(percent(label) for _, label in OVERLAP))
    rows = tuple(
        (m, float(results.value(m).n), *(results.value(m, key) for key, _ in OVERLAP))
        for m in roles.ranked
        if any(results.value(m, key) for key, _ in OVERLAP)
    )
    notes = (
        "Percent. A pair is found when both of its findings are.",
        f"The first three at a score of {results.sweep.conf:g}, the same for all; the others at the score of each "
        "model that lets in one false box an image, so that all are compared at the same cost.",
        SPREAD_NOTE,
        *_missing(rows),
    )
    return Table("overlap", "Overlapping findings", columns, rows, notes)


def equal(results: Results, roles: Roles) -> Table:
    """How much more ours finds than each other model, where both have one false box an image."""
    columns = (Column("ours minus"), *(percent(label, 0, signed=True) for _, label in EQUAL))
    rows = []
    for model in roles.ranked if roles.ours else ():
        found = [results.comparison(roles.ours, model, metric) for metric, _ in EQUAL]
        if any(found):
            rows.append((model, *(Estimate(c.diff, None, c.low, c.high) if c else None for c in found)))
    notes = (
        "Percentage points with the 95% interval of a bootstrap over patients and seeds. In every resample each model "
        "has the least score that lets in at most one false box an image; with folds, one a fold.",
        *_missing(rows),
    )
    return Table("equal", "Found at equal false positives", columns, tuple(rows), notes)


def _printed(results: Results, model: str, table: str, metric: str) -> float | None:
    """The paper's figure of a model's row."""
    return paper_figure(table, results.sweep.models[model].paper, metric)


def has_row(results: Results, roles: Roles) -> bool:
    """Whether the paper has a row for any of the ranked models; it has them at m scale only."""
    return any(_printed(results, m, "internal", MAP) is not None for m in roles.ranked)


def _missing(rows: Sequence[tuple[Value, ...]]) -> list[str]:
    """The note on dashes, where there are any."""
    return [EMPTY_NOTE] if any(v is None for row in rows for v in row) else []


def _notes(notes: list[str], paper: bool) -> tuple[str, ...]:
    """Notes of a table with or without the paper's columns."""
    return tuple(notes + ([PAPER_NOTE] if paper else []))


def ranks(results: Results) -> Table:
    """Mean rank by mAP50-95 of every model, 1 is best."""
    columns = (Column("model"), Column("n", 0), Column("mean rank", 1, better=-1))
    found = {m: results.ranks[m, MAP] for m in results.models if (m, MAP) in results.ranks}
    rows = tuple((m, float(found[m].n), found[m]) for m in sorted(found, key=lambda m: found[m].mean))
    notes = (f"1 is best of {len(rows)}. Mean and 95% interval over resamples of patients and of n seeds.",)
    return Table("ranks", "Mean rank by mAP50-95", columns, rows, notes)


def beats(results: Results, roles: Roles, others: bool = False) -> Table:
    """Which difference between two models the data support: of ours to each, or, `others`, of all the others."""
    columns = (Column("A"), Column("B"), percent("A minus B", 0, signed=True), Column("supported"))
    shown = [
        _winner_first(c)
        for c in results.comparisons
        if c.metric == MAP and {c.a, c.b} <= set(roles.ranked) and (roles.ours not in (c.a, c.b)) == others
    ]
    order = {m: i for i, m in enumerate(roles.ranked)}
    shown.sort(key=lambda c: (order[c.a], order[c.b]))
    rows = tuple((c.a, c.b, Estimate(c.diff, None, c.low, c.high), verdict(c)) for c in shown)
    notes = (
        "Percentage points of mAP50-95 with the 95% interval of a bootstrap over patients and seeds. 'A beats B' where "
        "the interval leaves out zero; intervals are not corrected for the number of comparisons.",
    )
    name, title = ("comparisons_others", "A beats B, the other models") if others else ("comparisons", "A beats B")
    return Table(name, title, columns, rows, notes)


def _winner_first(c: Comparison) -> Comparison:
    """The comparison seen from the model that is ahead."""
    return c if c.diff >= 0 else c.reversed()


def verdict(c: Comparison) -> str:
    """What a comparison says, in words."""
    if not (c.wins or c.loses):
        return "no difference shown"
    return "A beats B" if c.wins else "B beats A"
