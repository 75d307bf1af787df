"""The whole report of a sweep: tables, plots and the HTML page, from its files alone.

Written for this project. Everything is written whole or not at all, and the same files give the same report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from yolospine_ultra.benchmark.report import cost_tables, plots, statements, tables
from yolospine_ultra.benchmark.report.formats import FORMATS, Column, Table
from yolospine_ultra.benchmark.report.page import Picture, Section, data_url, inline_svg, page_table, render
from yolospine_ultra.benchmark.report.panels import draw_panels, make_panels
from yolospine_ultra.benchmark.report.paper_tables import paper_tables
from yolospine_ultra.benchmark.report.roles import Roles, assign_roles
from yolospine_ultra.benchmark.report.source import Results, read_results
from yolospine_ultra.benchmark.report.statements import count
from yolospine_ultra.data.atomic import AtomicPath

# parts of the page that open on a click
FOLDED = {"comparisons_others": "A beats B, the other models", "confusion_others": "Confusion of the other models"}


@dataclass(frozen=True)
class Written:
    """What a report came to: its files, its first sentence, and what was left out."""

    files: tuple[Path, ...]
    headline: str
    problems: tuple[str, ...]


def write_report(
    sweep: str | Path,
    out: str | Path | None = None,
    paper: bool = False,
    images: str | Path | None = None,
    ours: str | None = None,
    shorter: Sequence[str | Path] = (),
    credit: str = "",
    cautions: Sequence[str] = (),
) -> Written:
    """Write `report.html`, `tables/*.{md,csv,tex}` and `plots/*.{png,pdf}`.

    Args:
        sweep: folder of a sweep.
        out: folder of the report, `report` in the sweep's by default.
        paper: print the paper's figures beside the measured ones.
        images: folder with the evaluated images, for the panels; without it there are none.
        ours: name of the model the report is about; by default the best whole YOLOspine.
        shorter: sweeps of a smaller budget, whose models only prove that they run: listed, never ranked.
        credit: source and licence of the images, printed where they are shown.
        cautions: sentences on what must not be concluded that the files cannot know, such as a machine that was busy.

    Raises:
        FileNotFoundError: no sweep there, or no folder of images.
        ValueError: its files cannot be used, it has no model `ours`, or one of `shorter` is no shorter.
    """
    if images is not None and not Path(images).is_dir():
        raise FileNotFoundError(f"{images} is not a folder; expected the one that holds the evaluated images.")
    results = read_results(sweep)
    roles = assign_roles(results, ours)
    problems = list(results.problems)
    proofs = [_read_shorter(folder, results, problems) for folder in shorter]
    made = _tables(results, roles, proofs, paper)
    figures = _figures(results, roles, images, credit, problems)
    out = Path(out) if out is not None else results.folder / "report"
    written = [_write(out / "report.html", _page(results, roles, made, figures, problems, paper, cautions).encode())]
    for table in made.values():
        for form, shape in FORMATS.items():
            written.append(_write(out / "tables" / f"{table.name}.{form}", shape(table).encode()))
    for name, (figure, _) in figures.items():
        for form in ("png", "pdf"):
            written.append(_write(out / "plots" / f"{name}.{form}", plots.save(figure, form)))
    return Written(tuple(written), statements.headline(results, roles), tuple(problems))


def _write(file: Path, content: bytes) -> Path:
    """Write a file whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    AtomicPath(file).write_bytes(content)
    return file


def _read_shorter(folder: str | Path, results: Results, problems: list[str]) -> Results:
    """A sweep of a smaller budget.

    Raises:
        ValueError: its budget is no smaller, so that its models would belong into a ranking.
    """
    other = read_results(folder)
    ours, theirs = results.sweep.budget, other.sweep.budget
    if theirs["epochs"] >= ours["epochs"] and theirs["imgsz"] >= ours["imgsz"]:
        raise ValueError(
            f"{folder} has {theirs['epochs']} epochs at {theirs['imgsz']} px, no less than {results.folder}; expected "
            "a sweep of short runs, or give each a report of its own."
        )
    problems += [f"{Path(folder).name}: {p}" for p in other.problems]
    return other


def _tables(results: Results, roles: Roles, proofs: Sequence[Results], paper: bool) -> dict[str, Table]:
    """Every table that has a row."""
    made = [
        tables.classwise(results, roles, paper),
        tables.ranks(results),
        tables.beats(results, roles),
        tables.beats(results, roles, others=True),
        tables.agreement(results, roles, paper),
        tables.agreement(results, roles, matched=True),
        tables.overlap(results, roles),
        tables.equal(results, roles),
        cost_tables.complexity(results, roles, paper),
        cost_tables.short_runs(results, proofs),
    ]
    if len(roles.ablations) > 1:
        made.append(cost_tables.ablation(results, roles, paper))
    made += paper_tables() if paper else []
    return {t.name: t for t in made if t.rows}


