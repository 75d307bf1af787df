"""How well grades agree with the true ones: accuracy, weighted kappa, confusion, and what abstaining buys.

Sources: Wilson 1927 for shares; Cohen 1968, kappa with quadratic weights, for grades that have an order:

    kappa_w = 1 - sum_ij w_ij O_ij / sum_ij w_ij E_ij,  w_ij = (g_i - g_j)^2

O the counts, E those of independent raters with the same margins. It is scikit-learn's number, which a test checks;
written for many matrices at once, for a bootstrap over patients. A grade is given where its probability is at least
`minimum`; below, the model abstains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from yolospine_ultra.evaluate.intervals import draw_patients, or_none, percentile_interval, share
from yolospine_ultra.evaluate.text import bounds, number, table

THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(20))


def quadratic_kappa(matrices: np.ndarray, grades: Sequence[int]) -> np.ndarray:
    """Cohen's kappa with quadratic weights of confusion matrices (..., G, G), rows true: (...); NaN where undefined."""
    values = np.asarray(grades, dtype=float)
    weight = (values[:, None] - values) ** 2
    counts = np.asarray(matrices, dtype=float)
    chance = counts.sum(-1)[..., :, None] * counts.sum(-2)[..., None, :]
    total = counts.sum((-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is NaN, as meant
        return 1 - (weight * counts).sum((-2, -1)) * total / (weight * chance).sum((-2, -1))


def grade_report(
    kind: str,
    true: np.ndarray,
    probabilities: np.ndarray,
    known: Sequence[int],
    patients: Sequence[str],
    minimum: float,
) -> dict[str, Any]:
    """Compare predicted with true grades.

    Args:
        kind: what is graded.
        true: (N,) true grades, N >= 1.
        probabilities: (N, G) in 0..1.
        known: the G grades of the columns, ascending.
        patients: (N,) whom each belongs to.
        minimum: least probability of a grade that is given, 0..1.

    Returns:
        Numbers that JSON can hold: `accuracy` (a Wilson share) with `patients`, its interval over patients; `kappa`
        with the same; `majority`, the share that always naming the commonest grade would get; `within_one`, off by one
        grade at most; `balanced_accuracy`; `recall` of each grade; `by_patient`, number of boxes and mean error in
        grades, the largest first; `confusion`, row = true; `graded` where the model does not abstain: `coverage`,
        `accuracy`, `kappa`; `curve` of coverage and accuracy over the minimum.

    Raises:
        ValueError: no boxes, numbers that disagree, or `minimum` out of range.
    """
    true, probabilities = np.asarray(true), np.asarray(probabilities, dtype=float)
    _check(len(true), probabilities.shape, len(known), len(patients), minimum)
    grades = sorted({*known, *true.tolist()})
    given, best = np.asarray(known)[probabilities.argmax(1)], probabilities.max(1)
    weights = draw_patients(patients)
    pairs = _pairs(true, given, grades)
    matrix = pairs.sum(0)
    right = true == given
    rows = matrix.sum(1)
    recall = {str(g): share(matrix[k, k], rows[k]) for k, g in enumerate(grades)}
    kept = best >= minimum
    return {
        "kind": kind,
        "boxes": len(true),
        "patients": len(set(patients)),
        "accuracy": share(right.sum(), len(true)) | {"patients": _interval(right, np.ones_like(right), weights)},
        "kappa": _kappa(pairs, grades, weights),
        "majority": share(rows.max(), len(true)) | {"grade": grades[int(rows.argmax())]},
        "within_one": share((np.abs(true - given) <= 1).sum(), len(true)),
        "balanced_accuracy": float(np.mean([r["value"] for r in recall.values() if r["trials"]])),
        "recall": recall,
        "by_patient": _by_patient(np.abs(true - given), np.asarray(patients, dtype=str)),
        "confusion": {"grades": grades, "counts": matrix.tolist()},
        "graded": {
            "minimum": minimum,
            "coverage": share(kept.sum(), len(true)),
            "accuracy": share((right & kept).sum(), kept.sum()) | {"patients": _interval(right & kept, kept, weights)},
            "kappa": _kappa(pairs * kept[:, None, None], grades, weights),
        },
        "curve": _curve(right, best),
    }


def _check(boxes: int, shape: tuple[int, ...], known: int, patients: int, minimum: float) -> None:
    """Refuse numbers that disagree."""
    if not boxes or shape != (boxes, known) or patients != boxes:
        found = f"{boxes} grades, probabilities {shape}, {patients} patients"
        raise ValueError(f"expected N >= 1 grades and patients with probabilities (N, {known}), got {found}.")
    if not 0 <= minimum <= 1:
        raise ValueError(f"minimum={minimum}: expected 0 to 1.")


def _curve(right: np.ndarray, best: np.ndarray) -> dict[str, list[float | None]]:
    """Share of boxes that get a grade, and of these that are right, over the least probability of a grade."""
    return {
        "minimum": list(THRESHOLDS),
        "coverage": [float((best >= t).mean()) for t in THRESHOLDS],
        "accuracy": [float(right[best >= t].mean()) if (best >= t).any() else None for t in THRESHOLDS],
    }


def _by_patient(error: np.ndarray, patients: np.ndarray) -> dict[str, dict[str, Any]]:
    """Boxes and mean error of each patient, the largest first: where labels are odd, or a scan is."""
    made = {}
    for name in np.unique(patients):
        own = error[patients == name]
        made[str(name)] = {"boxes": len(own), "mean_error": float(own.mean())}
    return dict(sorted(made.items(), key=lambda item: -item[1]["mean_error"]))


def _pairs(true: np.ndarray, given: np.ndarray, grades: Sequence[int]) -> np.ndarray:
    """A confusion matrix of each box, (N, G, G)."""
    values = np.asarray(grades)
    return ((true[:, None] == values)[:, :, None] & (given[:, None] == values)[:, None]).astype(np.int64)


def _interval(hits: np.ndarray, trials: np.ndarray, weights: np.ndarray) -> list[float | None]:
    """Bootstrap interval of a share."""
    drawn = weights @ trials.astype(np.int64)
    values = np.divide(weights @ hits.astype(np.int64), drawn, out=np.full(len(weights), np.nan), where=drawn > 0)
    return percentile_interval(values)


def _kappa(pairs: np.ndarray, grades: Sequence[int], weights: np.ndarray) -> dict[str, Any]:
    """Quadratic kappa with its interval over patients."""
    value = or_none(float(quadratic_kappa(pairs.sum(0), grades)))
    drawn = quadratic_kappa(np.tensordot(weights, pairs, 1), grades)
    made = {"value": value, "patients": percentile_interval(drawn)}
    if value is not None:
        return made
    return made | {"why": f"not defined, because {'all grades are one' if pairs.any() else 'nothing is graded'}"}


def format_report(report: Mapping[str, Any], roman: Mapping[int, str]) -> str:
    """A report as text for a terminal; `roman` writes the grades."""
    shares = {
        "accuracy": report["accuracy"],
        f"always {roman[report['majority']['grade']]}": report["majority"],
        "within one grade": report["within_one"],
        **report.get("beside", {}),
        f"graded at probability >= {report['graded']['minimum']:g}": report["graded"]["coverage"],
        "accuracy of these": report["graded"]["accuracy"],
    }
    rows = [["", "of", "share", "Wilson 95%", "95% over patients"]]
    for title, s in shares.items():
        over = bounds(s["patients"]) if "patients" in s else ""
        rows.append([title, f"{s['hits']}/{s['trials']}", number(s["value"]), bounds(s["interval"]), over])
    kappa = report["kappa"]
    lines = [
        f"{report['kind'].capitalize()} grades of {report['boxes']} boxes of {report['patients']} patients"
        + (f": {report['how']}" if "how" in report else ""),
        table(rows),
        f"quadratic kappa {number(kappa['value'])} ({bounds(kappa['patients'])} over patients); "
        f"of the graded {number(report['graded']['kappa']['value'])}; "
        f"balanced accuracy {report['balanced_accuracy']:.3f}",
    ]
    grades, counts = report["confusion"]["grades"], report["confusion"]["counts"]
    head = ["true \\ given", *(roman[g] for g in grades), "recall"]
    body = [
        [roman[g], *map(str, row), number(report["recall"][str(g)]["value"])]
        for g, row in zip(grades, counts, strict=True)
    ]
    worst = [f"{p} ({r['mean_error']:.1f} in {r['boxes']})" for p, r in list(report["by_patient"].items())[:3]]
    named = f"largest mean error in grades (boxes): patient {', '.join(worst)}"
    return "\n".join([*lines, "", table([head, *body]), named, *report.get("notes", [])])
