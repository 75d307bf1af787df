"""The overlap analysis of a dataset, and of a model's predictions on it, as one dictionary and as text.

Written for this project. What was measured stands under its own keys; the paper's figures (Masood and Taj 2026, from
`paper_overlap.csv`) stand apart under `paper` and only for classes whose names are the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import wilson
from yolospine_ultra.evaluate.matching import found_places
from yolospine_ultra.evaluate.overlap.pairs import (
    PAPER_RULES,
    PAPER_TABLE,
    TAU_ANAT,
    PairRecall,
    count_kept,
    find_pairs,
    pair_recall,
    pair_statistics,
)
from yolospine_ultra.evaluate.text import number, table

PAPER_IMAGES = 1038
TAUS = np.round(np.linspace(0, 1, 101), 2)
_QUARTILES = ("min", "q1", "median", "q3", "max")
_SHOWN = 24  # classes or pairs that the text shows; the dictionary has all


def default_rules(names: Sequence[str], tau: float | None = None) -> dict[tuple[int, int], float]:
    """Rules where the user gives none.

    Args:
        names: class names.
        tau: tau_spatial of every two classes; where it is None, the paper's rules if `names` has the paper's classes,
            and 0.15, the lowest of the paper's, for every two classes if not.

    Returns:
        tau_spatial by pair of class indices, ascending.
    """
    if tau is None and all(n in names for pair in PAPER_RULES for n in pair):
        return {tuple(sorted(map(names.index, pair))): t for pair, t in PAPER_RULES.items()}
    return dict.fromkeys(combinations(range(len(names)), 2), min(PAPER_RULES.values()) if tau is None else tau)


def overlap_report(
    images: Sequence[ImageFindings],
    names: Sequence[str],
    rules: Mapping[tuple[int, int], float],
    tau_anat: float = TAU_ANAT,
    pairing: str = "touching",
) -> dict[str, Any]:
    """Analyse labelled findings.

    Args:
        images: findings of N images.
        names: class names.
        rules: tau_spatial by pair of class indices.
        tau_anat: least A of compatible classes.
        pairing: which boxes co-occur, a name in `pairs.PAIRINGS`.

    Returns:
        A dictionary that JSON can hold, pairs named "A+B": `images`; `labels` (count a class); `pairing`, `tau_anat`;
        `compatibility` (matrix, None where undefined); `iou` (of every co-occurring pair of classes, most frequent
        first: n, mean, quartiles); `overlapping` (the table); `kept` (`tau`, and a count for each); `paper`.
    """
    pairs = find_pairs(images, len(names), pairing)
    ious = {p: pairs.iou[pairs.of(p)] for p in combinations(range(len(names)), 2)}
    occurring = sorted((p for p, iou in ious.items() if len(iou)), key=lambda p: -len(ious[p]))
    taus = np.union1d(TAUS, list(rules.values()))  # each rule is a point of its curve
    return {
        "images": len(images),
        "labels": dict(zip(names, map(int, pairs.totals), strict=True)),
        "pairing": pairing,
        "tau_anat": tau_anat,
        "compatibility": {"classes": list(names), "matrix": [list(map(_or_none, r)) for r in pairs.compatibility()]},
        "iou": {_title(p, names): _distribution(ious[p]) for p in occurring},
        "overlapping": {
            _title(p, names): {k: _or_none(v) for k, v in asdict(s).items()}
            for p, s in pair_statistics(pairs, rules, tau_anat).items()
        },
        "kept": {
            "tau": taus.tolist(),
            "pairs": {_title(p, names): count_kept(ious[p], taus).tolist() for p in rules if len(ious[p])},
        },
        "paper": {
            _title((names.index(p.first), names.index(p.second)), names): asdict(p)
            for p in PAPER_TABLE
            if p.first in names and p.second in names
        },
    }


def recall_report(
    truth: Sequence[ImageFindings],
    predictions: Sequence[ImageFindings],
    names: Sequence[str],
    rules: Mapping[tuple[int, int], float],
    iou: float = 0.5,
    conf: float = 0.25,
    tau_anat: float = TAU_ANAT,
    pairing: str = "touching",
) -> dict[str, Any]:
    """Analyse predictions; arguments as in `pairs.pair_recall`.

    Returns:
        A dictionary that JSON can hold: `iou`, `conf`, `images_without_prediction`; `places`, how many boxes of ground
        truth are found whatever the class (`matching.found_places`); and `pairs`, which has the counts, recall and
        precision with their Wilson 95% intervals for each pair "A+B" that has a rule, and for "all".
    """
    places = np.concatenate([found_places(t, p.above(conf), iou) for t, p in zip(truth, predictions, strict=True)])
    found = pair_recall(truth, predictions, rules, iou, conf, tau_anat, pairing)
    rows = {_title(p, names): r for p, r in found.items()}
    rows["all"] = sum(found.values(), PairRecall(0, 0, 0, 0, 0, 0, 0))
    return {
        "iou": iou,
        "conf": conf,
        "images_without_prediction": sum(not len(p.above(conf)) for p in predictions),
        "places": {
            "places": len(places),
            "found": int(places.sum()),
            "recall": float(places.mean()) if len(places) else None,
            "interval": [_or_none(v) for v in wilson(int(places.sum()), len(places))],
        },
        "pairs": {
            title: {
                **asdict(r),
                "recall": _or_none(r.recall),
                "recall_interval": [_or_none(v) for v in wilson(r.both, r.pairs)],
                "precision": _or_none(r.precision),
                "precision_interval": [_or_none(v) for v in wilson(r.predicted_true, r.predicted)],
            }
            for title, r in rows.items()
        },
    }


def _title(pair: tuple[int, int], names: Sequence[str]) -> str:
    """Two classes in ascending order, named."""
    return "+".join(names[i] for i in sorted(pair))


def _or_none(value: Any) -> Any:
    """The value, None for NaN, which JSON does not know."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _distribution(iou: np.ndarray) -> dict[str, float]:
    """Number, mean and quartiles."""
    quartiles = np.quantile(iou, (0, 0.25, 0.5, 0.75, 1))
    return {"n": len(iou), "mean": float(iou.mean()), **dict(zip(_QUARTILES, map(float, quartiles), strict=True))}


