"""External validation: the report of a hand-made set, classes nobody graded, pictures, the command, the real set."""

import json
import runpy
import sys

import cv2
import numpy as np
import pytest
from conftest import REPO
from matplotlib.figure import Figure
from rating_cases import image, random_pair

from yolospine_ultra.evaluate.findings import ImageFindings, read_dataset
from yolospine_ultra.evaluate.intervals import patients_of
from yolospine_ultra.evaluate.study import leave_out, read_study
from yolospine_ultra.evaluate.validation.external import external_report, format_external
from yolospine_ultra.evaluate.validation.froc import rank
from yolospine_ultra.evaluate.validation.plots import draw_confusion, save_external

SCRIPT = REPO / "scripts" / "external_validation.py"
SITE, FAR, AWAY = (0, 0, 10, 10), (50, 50, 60, 60), (80, 80, 90, 90)
NAMES = ["x", "y", "z"]
# p1: x and y on one site, both found, and a false x; p2: an x called y, and a y missed
TRUTH = [image((0, *SITE), (1, *SITE), name="p1_a.png"), image((0, *SITE), (1, *FAR), name="p2_a.png")]
FOUND = [
    image((0, *SITE, 0.9), (1, *SITE, 0.6), (0, *AWAY, 0.7), name="p1_a.png"),
    image((1, *SITE, 0.9), (0, *SITE, 0.2), name="p2_a.png"),
]


def report_of(truth, found, names=NAMES, conf=0.25):
    ranked, patients = rank(truth, found, len(names), 0.5), patients_of([t.name for t in truth])
    return external_report(truth, found, names, np.full(len(names), conf), ranked, patients)


