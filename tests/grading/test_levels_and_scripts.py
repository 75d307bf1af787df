"""Disc levels of known spines, grades of findings without one, and the command from end to end."""

import json
import runpy
import sys

import numpy as np
import pytest
from conftest import REPO
from graded_sets import phantom_set, slip_set

from yolospine_ultra.evaluate.dataset_files import find_files
from yolospine_ultra.evaluate.findings import ImageFindings, read_dataset
from yolospine_ultra.evaluate.levels.spine_profile import LEVELS, default_profile
from yolospine_ultra.grading.apply import grade_findings, image_files, t1_images
from yolospine_ultra.grading.boxes import read_boxes
from yolospine_ultra.grading.hog_forest import fit_model
from yolospine_ultra.grading.kinds import GRADINGS, at_predictions
from yolospine_ultra.grading.level_study import (
    accuracy_rows,
    fit_profile,
    format_study,
    levelled_images,
    prediction_study,
    removal_study,
)
from yolospine_ultra.grading.pfirrmann import disc_boxes, disc_features

SCRIPT = REPO / "scripts" / "grade.py"


@pytest.fixture
def phantom():
    return phantom_set()


@pytest.fixture
def slips():
    return slip_set()


@pytest.fixture(scope="module")
def phantom_levels():
    phantom = phantom_set()
    names = find_files("spine-phantom.yaml", "all", phantom).names
    return levelled_images(read_boxes("spine-phantom.yaml", "all", None, phantom), names), names


