"""Overlapping findings: which classes occur together at one place, and how many pairs of boxes overlap by how much.

Source: Masood and Taj 2026, "Overlapping Disorders". Two findings of different classes in one image are an overlapping
pair iff their classes are anatomically compatible, A(c_i, c_j) >= tau_anat, and their boxes overlap,
IoU >= tau_spatial of that pair of classes.

    A(c_i, c_j) = co-occurring pairs of boxes (b of c_i, b' of c_j) / min(number of c_i boxes, number of c_j boxes)

The paper leaves open when two boxes co-occur. Its A (.91 for SS + LDB) is far above its overlapping pairs over the
smaller class (869 / 1921 = .45), so the IoU test comes later, and A <= 1 rules out all pairs of an image. Here boxes
co-occur where they touch (IoU > 0), the nearest to "at one spinal segment" that boxes alone can say; `PAIRINGS` has the
alternatives. A may exceed 1 where one box touches several of the other class.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.matching import iou_matrix, match_by_class

Rules = Mapping[tuple[int, int], float]

# The paper names no tau_anat; every pair in its table, by either reading of A, is at or above this.
TAU_ANAT = 0.2


@dataclass(frozen=True)
class PaperPair:
    """A row of the paper's table of overlapping pairs, on its 1,038 images."""

    first: str
    second: str
    tau_spatial: float
    pairs: int
    mean_iou: float
    compatibility: float


def _read_paper() -> tuple[PaperPair, ...]:
    """The paper's table, from the data file beside this one."""
    with Path(__file__).with_name("paper_overlap.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            PaperPair(
                r["first"], r["second"], float(r["tau_spatial"]), int(r["pairs"]), *map(float, list(r.values())[4:])
            )
            for r in csv.DictReader(file)
        )


PAPER_TABLE = _read_paper()
PAPER_RULES: dict[tuple[str, str], float] = {(p.first, p.second): p.tau_spatial for p in PAPER_TABLE}

# boxes (N, 4) and IoU (N, N) of one image -> (N, N), symmetric: which boxes co-occur
PAIRINGS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    # the boxes touch
    "touching": lambda boxes, iou: iou > 0,
    # the centre of one stands within the height of the other: side by side in a spine that stands upright
    "segment": lambda boxes, iou: _beside(boxes),
    # anywhere in one image: the paper's formula to the letter, for which A has no upper limit
    "image": lambda boxes, iou: np.ones_like(iou, dtype=bool),
}


def _beside(boxes: np.ndarray) -> np.ndarray:
    """Which boxes stand beside each other: (N, N) bool for (N, 4)."""
    centre, height = (boxes[:, 1] + boxes[:, 3]) / 2, boxes[:, 3] - boxes[:, 1]
    return np.abs(centre[:, None] - centre) <= np.maximum(height[:, None], height) / 2


