"""Calibration: hand-made cases, scikit-learn and SciPy, what a temperature must not change, and the command."""

import json
import math
import runpy
import sys

import cv2
import numpy as np
import pytest
from conftest import REPO
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sk_log_loss

from yolospine_ultra.evaluate.calibration.error import (
    LIMITS,
    Judged,
    bin_of,
    cross_fit,
    detection_ece,
    drawn_ece,
    fit_temperature,
    fit_temperatures,
    judge,
    log_loss,
    scale_scores,
)
from yolospine_ultra.evaluate.calibration.plots import save_plots
from yolospine_ultra.evaluate.calibration.report import PatientSet, Rules, calibration_report, format_report
from yolospine_ultra.evaluate.findings import ImageFindings

SCRIPT = REPO / "scripts" / "calibrate.py"
RNG = np.random.default_rng(0)


def sample(count, temperature, seed=0, nc=1):
    """Scores whose true probability is sigmoid(logit(s) / temperature of the class), and whether each is right."""
    rng = np.random.default_rng(seed)
    scores, classes = rng.uniform(0.02, 0.98, count), rng.integers(0, nc, count)
    return scores, rng.uniform(size=count) < expit(logit(scores) / np.asarray(temperature)[classes]), classes


def judged(scores, right, classes, image=None, images=1, boxes=None):
    counts = np.full((images, int(classes.max()) + 1), 100) if boxes is None else np.array(boxes)
    return Judged(np.zeros(len(scores), int) if image is None else image, classes, scores, np.asarray(right), counts)


def test_judge_by_hand():
    boxes = [[0, 0, 10, 10], [50, 0, 60, 10]]
    truth = [ImageFindings("a", boxes, [0, 1]), ImageFindings("b", np.zeros((0, 4)), [])]
    found = [
        # right; the second on the same box; of the wrong class; too far; below conf
        ImageFindings(
            "a",
            [boxes[0], [0, 0, 10, 9], boxes[1], [53, 5, 63, 15], boxes[1]],
            [0, 0, 0, 1, 1],
            [0.9, 0.8, 0.7, 0.6, 0.04],
        ),
        ImageFindings("b", [boxes[0]], [1], [0.5]),
    ]
    got = judge(truth, found, 2, iou=0.5, conf=0.05)
    assert got.right.tolist() == [True, False, False, False, False]
    assert (got.image.tolist(), got.classes.tolist()) == ([0, 0, 0, 0, 1], [0, 0, 0, 1, 1])
    assert got.boxes.tolist() == [[1, 1], [0, 0]]
    assert judge(truth, found, 2, conf=0.0).right.sum() == 2
    part = got.of_images(np.array([False, True]))
    assert len(part) == 1 and part.boxes.tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="other images"):
        judge(truth, found[::-1], 2)
    with pytest.raises(ValueError, match="beyond the 1"):
        judge(truth, found, 1)


def test_ece_by_hand():
    scores, right = np.array([0.05, 0.1, 0.19, 0.95, 1.0]), np.array([0, 0, 1, 1, 0])
    assert bin_of(scores).tolist() == [0, 1, 1, 9, 9]
    # bins hold 1, 2, 2: |0 - .05|, |.5 - .145|, |.5 - .975|
    assert detection_ece(scores, right) == pytest.approx((0.05 + 2 * 0.355 + 2 * 0.475) / 5)
    assert detection_ece(scores, right, 1) == pytest.approx(abs(right.mean() - scores.mean()))
    assert math.isnan(detection_ece(np.zeros(0), np.zeros(0)))


@pytest.mark.parametrize("bins", [4, 10, 20])
def test_ece_is_that_of_scikit_learns_curve(bins):
    scores, right, _ = sample(500, [2.0])
    precision, mean = calibration_curve(right, scores, n_bins=bins)
    counts = np.bincount(bin_of(scores, bins))
    assert detection_ece(scores, right, bins) == pytest.approx((counts[counts > 0] * abs(precision - mean)).sum() / 500)