def grade(monkeypatch, capsys, *args):
    """Run the command in this process: exit status, output, errors."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, args)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    written = capsys.readouterr()
    return end.value.code, written.out, written.err


def test_levels_of_the_phantom(phantom_levels):
    images, names = phantom_levels
    study = removal_study(images, names, removed=(0, 1), repeats=1)
    assert study["images"] == 30 and study["removed"]["0"]["discs"]["value"] == 1
    assert study["removed"]["0"]["beside"]["value"] > 0.9
    assert study["removed"]["1"]["discs"]["value"] > 0.85
    text = format_study(study)
    assert "1 removed: discs" in text and "with the image's lower edge" in text
    assert removal_study(images[:6], names, removed=(2,), repeats=2) == removal_study(
        images[:6], names, removed=(2,), repeats=2
    )


def test_accuracy_rows_by_hand():
    right = np.array([True, False, True])
    rows = accuracy_rows([("a", right, np.array([True, True, False])), ("b", right[:1], right[:1])])
    assert (rows["discs"]["hits"], rows["discs"]["trials"]) == (2, 3)
    assert (rows["beside"]["hits"], rows["beside"]["trials"]) == (1, 1)
    assert (rows["images"]["hits"], rows["images"]["trials"]) == (1, 2)
    assert accuracy_rows([])["discs"]["value"] is None


def test_levels_of_predictions(phantom_levels):
    images, names = phantom_levels
    perfect = [ImageFindings(f"val/{x.findings.name}", *_scored(x.findings)) for x in images[1:]]
    perfect[0] = ImageFindings(perfect[0].name, np.zeros((0, 4)), [], [])
    study = prediction_study(images, perfect, names)
    assert study["without_prediction"] == 2 and study["discs"]["value"] == 1
    beside = sum(int(np.isin(x.findings.classes, (2, 3)).sum()) for x in images[2:])
    assert study["unmatched"] <= beside  # SS and SP cover no disc, or the one they are at


def _scored(findings):
    return findings.boxes, findings.classes, np.full(len(findings), 0.9)


def test_profile_of_the_phantom(phantom_levels):
    images, names = phantom_levels
    profile = fit_profile(images, names)
    assert abs(profile.angle[0] - default_profile().angle[0]) < 10
    assert profile.discs[0] > 20 and (np.diff(profile.step[:6]) < 0.2).all()


def test_levels_need_a_column(slips, tmp_path):
    boxes = read_boxes(slips, "train", None)
    names = find_files(slips, "train").names
    assert {x.levels[0] for x in levelled_images(boxes, names)} == {"L4/L5"}
    with pytest.raises(ValueError, match="has the class 'SP'"):
        levelled_images(boxes, ["DDD"])
    boxes.levels[:] = ""
    with pytest.raises(ValueError, match="gives no levels"):
        levelled_images(boxes, names)


def test_one_grade_a_disc(phantom):
    """Every disc of an image has one row, with the level that the phantom knows, at the box that scores best."""
    boxes = disc_boxes("spine-phantom.yaml", "all", phantom)
    grading = GRADINGS["pfirrmann"]
    model = fit_model("pfirrmann", disc_features(boxes.files, boxes.boxes, ("signal",)), boxes.grades, trees=20)
    images, names = read_dataset("spine-phantom.yaml", "val", phantom)
    t1 = t1_images("spine-phantom.yaml", "val", phantom)
    assert t1 and all("_t1" in n for n in t1)
    files = image_files("spine-phantom.yaml", "val", phantom)
    images = [ImageFindings(x.name, *_scored(x)) for x in images if x.name not in t1]
    rows = grade_findings(grading, model, images, names, files, 0.4)
    val = read_boxes("spine-phantom.yaml", "val", "pfirrmann", phantom)
    true = {(f.name, v): g for f, v, g in zip(val.files, val.levels, val.grades, strict=True) if f.name not in t1}
    found = {(r["image"], r["level"]): r for r in rows}
    discs = {k for k, c in zip(zip([f.name for f in val.files], val.levels, strict=True), val.classes, strict=True)}
    assert len(found) == len(rows) and set(found) <= discs and len(rows) >= 0.95 * len(true)
    for row in rows:
        best = max(row["probabilities"].values())
        assert (row["grade"] is None) == (best < 0.4) and row["score"] == 0.9
    given = [(true[k], r["grade"]) for k, r in found.items() if r["grade"]]
    assert np.mean([a == b for a, b in given]) > 0.8  # these images were among those it was fitted on
    ys = [r["box"][1] for r in rows if r["image"] == rows[0]["image"]]
    assert ys == sorted(ys)
    with pytest.raises(ValueError, match="have none of DDD"):
        grade_findings(grading, model, images, ["car"] * 6, files, 0.4)


def test_grades_at_predicted_boxes(slips):
    grading = GRADINGS["meyerding"]
    boxes = grading.read(slips, "val", None, print)
    images, names = read_dataset(slips, "val")
    moved = [ImageFindings(x.name, x.boxes + 2, x.classes, [0.9]) for x in images]
    moved[0] = ImageFindings(moved[0].name, moved[0].boxes, [0], [0.9])  # of another class
    kept, missed = at_predictions(grading, boxes, moved, names)
    assert missed == 1 and len(kept) == len(boxes) - 1
    same = [f.name != moved[0].name for f in boxes.files]
    np.testing.assert_allclose(kept.boxes, boxes.boxes[same] + 2, atol=0.01)
    with pytest.raises(ValueError, match="no prediction covers"):
        at_predictions(grading, boxes, [], names)


def test_meyerding_from_end_to_end(slips, tmp_path, monkeypatch, capsys):
    out = tmp_path / "fit"
    status, text, _ = grade(monkeypatch, capsys, "meyerding", "fit", slips, "--out", out, "--folds", 3)
    assert status == 0 and "3-fold cross-validation by patient" in text and "paper, on its own images" in text
    assert {f.name for f in out.iterdir()} == {
        *("meyerding.model", "report.json", "confusion.png", "abstention.png", "crops.png")
    }
    report = json.loads((out / "report.json").read_text())
    assert report["split"] == "train" and report["accuracy"]["value"] > 0.9
    model = out / "meyerding.model"
    status, text, _ = grade(monkeypatch, capsys, "meyerding", "evaluate", slips, "--model", model, "--json")
    assert status == 0 and json.loads(text)["accuracy"]["trials"] == 24
    predictions = tmp_path / "predictions.json"
    box = read_boxes(slips, "val", "meyerding").boxes[0]
    entry = {"file_name": "val0_0.png", "image_id": "val0_0", "category_id": 4, "score": 0.8}
    size = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    predictions.write_text(json.dumps([entry | {"bbox": size}]))
    given = ("--model", model, "--predictions", predictions)
    status, text, _ = grade(monkeypatch, capsys, "meyerding", "apply", slips, *given, "--json")
    (row,) = json.loads(text)["grades"]
    assert (row["image"], row["class"], row["grade"]) == ("val0_0.png", "SP", 1)
    status, text, _ = grade(monkeypatch, capsys, "meyerding", "evaluate", slips, *given)
    assert status == 0 and "23 graded boxes were not found by the detector" in text
    status, _, error = grade(monkeypatch, capsys, "pfirrmann", "apply", slips, *given[:2])
    assert status == 2 and error.startswith("error: ") and "expected pfirrmann" in error


def test_levels_from_end_to_end(phantom, tmp_path, monkeypatch, capsys):
    root = ("spine-phantom.yaml", "--data-root", phantom, "--repeats", 1)
    status, text, _ = grade(monkeypatch, capsys, "levels", "fit", *root, "--out", tmp_path / "fit")
    assert status == 0 and (tmp_path / "fit" / "accuracy.png").is_file()
    profile = tmp_path / "fit" / "spine_profile.csv"
    status, text, _ = grade(
        monkeypatch, capsys, "levels", "apply", *root, "--model", profile, "--out", tmp_path / "out"
    )
    assert status == 0 and "  L5/S1: " in text and (tmp_path / "out" / "levels.png").is_file()
    reports = json.loads((tmp_path / "out" / "report.json").read_text())["images"]
    assert all(set(r["levels"]) <= set(LEVELS) for r in reports)
    status, text, _ = grade(monkeypatch, capsys, "levels", "evaluate", *root, "--cropped", "--json")
    assert status == 0 and json.loads(text)["with_height"] is False


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("levels", "evaluate", "none.yaml"), "is not a YAML file"),
        (("levels", "fit", "spine-phantom.yaml"), "fit needs --out"),
        (("pfirrmann", "apply", "spine-phantom.yaml"), "needs --model"),
        (("levels", "apply", "spine-phantom.yaml", "--conf", "2"), "expected 0 to 1"),
        (("levels", "evaluate", "spine-phantom.yaml", "--repeats", "0"), "--repeats of 1 or more"),
        (("levels", "evaluate", "spine-phantom.yaml", "--data-root", "/nowhere"), "is not a folder"),
    ],
)
def test_command_refuses_bad_input_in_a_sentence(args, message, monkeypatch, capsys):
    status, _, error = grade(monkeypatch, capsys, *args)
    assert status == 2 and message in error and "Traceback" not in error


def test_levels_of_real_images(spider):
    """SPIDER's own levels on its labels, and with a disc taken away, on patients the profile was not measured on."""
    names = find_files("spider-lumbar.yaml", "val", spider).names
    images = levelled_images(read_boxes("spider-lumbar.yaml", "val", None, spider), names)
    study = removal_study(images, names, removed=(0, 1), repeats=1)["removed"]
    assert study["0"]["discs"]["value"] == 1 and study["1"]["discs"]["value"] > 0.85
