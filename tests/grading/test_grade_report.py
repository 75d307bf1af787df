"""Agreement of grades: hand-made cases, and scikit-learn's numbers."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score, confusion_matrix

from yolospine_ultra.evaluate.intervals import wilson
from yolospine_ultra.grading.grade_report import format_report, grade_report, quadratic_kappa

ROMAN = {1: "I", 2: "II", 3: "III", 4: "IV", 5: "V"}


def certain(given_grades, known, at=1.0):
    """Probabilities with `at` on the given grade, the rest shared out."""
    made = np.full((len(given_grades), len(known)), (1 - at) / (len(known) - 1))
    made[np.arange(len(given_grades)), np.searchsorted(known, given_grades)] = at
    return made


def test_hand_made_kappa():
    # two grades apart by 1: kappa_w is Cohen's kappa: (8/10 - .5) / .5
    matrix = np.array([[4, 1], [1, 4]])
    assert quadratic_kappa(matrix, [1, 2]) == pytest.approx(0.6)
    assert quadratic_kappa(np.array([[2, 0, 0], [0, 2, 0], [0, 0, 2]]), [1, 2, 5]) == 1
    assert np.isnan(quadratic_kappa(np.array([[3, 0], [0, 0]]), [1, 2]))
    both = quadratic_kappa(np.stack([matrix, matrix * 3]), [1, 2])
    np.testing.assert_allclose(both, 0.6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=40))
def test_agrees_with_scikit_learn(pairs):
    true, said = np.array(pairs).T
    report = grade_report("x", true, certain(said, [1, 2, 3, 4, 5]), [1, 2, 3, 4, 5], [str(i % 4) for i in true], 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kappa = cohen_kappa_score(true, said, weights="quadratic", labels=[1, 2, 3, 4, 5])
        balanced = balanced_accuracy_score(true, said)
    assert report["kappa"]["value"] == (None if np.isnan(kappa) else pytest.approx(kappa))
    assert report["accuracy"]["value"] == pytest.approx(accuracy_score(true, said))
    assert report["balanced_accuracy"] == pytest.approx(balanced)
    expected = confusion_matrix(true, said, labels=[1, 2, 3, 4, 5]).tolist()
    assert report["confusion"] == {"grades": [1, 2, 3, 4, 5], "counts": expected}
    assert report["within_one"]["hits"] == int((np.abs(true - said) <= 1).sum())
    assert json.loads(json.dumps(report, allow_nan=False))["boxes"] == len(pairs)


def test_abstaining_counts_the_graded_alone():
    true = np.array([1, 1, 2, 2])
    probabilities = np.array([[0.9, 0.1], [0.55, 0.45], [0.6, 0.4], [0.2, 0.8]])
    report = grade_report("meyerding", true, probabilities, [1, 2], ["a", "a", "b", "c"], 0.7)
    graded = report["graded"]
    assert (graded["coverage"]["hits"], graded["accuracy"]["hits"], graded["accuracy"]["trials"]) == (2, 2, 2)
    assert report["accuracy"]["hits"] == 3 and report["accuracy"]["interval"] == pytest.approx(list(wilson(3, 4)))
    curve = {t: (c, a) for t, c, a in zip(*report["curve"].values(), strict=True)}
    assert curve[0.0] == (1, 0.75) and curve[0.6] == (0.75, pytest.approx(2 / 3)) and curve[0.95] == (0, None)
    assert next(iter(report["by_patient"].items())) == ("b", {"boxes": 1, "mean_error": 1.0})
    nothing = grade_report("meyerding", true, probabilities, [1, 2], ["a", "a", "b", "c"], 1.0)["graded"]
    assert nothing["accuracy"]["value"] is None and nothing["kappa"]["value"] is None and "why" in nothing["kappa"]


def test_grade_that_the_model_does_not_know_counts_as_wrong():
    report = grade_report("x", np.array([1, 2, 3]), certain([1, 2, 2], [1, 2]), [1, 2], list("abc"), 0.5)
    assert report["confusion"] == {"grades": [1, 2, 3], "counts": [[1, 0, 0], [0, 1, 0], [0, 1, 0]]}
    assert report["recall"]["3"]["value"] == 0 and report["accuracy"]["hits"] == 2


def test_bootstrap_draws_patients():
    """All boxes of a patient are alike: the interval is that of 4 patients, wider than Wilson's of 200 boxes."""
    true = np.repeat([1, 2, 1, 2], 50)
    said = np.repeat([1, 2, 2, 2], 50)
    report = grade_report("x", true, certain(said, [1, 2]), [1, 2], np.repeat(list("abcd"), 50).tolist(), 0.5)
    low, high = report["accuracy"]["patients"]
    narrow = report["accuracy"]["interval"]
    assert low < narrow[0] < 0.75 < narrow[1] < high
    one = grade_report("x", true, certain(said, [1, 2]), [1, 2], ["a"] * 200, 0.5)
    assert one["kappa"]["patients"] == [None, None]


def test_text_and_bad_input():
    report = grade_report("pfirrmann", np.array([1, 1, 4]), certain([1, 4, 4], [1, 4]), [1, 4], list("abb"), 0.5)
    text = format_report(report | {"notes": ["a note."], "how": "by hand"}, ROMAN)
    assert text.startswith("Pfirrmann grades of 3 boxes of 2 patients: by hand") and text.endswith("a note.")
    assert "always I " in text and "patient b (1.5 in 2)" in text
    row = next(line for line in text.splitlines() if line.startswith("IV"))
    assert row.split() == ["IV", "0", "1", "1.000"]
    with pytest.raises(ValueError, match="expected N >= 1"):
        grade_report("x", np.zeros(0, int), np.zeros((0, 2)), [1, 2], [], 0.5)
    with pytest.raises(ValueError, match="2 grades, probabilities"):
        grade_report("x", np.array([1, 2]), np.zeros((2, 3)), [1, 2], ["a", "b"], 0.5)
    with pytest.raises(ValueError, match="minimum=2"):
        grade_report("x", np.array([1, 2]), np.zeros((2, 2)), [1, 2], ["a", "b"], 2)