def test_hand_made_report():
    report = report_of(TRUTH, FOUND)
    assert report["confusion"]["counts"] == [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert report["confusion"]["classes"] == [*NAMES, "background"]
    assert report["agreement"]["accuracy"]["value"] == pytest.approx(2 / 5)
    assert report["matched_only"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert report["classes"]["x"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert report["classes"]["z"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    # of five cells y has two in its row, another in its column
    y = report["box_level"]["classes"]["y"]
    assert [y[k] for k in ("tp", "fn", "fp", "tn")] == [1, 1, 1, 2]
    # images: y is in both and called in both; x is in both, and called in one
    assert report["image_level"]["classes"]["x"]["sensitivity"]["value"] == 0.5
    assert report["image_level"]["classes"]["y"]["sensitivity"]["value"] == 1
    assert report["froc"]["curves"]["x"]["sensitivity"][-1] == 1  # with the x of .2
    assert (report["images"], report["patients"]) == (2, 2)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_thresholds_are_of_their_class_and_not_of_the_froc():
    ranked, patients = rank(TRUTH, FOUND, 3, 0.5), ["1", "2"]
    report = external_report(TRUTH, FOUND, NAMES, np.array([0.8, 0.25, 0.25]), ranked, patients)
    assert report["confusion"]["counts"][3] == [0, 0, 0, 0] and report["thresholds"]["x"] == 0.8
    assert report["froc"] == report_of(TRUTH, FOUND)["froc"]
    assert "score >= x 0.8, y 0.25, z 0.25" in format_external(report)


def test_notes_say_what_is_not_known():
    notes = " ".join(report_of(TRUTH, FOUND)["notes"])
    assert "No image has a label of z" in notes and "predictions end at 1 false" in notes
    assert "one patient" not in notes
    assert "one patient" in " ".join(report_of(TRUTH[:1], FOUND[:1])["notes"])
    two = [ImageFindings(x.name, x.boxes, x.classes) for x in TRUTH]
    assert "No image has" not in " ".join(report_of(two, FOUND, ["x", "y"])["notes"])


def test_nothing_labelled_or_nothing_predicted_is_none_and_not_nan():
    nothing = [image(name=t.name, scored=True) for t in TRUTH]
    for truth, found in ((TRUTH, nothing), ([image(name=t.name) for t in TRUTH], FOUND)):
        report = report_of(truth, found)
        json.dumps(report, allow_nan=False)
        assert format_external(report)
    assert report["agreement"]["accuracy"]["value"] is None
    assert report_of(TRUTH, nothing)["agreement"]["accuracy"]["value"] == 0
    with pytest.raises(ValueError, match="other images"):
        report_of(TRUTH, FOUND[::-1])


def test_classes_that_nobody_graded_are_out_of_everything():
    found = [ImageFindings(f.name, f.boxes, (f.classes + 1) % 3, f.scores) for f in FOUND]
    truth = [ImageFindings(t.name, t.boxes, (t.classes + 1) % 3) for t in TRUTH]  # x is now y, y is z, and x nobody's
    extra = [ImageFindings(f.name, [*f.boxes, AWAY], [*f.classes, 0], [*f.scores, 0.9]) for f in found]
    kept, lost = leave_out(extra, NAMES, ["x"])
    assert lost == 2 and leave_out(truth, NAMES, ["x"])[1] == 0
    report = report_of(leave_out(truth, NAMES, ["x"])[0], kept, ["y", "z"])
    plain = report_of(TRUTH, FOUND, ["x", "y"])
    assert report["confusion"]["counts"] == plain["confusion"]["counts"]
    assert list(report["classes"]) == ["y", "z"] and report["agreement"] == plain["agreement"]
    with pytest.raises(ValueError, match="class 'w' is unknown; the classes are x, y, z"):
        leave_out(truth, NAMES, ["w"])
    with pytest.raises(ValueError, match="no class is left"):
        leave_out(truth, NAMES, NAMES)


def test_pictures(tmp_path):
    truth, found = random_pair(np.random.default_rng(0), 30)
    report = report_of(truth, found)
    files = save_external(report, tmp_path / "a")
    names = ["confusion.png", "rates-box_level.png", "rates-image_level.png", "froc.png"]
    assert [f.name for f in files] == names and all(cv2.imread(str(f)).std() > 5 for f in files)
    nothing = [image(name=t.name, scored=True) for t in TRUTH]
    assert len(save_external(report_of(TRUTH, nothing), tmp_path / "b")) == 4
    figure = Figure()
    draw_confusion(report_of(truth, found, [f"c{i}" for i in range(17)]), figure.subplots())
    assert not figure.axes[0].texts  # too many classes for numbers


# the command


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The hand-made set with its predictions, and a function that runs the command on it and gives its exit status."""
    entries = []
    for kind in ("images", "labels"):
        (tmp_path / "set" / kind / "val").mkdir(parents=True)
    for t, f in zip(TRUTH, FOUND, strict=True):
        cv2.imwrite(str(tmp_path / "set/images/val" / t.name), np.zeros((100, 100), np.uint8))
        centre = (t.boxes[:, :2] + t.boxes[:, 2:]) / 200
        rows = [f"{c} {x} {y} .1 .1\n" for c, (x, y) in zip(t.classes, centre, strict=True)]
        (tmp_path / "set/labels/val" / t.name).with_suffix(".txt").write_text("".join(rows))
        for c, b, s in zip(f.classes.tolist(), f.boxes.tolist(), f.scores.tolist(), strict=True):
            entries.append({"file_name": t.name, "category_id": c + 1, "bbox": [*b[:2], 10, 10], "score": s})
    (tmp_path / "set/data.yaml").write_text("path: set\nval: images/val\nnames: [x, y, z]\n")
    (tmp_path / "p.json").write_text(json.dumps(entries))
    monkeypatch.chdir(tmp_path)

    def start(*args):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), "set/data.yaml", "--predictions", "p.json", *args])
        with pytest.raises(SystemExit) as stop:  # anything else would be a traceback for the user
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return stop.value.code

    return start


def test_command_prints_json_and_writes(study, capsys, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "set").rglob("*")}
    assert study("--json", "--out", "out", "--seconds", "0.48") == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "out/report.json").read_text())
    expected = report_of(TRUTH, FOUND)
    for key in ("confusion", "agreement", "matched_only", "box_level", "image_level", "froc"):
        assert report[key] == expected[key]
    assert report["split"] == "val" and report["seconds"]["model"]["mean"] == 0.48
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "report.json", "confusion.png", "rates-box_level.png", "rates-image_level.png", "froc.png",
    }  # fmt: skip
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "set").rglob("*")} == before


def test_thresholds_are_chosen_written_and_used(study, capsys, tmp_path):
    assert study("--choose-thresholds", "f1", "--out", "chosen") == 0
    text = capsys.readouterr().out
    assert "chosen on these same images: optimistic" in text and "Threshold of z: no labels" in text
    chosen = json.loads((tmp_path / "chosen/thresholds.json").read_text())
    # x: .9 gives 2 / 3, .7 gives 2 / 4, .2 gives 4 / 5; y: .9 none, .6 gives 2 / 4
    assert {k: v["threshold"] for k, v in chosen["classes"].items()} == {"x": 0.2, "y": 0.6, "z": 0.25}
    assert study("--thresholds", "chosen/thresholds.json", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["thresholds"] == {"x": 0.2, "y": 0.6, "z": 0.25} and report["classes"]["x"]["recall"] == 1
    assert any("chosen on 2 patients of these names" in n for n in report["notes"])
    assert study("--choose-thresholds", "fp=0", "--out", "strict", "--json", "--ungraded", "z") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["thresholds"]["x"] == 0.9 and list(report["thresholds"]) == ["x", "y"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--split", "test"], "no split 'test'"),
        (["--predictions", "none.json"], "save_json"),
        (["--data-root", "none"], "not a folder"),
        (["--out", "set/data.yaml"], "data.yaml"),
        (["--choose-thresholds", "f1"], "needs --out"),
        (["--choose-thresholds", "best", "--out", "o"], "expected f1, or fp=X"),
        (["--thresholds", "p.json"], "has no thresholds"),
        (["--ungraded", "x"], "graded here"),
        (["--seconds", "quick"], "not a file"),
        (["--patient", r"(\d+)$"], "tells no patient"),
        (["--iou", "0"], "expected above 0"),
    ],
)
def test_command_refuses_bad_input_in_a_sentence(study, args, message, capsys):
    assert study(*args) == 2
    printed = capsys.readouterr()
    assert message in printed.err and not printed.out


def test_real_images(spider, tmp_path):
    """The labels as predictions, SS left out as not graded: everything right, and nothing said of SS."""
    truth, names = read_dataset("spider-lumbar.yaml", "val", spider)
    entries = [
        {"file_name": t.name, "category_id": c + 1, "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]], "score": 0.9}
        for t in truth
        for c, b in zip(t.classes.tolist(), t.boxes.tolist(), strict=True)
    ]
    entries.append({**entries[0], "category_id": names.index("SS") + 1})
    (tmp_path / "p.json").write_text(json.dumps(entries))
    study = read_study("spider-lumbar.yaml", "val", spider, tmp_path / "p.json", ["SS"])
    report = report_of(study.truth, study.found, study.names)
    assert (report["images"], report["patients"]) == (47, 20)
    assert {n: c["support"] for n, c in report["classes"].items()} == {
        "DDD": 125, "IVDn": 139, "SP": 5, "LDB": 160, "TDB": 8,
    }  # fmt: skip
    assert report["agreement"]["kappa"]["value"] == 1 and "1 predictions" in study.notes[0]
    assert report["froc"]["curves"]["all"]["mean"] == 1
