"""Forests over HOG: features, cross-validation that parts no patient, model files."""

import json
import pickle

import numpy as np
import pytest
import sklearn

from yolospine_ultra.grading.hog_forest import (
    GradeModel,
    cross_validate,
    fit_model,
    hog_features,
    load_model,
    save_model,
)

RNG = np.random.default_rng(0)
GRADES = np.repeat([1, 2, 4], 20)
PATIENTS = np.arange(60) // 2  # two boxes a patient, of one grade
EASY = {"signal": GRADES[:, None] + RNG.normal(0, 0.1, (60, 3))}


def test_hog_is_the_papers():
    features = hog_features([np.tile(np.arange(128, dtype=np.uint8), (128, 1))])
    assert features.shape == (1, 15 * 15 * 2 * 2 * 9)
    # 15 x 15 blocks of 2 x 2 cells of 9 orientations; a ramp to the right has one orientation only
    filled = (features.reshape(-1, 9) > 0).any(0)
    assert filled.sum() == 1
    norms = np.linalg.norm(features.reshape(225, 36), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-3)


def test_forest_learns_and_knows_its_grades():
    model = fit_model("pfirrmann", EASY, GRADES, trees=20)
    probabilities = model.probabilities(EASY)
    assert model.grades == (1, 2, 4) and probabilities.shape == (60, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (np.array(model.grades)[probabilities.argmax(1)] == GRADES).all()
    assert model.probabilities({"signal": np.zeros((0, 3))}).shape == (0, 3)
    with pytest.raises(ValueError, match="needs 3 signal features, found none"):
        model.probabilities({"hog": EASY["signal"]})
    with pytest.raises(ValueError, match="needs 3 signal features, found 2"):
        model.probabilities({"signal": EASY["signal"][:, :2]})
    with pytest.raises(ValueError, match="every box has pfirrmann grade 1"):
        fit_model("pfirrmann", EASY, np.ones(60, int))


def test_forests_of_several_kinds_are_averaged():
    noise = {"hog": RNG.normal(size=(60, 4))}
    both = fit_model("pfirrmann", EASY | noise, GRADES, trees=20).probabilities(EASY | noise)
    each = [fit_model("pfirrmann", f, GRADES, trees=20).probabilities(f) for f in (EASY, noise)]
    np.testing.assert_allclose(both, np.mean(each, axis=0))


def test_cross_validation_never_sees_the_patient():
    """Features that name the patient, whose grades are drawn: remembered when fitted, of no use out of fold."""
    who = np.repeat(np.arange(30), 4)
    grades = np.random.default_rng(1).integers(1, 3, 30)[who]
    features = {"signal": np.eye(30)[who]}
    fitted = fit_model("x", features, grades, trees=40).probabilities(features)
    assert ((fitted.argmax(1) + 1) == grades).mean() > 0.9
    found = cross_validate("x", features, grades, who, trees=40)
    assert ((found.argmax(1) + 1) == grades).mean() < 0.75


def test_cross_validation_with_a_grade_of_one_patient():
    grades = np.where(PATIENTS == 29, 5, np.where(PATIENTS < 15, 1, 2))
    found = cross_validate("x", EASY, grades, PATIENTS, trees=10)
    assert found.shape == (60, 3)
    assert found[grades == 5, 2].tolist() == [0, 0]  # no training patient has it when its own is tested
    np.testing.assert_allclose(found.sum(1), 1)
    with pytest.raises(ValueError, match="30 patients; 31 folds"):
        cross_validate("x", EASY, grades, PATIENTS, folds=31)


def test_model_files(tmp_path):
    model = fit_model("meyerding", EASY, GRADES, trees=10)
    file = save_model(model, tmp_path / "new" / "m.model")
    again = load_model(file, "meyerding")
    assert isinstance(again, GradeModel) and again.grades == (1, 2, 4)
    np.testing.assert_array_equal(again.probabilities(EASY), model.probabilities(EASY))
    head = json.loads(file.read_bytes().split(b"\n")[0])
    assert head["scikit-learn"] == sklearn.__version__ and {"numpy", "joblib", "yolospine_ultra"} <= set(head)
    with pytest.raises(ValueError, match="grades meyerding, expected pfirrmann"):
        load_model(file, "pfirrmann")
    with pytest.raises(FileNotFoundError, match=r"pfirrmann fit"):
        load_model(tmp_path / "none", "pfirrmann")
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ValueError, match="is damaged"):
        load_model(file, "meyerding")
    for text in (b"", b"{}\n", b"\x80\x04\x95", b"[1]\n", b'{"format": "yolospine-grades-1"}\n'):
        file.write_bytes(text)
        with pytest.raises(ValueError, match="is no model of this package"):
            load_model(file, "meyerding")


class Trap:
    """Unpickled, it leaves a mark."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


def test_another_scikit_learn_is_refused_before_anything_is_unpickled(tmp_path):
    model = fit_model("meyerding", EASY, GRADES, trees=5)
    file = save_model(model, tmp_path / "m.model")
    head = json.loads(file.read_bytes().split(b"\n")[0])
    mark = tmp_path / "mark"
    file.write_bytes(json.dumps(head | {"scikit-learn": "0.1"}).encode() + b"\n" + pickle.dumps(Trap(mark)))
    with pytest.raises(ValueError, match=f"written by scikit-learn 0.1, this is {sklearn.__version__}"):
        load_model(file, "meyerding")
    assert not mark.exists()