def format_report(report: Mapping[str, Any]) -> str:
    """The dictionary of `overlap_report`, with `recall` where there is one, as text for a terminal."""
    parts = [_format_labels(report), _format_matrix(report), _format_iou(report), _format_overlapping(report)]
    if "recall" in report:
        parts.append(_format_recall(report["recall"]))
    return "\n\n".join(parts)


def _format_labels(report: Mapping[str, Any]) -> str:
    labels = ", ".join(f"{name} {n}" for name, n in report["labels"].items() if n)
    return f"{report['images']} images; {labels or 'no labels'}"


def _format_matrix(report: Mapping[str, Any]) -> str:
    names, matrix = report["compatibility"]["classes"], report["compatibility"]["matrix"]
    shown = [i for i, row in enumerate(matrix) if any(row)]
    head = f"Anatomical compatibility A (co-occurring: {report['pairing']}; '-' undefined)"
    if not shown or len(shown) > _SHOWN:
        return f"{head}: {len(shown)} classes co-occur with another" + ("; see --json" if shown else "")
    rows = [["", *(names[i] for i in shown)]]
    rows += [[names[i], *(number(matrix[i][k], 2) for k in shown)] for i in shown]
    return f"{head}\n{table(rows)}"


def _format_iou(report: Mapping[str, Any]) -> str:
    rows = [["pair", "n", "mean", *_QUARTILES]]
    for title, d in list(report["iou"].items())[:_SHOWN]:
        rows.append([title, str(d["n"]), *(number(d[k]) for k in ("mean", *_QUARTILES))])
    more = len(report["iou"]) - len(rows) + 1
    return f"IoU of co-occurring pairs\n{table(rows)}" + (f"\n{more} more pairs: see --json" if more else "")


def _format_overlapping(report: Mapping[str, Any]) -> str:
    head = f"Overlapping pairs: A >= tau_anat ({report['tau_anat']:g}) and IoU >= tau_spatial"
    columns = ["pair", "tau_spatial", "pairs", "mean IoU", "A", "co-occurring", "their mean IoU"]
    rows, total = [columns], 0
    for title, s in list(report["overlapping"].items()):
        total += s["count"]
        if not s["co_occurring"] and title not in report["paper"]:
            continue
        a = number(s["compatibility"], 2) + ("" if s["compatible"] else " *")
        measured = [str(s["count"]), number(s["mean_iou"]), a]
        rows.append(
            [title, f"{s['tau_spatial']:g}", *measured, str(s["co_occurring"]), number(s["co_occurring_mean_iou"])]
        )
    text = f"{head}\n{table(rows[: _SHOWN + 1])}\n{total} overlapping pairs in all"
    text += "; * A below tau_anat or undefined, none counts" if any("*" in r[4] for r in rows) else ""
    text += f"; {len(rows) - 1 - _SHOWN} more rows: see --json" if len(rows) > _SHOWN + 1 else ""
    if report["paper"]:
        paper = [["pair", "tau_spatial", "pairs", "mean IoU", "A"]]
        for title, p in report["paper"].items():
            figures = [str(p["pairs"]), number(p["mean_iou"]), number(p["compatibility"], 2)]
            paper.append([title, f"{p['tau_spatial']:g}", *figures])
        text += f"\n\nThe paper's table, on its own {PAPER_IMAGES:,} images (not measured here)\n{table(paper)}"
    return text


def _format_recall(recall: Mapping[str, Any]) -> str:
    places = recall["places"]
    head = (
        f"Places found whatever the class (IoU >= {recall['iou']:g}, score >= {recall['conf']:g}): "
        f"{places['found']} of {places['places']}, {number(places['recall'])} ({_interval(places['interval'])})\n\n"
        f"Pair recall: both findings found (IoU >= {recall['iou']:g}, score >= {recall['conf']:g}); "
        f"{recall['images_without_prediction']} images without a prediction"
    )
    columns = ["pair", "true pairs", "both", "first", "second", "none", "recall", "95%"]
    rows = [[*columns, "predicted", "of these true", "precision", "95%"]]
    for title, r in recall["pairs"].items():
        if not (r["pairs"] or r["predicted"] or title == "all"):
            continue
        counts = [str(r[k]) for k in ("pairs", "both", "first_only", "second_only", "neither")]
        shares = [number(r["recall"]), _interval(r["recall_interval"])]
        predicted = [str(r["predicted"]), str(r["predicted_true"]), number(r["precision"])]
        rows.append([title, *counts, *shares, *predicted, _interval(r["precision_interval"])])
    return f"{head}\n{table(rows)}"


def _interval(bounds: Sequence[float | None]) -> str:
    low, high = bounds
    return "-" if low is None else f"{low:.3f}-{high:.3f}"
