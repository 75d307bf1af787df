"""The report of a reader study as text for a terminal.

Written for this project; what the numbers are stands in `readers`, `rating` and `rates`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolospine_ultra.evaluate.text import bounds, number, table
from yolospine_ultra.evaluate.validation.external import format_levels, format_seconds
from yolospine_ultra.evaluate.validation.rates import AVERAGES, KINDS
from yolospine_ultra.evaluate.validation.rating import LEVELS, average_label, format_rating
from yolospine_ultra.evaluate.validation.reader_files import MODEL

_TESTS = {
    "findings": "labels found",
    "image_classes": "classes of images rightly called",
}


def format_readers(report: Mapping[str, Any]) -> str:
    """The dictionary of `readers.reader_report`, with `seconds` where it has them, as text for a terminal."""
    head = f"{report['images']} images of {report['patients']} patients; {format_levels(report)}"
    parts = [head, f"=== {MODEL} ===", format_rating(report["model"])]
    for name, r in report["readers"].items():
        part = "" if r["images"] == report["images"] else "; the model's numbers on these are in --json"
        parts += [f"=== {name}, {r['images']} images of {r['patients']} patients{part} ===", format_rating(r["reader"])]
        parts += [_format_mcnemar(name, r["mcnemar"]), _format_difference(name, r["difference"], report["margin"])]
    parts += [_format_kappa(report["kappa"])] if report["kappa"] else []
    if "seconds" in report:
        parts.append("\n".join(format_seconds(k, v) for k, v in report["seconds"].items()))
    return "\n\n".join(parts + [f"Note: {note}" for note in report["notes"]])


def _format_mcnemar(name: str, tests: Mapping[str, Any]) -> str:
    columns = ("cases", "both", "model_only", "reader_only", "neither")
    rows = [["", "cases", "both", f"{MODEL} only", f"{name} only", "neither", "p"]]
    for key, title in _TESTS.items():
        for label, t in {**tests[key]["classes"], "all": tests[key]["all"]}.items() if key in tests else ():
            rows.append([f"{title}: {label}", *(str(t[c]) for c in columns), _p(t["p"])])
    return f"McNemar's exact test, {MODEL} against {name} (cases taken for independent)\n{table(rows)}"


def _p(value: float | None) -> str:
    """A p value."""
    return "-" if value is None else "< .0001" if value < 1e-4 else f"{value:.4f}"


def _format_difference(name: str, difference: Mapping[str, Any], margin: float) -> str:
    rows = [["", *(x for kind in KINDS for x in (kind, "95% patients", "verdict"))]]
    for level, found in difference.items():
        for label, row in {**found["classes"], **{average_label(how): found[how] for how in AVERAGES}}.items():
            cells = []
            for kind in KINDS:
                d = row[kind]
                value = "-" if d["value"] is None else f"{d['value']:+.3f}"
                cells += [value, bounds(d["patients"]), _short(d)]
            rows.append([f"{LEVELS[level].partition(',')[0].lower()}: {label}", *cells])
    head = f"Difference, {MODEL} - {name}; non-inferior if the interval is above -{margin:g} ('-' no verdict)"
    return f"{head}\n{table(rows)}"


def _short(difference: Mapping[str, Any]) -> str:
    """A verdict for a table; "-" for none, with the number of patients where these are too few."""
    verdict, _, why = difference["verdict"].partition(": ")
    few = f"- ({difference['with_trials']} patients)" if why.startswith("of ") else "-"
    return few if why else verdict


def _format_kappa(kappas: Mapping[str, Any]) -> str:
    names = list(next(iter(kappas.values()))["classes"])
    rows = [["raters", *names, "all", "agree", "cases"]]
    for pair, k in kappas.items():
        values = [number(c["kappa"], 2) for c in (*k["classes"].values(), k["all"])]
        rows.append([pair, *values, number(k["all"]["agree"], 2), str(k["all"]["cases"])])
    return f"Cohen's kappa of classes called present in an image ('-' both say the same of all)\n{table(rows)}"