def test_weighted_ece_is_that_of_repeated_detections():
    scores, right, _ = sample(60, [1.5])
    weights = RNG.integers(0, 3, (4, 60))
    expected = [detection_ece(np.repeat(scores, w), np.repeat(right, w)) for w in weights]
    assert drawn_ece(scores, right, weights) == pytest.approx(expected)
    assert np.isnan(drawn_ece(scores, right, np.zeros((1, 60)))).all()


def test_log_loss_is_scikit_learns():
    scores, right, _ = sample(200, [2.0])
    assert log_loss(scores, right) == pytest.approx(sk_log_loss(right, scores))
    assert np.isfinite(log_loss(np.array([0.0, 1.0]), np.array([True, False])))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature):
    scores, right, _ = sample(20_000, [temperature])
    assert fit_temperature(scores, right) == pytest.approx(temperature, rel=0.06)


def test_fitted_temperature_is_where_the_likelihoods_slope_is_zero():
    """Of b = 1 / T: sum (p - y) z = 0, solved by another method."""
    scores, right, _ = sample(300, [2.0], seed=3)
    z = logit(scores)
    b = brentq(lambda b: ((expit(b * z) - right) * z).sum(), 1 / LIMITS[1], 1 / LIMITS[0])
    assert fit_temperature(scores, right) == pytest.approx(1 / b, rel=1e-4)


@pytest.mark.parametrize("right", [[], [True, True], [False, False]])
def test_one_kind_alone_has_no_temperature(right):
    with pytest.raises(ValueError, match="expected some of both kinds"):
        fit_temperature(np.full(len(right), 0.4), np.array(right, dtype=bool))


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30, unique=True),
    st.floats(*LIMITS),
)
@settings(max_examples=100, deadline=None)
def test_scaling_keeps_the_order_of_a_class_and_its_limits(scores, temperature):
    scores = np.sort(scores)
    scaled = scale_scores(scores, np.zeros(len(scores), int), [temperature])
    assert (np.diff(scaled) >= 0).all() and ((scaled >= 0) & (scaled <= 1)).all()
    assert ((scaled > 0.5) <= (scores >= 0.5)).all() and ((scaled < 0.5) <= (scores <= 0.5)).all()
    back = scale_scores(scaled, np.zeros(len(scores), int), [1 / temperature])
    inside = (scaled > 1e-9) & (scaled < 1 - 1e-9)
    assert back[inside] == pytest.approx(scores[inside], abs=1e-5)


def test_average_precision_does_not_change():
    from yolospine_ultra.benchmark.statistics import match, weighted_precision

    truth, found, scaled = [], [], []
    for i in range(10):
        corner = RNG.uniform(0, 80, (6, 2))
        boxes = np.concatenate([corner, corner + 15], 1)
        classes = RNG.integers(0, 2, 6)
        moved = np.concatenate([boxes, boxes]) + RNG.normal(0, 2, (12, 4))
        scores, double = RNG.uniform(0.01, 0.99, 12), np.tile(classes, 2)
        truth.append(ImageFindings(str(i), boxes, classes))
        found.append(ImageFindings(str(i), moved, double, scores))
        scaled.append(ImageFindings(str(i), moved, double, scale_scores(scores, double, [0.3, 4.0])))
    before, after = (weighted_precision(match(truth, x, 2), np.ones((1, 10), int)) for x in (found, scaled))
    np.testing.assert_array_equal(before, after)
    assert (before > 0.1).all()


def test_each_class_gets_its_own_temperature_where_it_can():
    scores, right, classes = sample(4000, [0.5, 3.0, 1.0, 1.0], nc=4)
    right[classes == 3] = True
    got = fit_temperatures(judged(scores, right, classes, boxes=[[500, 500, 20, 500, 0]]), least=30)
    assert got.values[:2] == pytest.approx((0.5, 3.0), rel=0.15)
    assert got.values[2] == got.values[3] == got.values[4] == got.shared
    assert got.fallbacks[2] == "20 labelled boxes, 30 needed" and got.fallbacks[4].startswith("0 labelled")
    assert "expected some of both kinds" in got.fallbacks[3] and set(got.fallbacks) == {2, 3, 4}