def _figures(
    results: Results, roles: Roles, images: str | Path | None, credit: str, problems: list[str]
) -> dict[str, tuple[Figure, str]]:
    """Every plot that has something to show, by file name, with its caption."""
    made: dict[str, tuple[Figure, str]] = {}
    if roles.ranked:
        made["classes"] = (
            plots.class_bars(results, roles),
            "mAP50-95 by class, mean over trainings with 95% interval; models in the order of their overall mean.",
        )
    if results.ranks:
        made["ranks"] = plots.rank_plot(results, roles), "Mean rank by mAP50-95 with 95% interval; 1 is best."
    if (cost := plots.cost_plot(results, roles)) is not None:
        made["cost"] = cost, "mAP50-95 against operations."
    if (ablations := plots.ablation_plot(results, roles)) is not None:
        made["ablations"] = (
            ablations,
            f"Each variant minus {roles.ours}, with the 95% interval of a bootstrap over patients and seeds; dots are "
            "filled where it leaves out zero.",
        )
    shown = [m for m in (roles.ours, roles.baseline) if m and any(r.confusion for r in results.of(m))]
    if shown:
        made["confusion"] = (
            plots.confusion(results, shown),
            f"Confusion with background, all trainings added up, score of at least {results.sweep.conf:g}, IoU ≥ 0.5. "
            "Percent of a row, boxes in brackets; the last row is what was found where nothing is labelled.",
        )
    others = [m for m in roles.ranked if m not in shown and any(r.confusion for r in results.of(m))]
    if others:
        made["confusion_others"] = plots.confusion(results, others, counts=False), "The same for the other models."
    if images is not None and roles.ours and roles.baseline:
        panels = make_panels(results, roles, Path(images), problems)
        if panels:
            names = list(results.sweep.names.values())
            made["panels"] = (
                draw_panels(panels, names, roles.ours, roles.baseline),
                f"Labels | {roles.ours} | {roles.baseline}, score of at least {results.sweep.conf:g}. Chosen by the "
                "difference of F1 on the image: the largest in our favour, the median, the largest against us."
                + (f" {credit}" if credit else ""),
            )
    return made


def _page(
    results: Results,
    roles: Roles,
    made: dict[str, Table],
    figures: dict[str, tuple[Figure, str]],
    problems: Sequence[str],
    paper: bool,
    cautions: Sequence[str],
) -> str:
    """The HTML page."""

    def part(key: str, title: str, names: Sequence[str], plot_names: Sequence[str] = ()) -> Section:
        chosen = [page_table(made[n], roles.ours, n in FOLDED) for n in names if n in made]
        return Section(key, title, chosen, [_picture(n, *figures[n]) for n in plot_names if n in figures])

    parts = [
        part("accuracy", "Class-wise mAP50-95", ["classwise"], ["classes"]),
        part("differences", "Which model beats which", ["comparisons", "comparisons_others", "ranks"], ["ranks"]),
        part("agreement", "Agreement with the labels", ["agreement", "agreement_matched", "overlap", "equal"]),
        part("confusion", "Confusion matrices", [], ["confusion", "confusion_others"]),
        part("images", "Images", [], ["panels"]),
        part("costs", "Costs", ["complexity"], ["cost"]),
        part("ablations", "Ablation", ["ablation"], ["ablations"]),
        part("short", "Short runs, not ranked", ["short_runs"]),
        part("paper", "What the paper prints", ["paper_internal", "paper_external", "paper_complexity"]),
        Section("models", "Models", [page_table(_models(results, paper), roles.ours)]),
        Section("left-out", "Left out", list=problems),
        _origin(results),
    ]
    budget = results.sweep.budget
    seeds = " and seeds" if len({frozenset(r.seed for r in results.of(m)) for m in roles.ranked}) < 2 else ""
    return render(
        title=f"Benchmark on {results.sweep.dataset}",
        lede=f"{count(len(roles.ranked), 'model')} ranked, {count(len(results.records), 'evaluation')}, "
        f"{count(budget['epochs'], 'epoch')} at {budget['imgsz']} px {statements.beginning(results.sweep)}, "
        f"batch {budget['batch']}, the same data and schedule{seeds} for all.",
        headline=statements.headline(results, roles),
        supported=statements.supported(results, roles),
        not_supported=[*statements.not_supported(results, roles), *cautions],
        problems=problems,
        sections=[s for s in parts if s.tables or s.plots or s.list or s.facts],
    )


def _picture(name: str, figure: Figure, caption: str) -> Picture:
    """A figure for the page: photographs as pictures, plots as SVG."""
    if name == "panels":
        return Picture(caption, image=data_url(plots.save(figure, "webp"), "webp"))
    return Picture(caption, svg=inline_svg(plots.save(figure, "svg"), name), folded=FOLDED.get(name, ""))


def _models(results: Results, paper: bool) -> Table:
    """What every row is, and where its recipe differs."""
    columns = [Column("model"), Column("family"), Column("built from"), Column("own recipe"), Column("note")]
    columns += [Column("row of the paper")] if paper else []
    rows = []
    for name, e in results.sweep.models.items():
        own = {**e.recipe, **{f"predict {k}": v for k, v in e.predict.items()}}
        row = [name, e.family, _words(e.build), _words(own), e.note]
        rows.append(tuple(row + ([e.paper] if paper else [])))
    return Table("models", "Models", tuple(columns), tuple(rows))


def _words(values: dict[str, Any]) -> str:
    """Settings in a line."""
    return ", ".join(f"{k} {v}" for k, v in values.items())


def _origin(results: Results) -> Section:
    """Where the figures come from: command, protocol, environment."""
    sweep = results.sweep
    protocol = {
        "data": sweep.dataset, "fingerprint": sweep.fingerprint, "classes": ", ".join(sweep.names.values()),
        "folds": "none, train and val" if sweep.folds is None else sweep.folds,
        "seeds": ", ".join(str(s) for s in sorted({r.seed for r in results.records})),
        "confidence": sweep.conf, **sweep.budget,
    }  # fmt: skip
    environment = {"commit": sweep.commit or "not known", **sweep.environment}
    facts: list[tuple[str, Sequence[tuple[str, str]] | str]] = [("Command", sweep.command)]
    for title, values in (("Protocol", protocol), ("Recipe", sweep.recipe), ("Environment", environment)):
        facts.append((title, [(k, _fact(v)) for k, v in values.items()]))
    return Section("origin", "Environment and command", facts=facts)


def _fact(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
