"""What a sweep's statistics support and what they do not, in sentences.

Written for this project. A claim is made only where the interval of a paired comparison leaves out zero.
"""

from __future__ import annotations

from yolospine_ultra.benchmark.records import Sweep
from yolospine_ultra.benchmark.report.roles import Roles
from yolospine_ultra.benchmark.report.source import Comparison, Results
from yolospine_ultra.benchmark.report.tables import MAP
from yolospine_ultra.benchmark.statistics import FEW_BOXES
from yolospine_ultra.benchmark.summary import COMMON


def beginning(sweep: Sweep) -> str:
    """With what weights the trainings of a sweep began, in words."""
    if not sweep.initial:
        return "from scratch"
    first = sweep.initial
    return f"from weights of {count(first['epochs'], 'epoch')} at {first['imgsz']} px on {first['dataset']}"


def headline(results: Results, roles: Roles) -> str:
    """The first sentences of a report: the best model, and ours against the best of the others."""
    if not roles.ranked:
        return "No model of this sweep has been trained to the full budget, so nothing can be said about accuracy."
    best = roles.ranked[0]
    value = results.value(best)
    if len(roles.ranked) == 1:
        return (
            f"{best} reaches a mean mAP50-95 of {100 * value.mean:.1f}% and is the only model that was ranked: there "
            "is nothing to compare it with."
        )
    lead = f"{best} has the highest mean mAP50-95, {100 * value.mean:.1f}%"
    if roles.ours is None:
        second = roles.ranked[1]
        return f"{lead}. {_about(results.comparison(best, second), best, second)}"
    about = [_about(results.comparison(roles.ours, roles.baseline), roles.ours, roles.baseline)]
    about += _open(results, roles.ours, [m for m in roles.ranked if m not in (roles.ours, roles.baseline)])
    common = results.comparison(roles.ours, roles.baseline, COMMON)
    if common is not None:
        limits = "" if common.low is None else f" ({100 * common.low:+.1f} to {100 * common.high:+.1f})"
        about.append(
            f"Without classes of fewer than {FEW_BOXES} labelled boxes ({_list([n for n, _ in _rare(results)])}) the "
            f"difference to {roles.baseline} is {100 * common.diff:+.1f} points{limits}."
        )
    return f"{lead}. {' '.join(about)}"


def _about(c: Comparison | None, a: str, b: str) -> str:
    """What is known of a against b."""
    if c is None:
        return f"{a} and {b} were not compared pairwise, so no claim is made about their difference."
    size = f"{100 * abs(c.diff):.1f} points"
    if c.low is None or c.high is None:
        return (
            f"The difference is {100 * c.diff:+.1f} points, without an interval: resamples do not differ, as of too "
            "few patients."
        )
    limits = f"95% interval {100 * c.low:+.1f} to {100 * c.high:+.1f}"
    if c.wins:
        return f"The data support that {a} beats {b}, by {size} ({limits})."
    if c.loses:
        return f"The data support that {b} beats {a}: the difference of {a} to it is {100 * c.diff:+.1f} ({limits})."
    return (
        f"The data do not tell {a} and {b} apart: the difference is {100 * c.diff:+.1f} points ({limits}), "
        "and the interval holds zero."
    )


def supported(results: Results, roles: Roles) -> list[str]:
    """What else the data support."""
    if roles.ours is None:
        return []
    others = [m for m in roles.ranked if m != roles.ours]
    found = {m: c for m in others if (c := results.comparison(roles.ours, m))}
    if not found:
        return []
    wins = [m for m, c in found.items() if c.wins]
    losses = [m for m, c in found.items() if c.loses]
    made = []
    if wins:
        made.append(f"{roles.ours} beats {_list(wins)} (interval of the difference above zero).")
    if losses:
        made.append(f"{roles.ours} is beaten by {_list(losses)} (interval below zero).")
    return made + _open(results, roles.ours, others)


def _open(results: Results, ours: str, others: list[str]) -> list[str]:
    """Which of the others a comparison does not tell from ours."""
    found = [m for m in others if (c := results.comparison(ours, m)) and not (c.wins or c.loses)]
    return [f"No difference between {ours} and {_list(found)} is shown."] if found else []


def not_supported(results: Results, roles: Roles) -> list[str]:
    """What a reader must not conclude, from the sweep's own figures."""
    made = []
    budget, cells = results.sweep.budget, {m: results.value(m).n for m in roles.ranked}
    if cells:
        fewest = min(cells.values())
        seeds = count(fewest, "seed") + ("" if fewest == max(cells.values()) else f" to {max(cells.values())}")
        made.append(
            f"{seeds} a model: no interval over seeds can be given, and another seed may change the order."
            if fewest < 2
            else f"{seeds} a model: intervals of single values are over seeds (Student's t), those of differences over "
            "patients and seeds; so few seeds tell little of the spread of others."
        )
    patients = max((r.patients.get("val", 0) for r in results.records), default=0)
    if patients:
        made.append(
            f"One data set, {results.sweep.dataset}, {count(patients, 'patient')} evaluated a training: another may "
            "order the models otherwise."
        )
    made.append(
        f"A budget of {count(budget['epochs'], 'epoch')} at {budget['imgsz']} px {beginning(results.sweep)}: longer "
        "training or other weights to begin with may order them otherwise."
    )
    if budget.get("jobs", 1) > 1:
        made.append(f"{budget['jobs']} trainings ran at a time: their seconds are not those of one alone.")
    rare = _rare(results)
    if rare:
        counts = [f"{name} ({count(k, 'labelled box', 'labelled boxes')})" for name, k in rare]
        made.append(f"{_list(counts)}: figures of so rare a class mean little.")
    absent = [n for n in results.sweep.names.values() if roles.ranked and not _has(results, roles, n)]
    if absent:
        made.append(f"{_list(absent)} cannot be measured: no box of it is labelled in the evaluated images.")
    pairs = sum(c.metric == MAP and {c.a, c.b} <= set(roles.ranked) for c in results.comparisons)
    if pairs > 1:
        made.append(
            f"{pairs} comparisons at 95% each are not corrected for their number: about one in 20 intervals leaves out "
            "zero by chance where there is no difference."
        )
    elif not pairs and len(roles.ranked) > 1:
        made.append("There is no pairwise comparison in this sweep: the order of the means is no claim.")
    return made


def _has(results: Results, roles: Roles, name: str) -> bool:
    """Whether a class has a figure for any ranked model."""
    return any(results.value(m, MAP, name) for m in roles.ranked)


def _rare(results: Results) -> list[tuple[str, int]]:
    """Classes with a few labelled boxes in the evaluated images, and how many."""
    made = []
    for name in results.sweep.names.values():
        counts: dict[int | None, int] = {}
        for r in results.records:
            counts[r.fold] = int(r.classes.get(name, {}).get("ground_truth") or 0)
        total = sum(counts.values())
        if 0 < total < FEW_BOXES:
            made.append((name, total))
    return made


def count(n: int, one: str, many: str = "") -> str:
    """A number with its noun."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def _list(words: list[str]) -> str:
    """Words as a sentence lists them."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