def test_classes_without_labels_have_no_say():
    scores, right, classes = sample(2000, [2.0, 2.0], nc=2)
    labelled = classes == 0
    got = fit_temperatures(judged(scores, right & labelled, classes, boxes=[[500, 0]]))
    assert got.shared == pytest.approx(fit_temperature(scores[labelled], right[labelled]))
    with pytest.raises(ValueError, match="no temperature can be fitted"):
        fit_temperatures(judged(scores, right, classes, boxes=[[0, 0]]))


def test_cross_fit_uses_other_patients_only():
    scores, right, classes = sample(600, [2.0])
    image = RNG.integers(0, 12, 600)
    patients = [str(i // 2) for i in range(12)]
    whole = judged(scores, right, classes, image, 12)
    calibrated, fitted = cross_fit(whole, patients, folds=3, least=0)
    assert len(fitted) == 3
    used = [{round(t.values[0], 12) for t in fitted if np.allclose(
        scale_scores(scores[image // 2 == p], classes[image // 2 == p], t.values), calibrated[image // 2 == p])}
        for p in range(6)]  # fmt: skip
    assert all(len(u) == 1 for u in used) and len(set.union(*used)) == 3
    # what one patient's labels say does not reach its own scores
    turned = right ^ (image // 2 == 0)
    again, _ = cross_fit(judged(scores, turned, classes, image, 12), patients, folds=3, least=0)
    own = image // 2 == 0
    np.testing.assert_array_equal(again[own], calibrated[own])
    assert not np.allclose(again[~own], calibrated[~own])
    for folds in (1, 7):
        with pytest.raises(ValueError, match=f"{folds} folds of 6 patients"):
            cross_fit(whole, patients, folds)


def labelled_set(count, temperature, seed=0, first=0):
    """Images of 10 places 20 px apart, class by place; detections on places are right, beside them wrong."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    place = np.arange(10)
    boxes = np.stack([20.0 * place, 0 * place, 20.0 * place + 10, 0 * place + 10], 1)
    for i in range(first, first + count):
        name, scores = f"{i // 2}_{i}.png", rng.uniform(0.06, 0.98, 10)
        right = rng.uniform(size=10) < expit(logit(scores) / temperature)
        moved = boxes + np.where(right, 0, 200)[:, None] * [0, 1, 0, 1]
        truth.append(ImageFindings(name, boxes, place % 2))
        found.append(ImageFindings(name, moved, place % 2, scores))
    return PatientSet(truth, found, [x.name.split("_")[0] for x in truth])


def test_report_mends_what_is_overconfident():
    made = labelled_set(60, 3.0)
    report = calibration_report(made, ["x", "y", "z"], Rules(resamples=100))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    everything = report["classes"]["all"]
    assert (everything["boxes"], everything["detections"]) == (600, 600)
    assert everything["after"]["d_ece"] < 0.6 * everything["before"]["d_ece"] and everything["interval"][1] < 0
    assert report["temperatures"]["classes"]["x"] == pytest.approx(3, rel=0.35)
    assert report["temperatures"]["classes"]["z"] == report["temperatures"]["shared"]
    assert report["classes"]["z"]["before"] is None and "no labelled box" in report["classes"]["z"]["why"]
    x = [s for p in made.predicted for s, c in zip(p.scores, p.classes, strict=True) if c == 0]
    right = judge(made.truth, made.predicted, 3).right[np.tile(np.arange(10) % 2 == 0, 60)]
    assert report["classes"]["x"]["before"]["brier"] == pytest.approx(brier_score_loss(right, x))
    assert sum(b["detections"] for b in report["classes"]["x"]["after"]["bins"]) == 300
    text = format_report(report)
    assert "z has the shared temperature: 0 labelled boxes, 30 needed." in text and "5 folds of patients" in text


def test_report_on_other_patients():
    fit, other = labelled_set(60, 3.0), labelled_set(40, 3.0, seed=1, first=100)
    report = calibration_report(fit, ["x", "y"], Rules(resamples=10), other)
    assert (report["evaluated"], report["held_out_images"], report["held_out_patients"]) == ("held-out", 40, 20)
    measured = judge(other.truth, other.predicted, 2)
    temperatures = list(report["temperatures"]["classes"].values())
    scaled = scale_scores(measured.scores, measured.classes, temperatures)
    assert report["classes"]["all"]["after"]["d_ece"] == pytest.approx(detection_ece(scaled, measured.right))
    assert "of 20 other patients" in format_report(report)
    with pytest.raises(ValueError, match="30 patients are in both sets, such as '0'"):
        calibration_report(fit, ["x", "y"], held_out=fit)


def test_a_temperature_that_does_not_fit_says_so():
    made = labelled_set(60, -0.5)  # the higher the score, the more often wrong
    report = calibration_report(made, ["x", "y"], Rules(resamples=2))
    assert report["temperatures"]["unfit"] == ["x", "y"]
    assert "No temperature fits the scores of x: it is left as it is, T = 1." in format_report(report)
    assert report["temperatures"]["classes"] == {"x": 1, "y": 1} and report["temperatures"]["shared"] == 1


def test_diagram_is_written_and_none_where_nothing_is(tmp_path):
    report = calibration_report(labelled_set(20, 2.0), ["x", "y", "z"], Rules(resamples=2))
    (file,) = save_plots(report, tmp_path)
    assert file.name == "reliability.png" and cv2.imread(str(file)).std() > 5
    report["classes"]["all"]["before"] = None
    assert save_plots(report, tmp_path / "b") == []


def write_set(root, made):
    """A dataset of images of 400 px, and predictions in the form the host writes."""
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True)
    entries = []
    for t, p in zip(made.truth, made.predicted, strict=True):
        cv2.imwrite(str(root / "images/val" / t.name), np.zeros((400, 400), np.uint8))
        rows = [f"{c} {(a + e) / 800} {(b + f) / 800} {(e - a) / 400} {(f - b) / 400}" for c, (a, b, e, f) in
                zip(t.classes, t.boxes, strict=True)]  # fmt: skip
        (root / "labels/val" / t.name).with_suffix(".txt").write_text("\n".join(rows))
        for (a, b, e, f), c, s in zip(p.boxes.tolist(), p.classes.tolist(), p.scores.tolist(), strict=True):
            entry = {"image_id": t.name, "file_name": t.name, "category_id": c + 1, "score": s}
            entries.append(entry | {"bbox": [a, b, e - a, f - b]})
    (root / "predictions.json").write_text(json.dumps(entries))
    (root / "data.yaml").write_text(f"path: {root}\nval: images/val\nnames: [x, y]\n")


def call(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, args)])
    with pytest.raises(SystemExit) as stop:  # anything else would be a traceback for the user
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return stop.value.code


def test_command_prints_json_and_writes(tmp_path, monkeypatch, capsys):
    made = labelled_set(12, 2.0)
    write_set(tmp_path / "set", made)
    options = [tmp_path / "set/data.yaml", "--predictions", tmp_path / "set/predictions.json", "--folds", 3]
    assert call(monkeypatch, *options, "--json", "--out", tmp_path / "out") == 0
    report = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "out/report.json").read_text()) == report
    expected = calibration_report(made, ["x", "y"], Rules(folds=3))
    assert report["classes"]["all"]["before"]["d_ece"] == pytest.approx(expected["classes"]["all"]["before"]["d_ece"])
    assert report["temperatures"]["shared"] == pytest.approx(expected["temperatures"]["shared"])
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"report.json", "reliability.png"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--predictions", "none.json"], "save_json"),
        (["--folds", "20"], "20 folds of 3 patients"),
        (["--split", "test"], "no split 'test'"),
        (["--weights", "none.pt"], "none.pt is not there"),
        (["--conf", "1.5"], "expected 0 to 1"),
        (["--bins", "0"], "expected a whole number from 1"),
        (["--conf", "1"], "no temperature can be fitted"),
        (["--held-out-predictions", "set/predictions.json", "--held-out-split", "val"], "in both sets"),
    ],
)
def test_command_refuses_bad_input_in_a_sentence(tmp_path, args, message, monkeypatch, capsys):
    write_set(tmp_path / "set", labelled_set(6, 2.0))
    monkeypatch.chdir(tmp_path)
    options = ["set/data.yaml", "--predictions", "set/predictions.json", "--folds", 2, *args]
    assert call(monkeypatch, *options) == 2
    printed = capsys.readouterr()
    assert message in printed.err and not printed.out
