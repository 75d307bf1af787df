"""A random forest over HOG descriptors of a crop, and over other features beside it.

Source: the paper's Meyerding step (Masood and Taj 2026): HOG (Dalal and Triggs 2005) of a 128 x 128 crop with 9
orientations, 8 x 8 pixels a cell and 2 x 2 cells a block, then a random forest (Breiman 2001). Added here: classes
weighted by their rarity, cross-validation that never parts a patient, and a forest of its own for every further kind of
feature, because some ten good features drown among the 8,100 of HOG; the forests' probabilities are averaged.

A model file is a line of JSON with what made it, then a joblib pickle. **A pickle runs code when it is loaded**: load
only files you trust. The line is read first: a file of another scikit-learn is refused before anything is unpickled.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import sklearn
from skimage.feature import hog
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedGroupKFold

from yolospine_ultra._version import __version__
from yolospine_ultra.data.atomic import AtomicPath

ORIENTATIONS, CELL, BLOCK = 9, (8, 8), (2, 2)
TREES = 300
FOLDS = 5
# Boxes a leaf holds at least. Pure leaves would undo the class weights: in cross-validation on the phantom's training
# patients fewer than half as many slips of grade II are recognised with 1 as with 10. A few good features bear smaller
# leaves, small sets need them.
_LEAF = {"hog": 10}
_SMALL_LEAF = 3
_LEAVES = 20  # that a set must have room for
_FORMAT = "yolospine-grades-1"
_LONGEST_LINE = 1 << 16

Features = Mapping[str, np.ndarray]  # kind of feature to (N, F)


@dataclass(frozen=True, eq=False)
class GradeModel:
    """Forests that grade boxes.

    Attributes:
        kind: what they grade, "meyerding" or "pfirrmann".
        grades: the grades they know, ascending.
        forests: one for each kind of feature.
    """

    kind: str
    grades: tuple[int, ...]
    forests: dict[str, RandomForestClassifier]

    def probabilities(self, features: Features) -> np.ndarray:
        """Probability of each of `grades` for N boxes, (N, G) in 0..1: the forests' mean.

        Raises:
            ValueError: a kind of feature that a forest needs is missing, or has another number of columns.
        """
        made = []
        for name, forest in self.forests.items():
            given = features.get(name)
            if given is None or given.shape[1] != forest.n_features_in_:
                have = "none" if given is None else str(given.shape[1])
                raise ValueError(f"the {self.kind} model needs {forest.n_features_in_} {name} features, found {have}.")
            made.append(np.zeros((0, len(self.grades))) if not len(given) else forest.predict_proba(given))
        return np.mean(made, axis=0)


def hog_features(crops: Sequence[np.ndarray]) -> np.ndarray:
    """HOG descriptors of N square crops, uint8 (128, 128) each: (N, 8100)."""
    made = [hog(c, orientations=ORIENTATIONS, pixels_per_cell=CELL, cells_per_block=BLOCK) for c in crops]
    return np.array(made, dtype=np.float32)


def fit_model(kind: str, features: Features, grades: np.ndarray, seed: int = 0, trees: int = TREES) -> GradeModel:
    """Fit the forests.

    Args:
        kind: what is graded.
        features: (N, F) of each kind.
        grades: (N,) true grades.
        seed: of the forests.
        trees: in each forest.

    Raises:
        ValueError: fewer than two different grades, of which nothing can be learned.
    """
    known = np.unique(grades)
    if len(known) < 2:
        raise ValueError(f"every box has {kind} grade {known[0] if len(known) else '-'}; expected two grades or more.")
    forests = {}
    for name, table in features.items():
        leaf = max(min(_LEAF.get(name, _SMALL_LEAF), len(table) // _LEAVES), 1)
        forest = RandomForestClassifier(
            trees, class_weight="balanced_subsample", min_samples_leaf=leaf, random_state=seed
        )
        forests[name] = forest.fit(table, grades)
    return GradeModel(kind, tuple(int(g) for g in known), forests)


def cross_validate(
    kind: str,
    features: Features,
    grades: np.ndarray,
    patients: np.ndarray,
    folds: int = FOLDS,
    seed: int = 0,
    trees: int = TREES,
) -> np.ndarray:
    """Probabilities of each box from forests that never saw its patient.

    Args:
        kind, features, grades, trees: as in `fit_model`.
        patients: (N,) whom each box belongs to.
        folds: of a stratified split by patient (scikit-learn's `StratifiedGroupKFold`).
        seed: of the split and the forests.

    Returns:
        (N, G) in 0..1, G the number of different grades. A grade that a fold's training patients lack gets 0 there.

    Raises:
        ValueError: fewer patients than folds, or training patients who all have one grade.
    """
    if len(np.unique(patients)) < folds:
        raise ValueError(f"{len(np.unique(patients))} patients; {folds} folds need at least one patient each.")
    known = np.unique(grades)
    made = np.zeros((len(grades), len(known)))
    with warnings.catch_warnings():
        # a grade of fewer boxes than folds: it is counted in the report, where its row is
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        split = list(splitter.split(np.zeros((len(grades), 1)), grades, patients))
    for train, test in split:
        model = fit_model(kind, {k: v[train] for k, v in features.items()}, grades[train], seed, trees)
        columns = np.searchsorted(known, model.grades)
        made[np.ix_(test, columns)] = model.probabilities({k: v[test] for k, v in features.items()})
    return made


def save_model(model: GradeModel, file: str | Path) -> Path:
    """Write a model; the file is a pickle behind a line of JSON, see above. Returns its path."""
    head = {"format": _FORMAT, "kind": model.kind, "grades": model.grades, **_versions()}
    stream = io.BytesIO()
    joblib.dump(model.forests, stream, compress=3)
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    AtomicPath(file).write_bytes(json.dumps(head).encode() + b"\n" + stream.getvalue())
    return file


def load_model(file: str | Path, kind: str) -> GradeModel:
    """Read a model of a trusted file: its pickle can run code.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no model, one of another kind, damaged, or of another scikit-learn.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not a file; expected a model that `grade.py {kind} fit` wrote.")
    with file.open("rb") as stream:
        head = _head(stream.readline(_LONGEST_LINE), file)
        if head["kind"] != kind:
            raise ValueError(f"{file} grades {head['kind']}, expected {kind}; give that model, or fit one.")
        if head["scikit-learn"] != sklearn.__version__:
            raise ValueError(
                f"{file} was written by scikit-learn {head['scikit-learn']}, this is {sklearn.__version__}; pickled "
                "forests hold for one version only: install that one, or fit the model anew."
            )
        try:
            forests = joblib.load(io.BytesIO(stream.read()))
        except Exception as error:  # whatever a cut or altered pickle raises
            raise ValueError(f"{file} is damaged ({error.__class__.__name__}); fit the model anew.") from error
    return GradeModel(kind, tuple(head["grades"]), forests)


def _versions() -> dict[str, str]:
    """What wrote a file."""
    return {
        "yolospine_ultra": __version__,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "joblib": joblib.__version__,
    }


def _head(line: bytes, file: Path) -> dict:
    """The first line of a model file."""
    try:
        head = json.loads(line)
    except ValueError:
        head = None
    if not isinstance(head, dict) or head.get("format") != _FORMAT or not {"kind", "grades", *_versions()} <= set(head):
        raise ValueError(f"{file} is no model of this package; expected one that `grade.py fit` wrote.")
    return head