@dataclass(frozen=True, eq=False)
class Pairs:
    """Co-occurring pairs of boxes of different classes, P of them; the first has the lower class.

    Attributes:
        image: (P,) index of the image.
        boxes: (P, 2) index of either box within the image.
        classes: (P, 2) class of either box, ascending.
        iou: (P,) their IoU.
        totals: (nc,) number of boxes of each class in all images.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    iou: np.ndarray
    totals: np.ndarray

    def of(self, pair: tuple[int, int]) -> np.ndarray:
        """Mask (P,) of the pairs of two classes, named in either order."""
        return (self.classes == sorted(pair)).all(1)

    def compatibility(self) -> np.ndarray:
        """A of every two classes: (nc, nc), symmetric, NaN on the diagonal and where either class never occurs."""
        nc = len(self.totals)
        counts = np.zeros((nc, nc))
        np.add.at(counts, (self.classes[:, 0], self.classes[:, 1]), 1)
        smaller = np.minimum(self.totals[:, None], self.totals).astype(float)
        smaller[smaller == 0] = np.nan
        np.fill_diagonal(smaller, np.nan)
        return (counts + counts.T) / smaller


@dataclass(frozen=True)
class PairStatistics:
    """Overlapping pairs of two classes; `nan` where there is none to average.

    Attributes:
        count: overlapping pairs: compatible and IoU >= tau_spatial.
        mean_iou: mean IoU of those.
        compatibility: A of the two classes.
        compatible: A >= tau_anat; where not, `count` is 0.
        tau_spatial: the rule.
        co_occurring: pairs before both tests.
        co_occurring_mean_iou: mean IoU of those.
    """

    count: int
    mean_iou: float
    compatibility: float
    compatible: bool
    tau_spatial: float
    co_occurring: int
    co_occurring_mean_iou: float


def rules_by_class(rules: Mapping[tuple[str, str], float], names: Sequence[str]) -> dict[tuple[int, int], float]:
    """Rules by class index (ascending) from rules by class name.

    Raises:
        ValueError: a class that `names` does not have, or a class paired with itself.
    """
    indexed = {}
    for pair, tau in rules.items():
        unknown = [n for n in pair if n not in names]
        if unknown or pair[0] == pair[1]:
            what = f"class {unknown[0]!r} is unknown" if unknown else "a class cannot overlap itself"
            raise ValueError(f"rule {'+'.join(pair)}: {what}; the classes are {', '.join(names)}.")
        first, second = sorted(names.index(n) for n in pair)
        indexed[first, second] = tau
    return indexed


def find_pairs(images: Sequence[ImageFindings], nc: int | None = None, pairing: str = "touching") -> Pairs:
    """Find all co-occurring pairs of boxes of different classes.

    Args:
        images: findings, labelled or predicted.
        nc: number of classes; as many as occur where it is None.
        pairing: a name in `PAIRINGS`.

    Raises:
        ValueError: an unknown pairing, or a class index of `nc` or more.
    """
    if pairing not in PAIRINGS:
        raise ValueError(f"pairing {pairing!r}: choose one of {', '.join(PAIRINGS)}")
    occurring = max((int(x.classes.max()) + 1 for x in images if len(x)), default=0)
    nc = occurring if nc is None else nc
    if occurring > nc:
        raise ValueError(f"class {occurring - 1} occurs, but there are {nc} classes, 0 to {nc - 1}")
    image, boxes, classes, ious = [], [], [], []
    for k, x in enumerate(images):
        iou = iou_matrix(x.boxes, x.boxes)
        # ordered by class, every pair of different classes appears once
        a, b = np.nonzero(PAIRINGS[pairing](x.boxes, iou) & (x.classes[:, None] < x.classes))
        image.append(np.full(len(a), k))
        boxes.append(np.stack([a, b], 1))
        classes.append(x.classes[boxes[-1]])
        ious.append(iou[a, b])
    totals = np.bincount(np.concatenate([x.classes for x in images] or [np.zeros(0, int)]), minlength=nc)
    return Pairs(
        np.concatenate(image or [np.zeros(0, int)]),
        np.concatenate(boxes or [np.zeros((0, 2), int)]),
        np.concatenate(classes or [np.zeros((0, 2), int)]),
        np.concatenate(ious or [np.zeros(0)]),
        totals,
    )


def overlapping_pairs(
    images: Sequence[ImageFindings], rules: Rules, tau_anat: float = TAU_ANAT, pairing: str = "touching"
) -> dict[tuple[int, int], PairStatistics]:
    """Count the overlapping pairs of every two classes that have a rule.

    Args:
        images: findings, labelled or predicted.
        rules: tau_spatial by pair of class indices, ascending (see `rules_by_class`).
        tau_anat: least A of compatible classes.
        pairing: a name in `PAIRINGS`.

    Raises:
        ValueError: an unknown pairing.
    """
    occurring = max((int(x.classes.max()) + 1 for x in images if len(x)), default=0)
    nc = max([occurring, *(max(pair) + 1 for pair in rules)])
    return pair_statistics(find_pairs(images, nc, pairing), rules, tau_anat)


def pair_statistics(pairs: Pairs, rules: Rules, tau_anat: float = TAU_ANAT) -> dict[tuple[int, int], PairStatistics]:
    """`overlapping_pairs` of pairs that were found before."""
    matrix = pairs.compatibility()
    made = {}
    for pair, tau in rules.items():
        iou = pairs.iou[pairs.of(pair)]
        a = float(matrix[pair])
        compatible = bool(a >= tau_anat)  # False for NaN: a class that never occurs
        kept = iou[iou >= tau] if compatible else iou[:0]
        made[pair] = PairStatistics(len(kept), _mean(kept), a, compatible, tau, len(iou), _mean(iou))
    return made


def _mean(values: np.ndarray) -> float:
    """Mean, NaN of nothing."""
    return float(values.mean()) if len(values) else float("nan")


def count_kept(iou: np.ndarray, taus: Sequence[float] | np.ndarray) -> np.ndarray:
    """How many of `iou` are at or above each tau: (len(taus),) int."""
    return len(iou) - np.searchsorted(np.sort(iou), np.asarray(taus, dtype=float), side="left")


@dataclass(frozen=True)
class PairRecall:
    """How many true overlapping pairs of two classes were found, and how many predicted ones are true.

    Attributes:
        pairs: true overlapping pairs.
        both, first_only, second_only, neither: of these, by which of the two findings was found; the sum is `pairs`.
        predicted: overlapping pairs among the predictions.
        predicted_true: of these, pairs whose two findings both match ground truth.
    """

    pairs: int
    both: int
    first_only: int
    second_only: int
    neither: int
    predicted: int
    predicted_true: int

    @property
    def recall(self) -> float:
        """Share of true pairs of which both findings were found; NaN without pairs."""
        return self.both / self.pairs if self.pairs else float("nan")

    @property
    def precision(self) -> float:
        """Share of predicted pairs whose two findings are both true; NaN without predicted pairs."""
        return self.predicted_true / self.predicted if self.predicted else float("nan")

    def __add__(self, other: PairRecall) -> PairRecall:
        """Counts of both together."""
        return PairRecall(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def pair_recall(
    truth: Sequence[ImageFindings],
    predictions: Sequence[ImageFindings],
    rules: Rules,
    iou: float = 0.5,
    conf: float = 0.25,
    tau_anat: float = TAU_ANAT,
    pairing: str = "touching",
) -> dict[tuple[int, int], PairRecall]:
    """Count for every two classes that have a rule how many true overlapping pairs were found whole.

    Args:
        truth: labelled findings.
        predictions: findings with scores, of the same images in the same order.
        rules: tau_spatial by pair of class indices, ascending.
        iou: least IoU of a prediction with the finding it finds; matched one to one, best score first, class by class.
        conf: least score of a prediction that counts.
        tau_anat: least A of compatible classes, measured on `truth`, which decides for the predicted pairs too.
        pairing: a name in `PAIRINGS`.

    Raises:
        ValueError: other images or another order in `predictions`, no scores, `iou` out of range, unknown pairing.
    """
    if [x.name for x in truth] != [x.name for x in predictions]:
        raise ValueError("predictions are of other images than the ground truth, or in another order")
    predictions = [x.above(conf) for x in predictions]
    occurring = max((int(x.classes.max()) + 1 for x in (*truth, *predictions) if len(x)), default=0)
    nc = max([occurring, *(max(pair) + 1 for pair in rules)])
    found = [match_by_class(t, p, iou) for t, p in zip(truth, predictions, strict=True)]
    true_pairs, predicted_pairs = find_pairs(truth, nc, pairing), find_pairs(predictions, nc, pairing)
    hit = _both(true_pairs, [f >= 0 for f in found])
    right = _both(predicted_pairs, [np.isin(np.arange(len(p)), f) for p, f in zip(predictions, found, strict=True)])
    matrix, made = true_pairs.compatibility(), {}
    for pair, tau in rules.items():
        compatible = matrix[pair] >= tau_anat
        first, second = hit[compatible & true_pairs.of(pair) & (true_pairs.iou >= tau)].T
        predicted = right[compatible & predicted_pairs.of(pair) & (predicted_pairs.iou >= tau)].all(1)
        counts = [first & second, first & ~second, ~first & second, ~first & ~second]
        made[pair] = PairRecall(
            len(first), *(int(c.sum()) for c in counts), predicted=len(predicted), predicted_true=int(predicted.sum())
        )
    return made


def _both(pairs: Pairs, flags: Sequence[np.ndarray]) -> np.ndarray:
    """A flag of every box, one array an image, looked up for either box of each pair: (P, 2) bool."""
    start = np.cumsum([0, *(len(f) for f in flags)])
    return np.concatenate([*flags, np.zeros(0, bool)])[start[pairs.image][:, None] + pairs.boxes]
