"""Readers beside a model: tests and kappa against hand cases, differences against drawn images, the command."""

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
from rating_cases import image, random_pair
from scipy.stats import binom

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.intervals import draw_patients, patients_of
from yolospine_ultra.evaluate.validation.plots import save_readers
from yolospine_ultra.evaluate.validation.rates import count_images, presence
from yolospine_ultra.evaluate.validation.reader_files import Reading
from yolospine_ultra.evaluate.validation.readers import LEAST_PATIENTS, kappa, mcnemar, reader_report
from yolospine_ultra.evaluate.validation.readers_report import format_readers

SCRIPT = REPO / "scripts" / "readers.py"
NAMES = ["x", "y", "z"]
LOW = np.zeros(3)


def as_reading(name, found, read=None, boxes=True):
    """What a reader labelled, from findings."""
    read = np.ones(len(found), dtype=bool) if read is None else np.array(read)
    own = [ImageFindings(f.name, f.boxes, f.classes, np.ones(len(f))) for f in found]
    return Reading(name, read, presence(found, 3), own if boxes else None)


def many(count=48, patients=24, seed=0):
    """Images of some patients, a model's findings, and a reader's."""
    rng = np.random.default_rng(seed)
    truth, found = random_pair(rng, count, 3, patients)
    reader = [
        ImageFindings(t.name, t.boxes[keep], t.classes[keep]) for t in truth for keep in [rng.random(len(t)) < 0.8]
    ]
    return truth, found, reader, patients_of([t.name for t in truth])


# the tests


def test_mcnemar_by_hand():
    """10 to 2: twice the tail of 0, 1, 2 in 12 tosses."""
    model = np.array([True] * 10 + [False] * 2 + [True] * 5 + [False] * 3)
    reader = np.array([False] * 10 + [True] * 2 + [True] * 5 + [False] * 3)
    made = mcnemar(model, reader)
    assert made.pop("p") == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert made == {"cases": 20, "both": 5, "model_only": 10, "reader_only": 2, "neither": 3}
    assert mcnemar(model, model)["p"] == 1 and mcnemar(model[:0], model[:0])["p"] is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_the_binomial_tail(b, c):
    made = mcnemar(np.arange(b + c) < b, np.arange(b + c) >= b)
    expected = min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5)) if b + c else None
    assert made["p"] == pytest.approx(expected)
    assert made["p"] == mcnemar(np.arange(b + c) >= b, np.arange(b + c) < b)["p"]


def test_kappa_by_hand():
    """20 both yes, 5 and 10 one alone, 15 both no: agreement .7, by chance .5."""
    first = np.array([True] * 20 + [True] * 5 + [False] * 10 + [False] * 15)
    second = np.array([True] * 20 + [False] * 5 + [True] * 10 + [False] * 15)
    assert kappa(first, second) == {"cases": 50, "agree": 0.7, "kappa": pytest.approx(0.4)}
    assert kappa(first, first)["kappa"] == 1
    constant = kappa(first[:20], second[:20])
    assert constant["kappa"] is None and "both say present of all" in constant["why"]
    assert kappa(first[:0], first[:0])["kappa"] is None


# the report


SITE, FAR = (0, 0, 10, 10), (50, 50, 60, 60)
TRUTH = [image((0, *SITE), (1, *SITE), name="p1_a"), image((0, *FAR), name="p2_a"), image(name="p3_a")]
FOUND = [
    image((0, *SITE, 0.9), name="p1_a"),
    image((0, *FAR, 0.9), (1, *FAR, 0.9), name="p2_a"),
    image((2, *FAR, 0.1), name="p3_a"),
]
READ = [image((1, *SITE), name="p1_a"), image((0, *SITE), name="p2_a"), image(name="p3_a")]


def test_hand_made_report():
    report = reader_report(TRUTH, FOUND, LOW + 0.25, [as_reading("R1", READ)], NAMES, ["1", "2", "3"])
    tests = report["readers"]["R1"]["mcnemar"]
    # labels: x in p1 found by the model, y in p1 by the reader, x in p2 by the model (the reader's box is elsewhere)
    assert tests["findings"]["all"] == {
        "cases": 3, "both": 0, "model_only": 2, "reader_only": 1, "neither": 0, "p": 1.0,
    }  # fmt: skip
    assert tests["findings"]["classes"]["z"]["p"] is None
    # images: of nine cells the model has y wrong in p1 and p2, the reader x in p1
    assert [tests["image_classes"]["all"][k] for k in ("cases", "both", "model_only", "reader_only")] == [9, 6, 1, 2]
    row = report["readers"]["R1"]["difference"]["box_level"]
    assert row["classes"]["x"]["sensitivity"]["value"] == 1 and row["classes"]["y"]["sensitivity"]["value"] == -1
    assert row["count_weighted"]["sensitivity"]["value"] == pytest.approx(2 / 3 - 1 / 3)
    assert row["macro"]["sensitivity"]["value"] == 0
    assert row["classes"]["z"]["sensitivity"]["verdict"] == "not defined: nothing to compare"
    cells = report["kappa"]["model / R1"]
    assert cells["all"]["cases"] == 9 and cells["all"]["agree"] == pytest.approx(6 / 9)
    assert cells["classes"]["z"]["kappa"] is None
    assert report["model"]["box_level"] == report["readers"]["R1"]["model"]["box_level"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_only_what_a_reader_read_is_compared():
    readings = [as_reading("R1", READ, [True, False, True]), as_reading("R2", READ, [False] * 3)]
    report = reader_report(TRUTH, FOUND, LOW + 0.25, readings, NAMES, ["1", "2", "3"])
    r1 = report["readers"]["R1"]
    assert (r1["images"], r1["patients"], r1["mcnemar"]["findings"]["all"]["cases"]) == (2, 2, 2)
    assert r1["model"]["classes"]["x"]["support"] == 1 and report["model"]["classes"]["x"]["support"] == 2
    assert report["kappa"]["model / R1"]["all"]["cases"] == 6
    assert list(report["readers"]) == ["R1"] and any("R2 read none" in n for n in report["notes"])


def test_a_reader_without_boxes_is_compared_by_image():
    report = reader_report(TRUTH, FOUND, LOW, [as_reading("R1", READ, boxes=False)], NAMES, ["1", "2", "3"])
    r1 = report["readers"]["R1"]
    assert set(r1["reader"]) == set(r1["model"]) == set(r1["difference"]) == {"image_level"}
    assert set(r1["mcnemar"]) == {"image_classes"} and "box_level" in report["model"]
    assert "agreement" not in r1["reader"] and r1["reader"]["image_level"]["classes"]["x"]["tp"] == 1


def test_the_truth_as_a_reader_is_right_in_everything():
    truth, found, _, patients = many()
    r = reader_report(truth, found, LOW, [as_reading("R1", truth)], NAMES, patients)["readers"]["R1"]
    assert r["reader"]["agreement"]["accuracy"]["value"] == r["reader"]["agreement"]["mcc"]["value"] == 1
    for level in ("box_level", "image_level"):
        assert r["reader"][level]["macro"]["sensitivity"]["value"] == 1
        assert r["reader"][level]["count_weighted"]["specificity"]["value"] == 1
        assert r["difference"][level]["count_weighted"]["sensitivity"]["verdict"] == "inferior"
    assert r["mcnemar"]["findings"]["all"]["model_only"] == 0


def test_the_model_as_a_reader_does_not_differ_and_gets_no_verdict():
    truth, found, _, patients = many()
    found = [ImageFindings(f.name, f.boxes, f.classes, np.ones(len(f))) for f in found]
    r = reader_report(truth, found, LOW, [as_reading("R1", found)], NAMES, patients)["readers"]["R1"]
    assert r["reader"] == r["model"]
    row = r["difference"]["box_level"]["count_weighted"]["sensitivity"]
    assert (row["value"], row["patients"]) == (0, [None, None]) and row["verdict"].startswith("not defined")


def test_the_order_of_readings_turns_only_signs():
    """What the model is to the reader, the reader is to the model, with the interval turned round."""
    truth, found, reader, patients = many()
    found = [ImageFindings(f.name, f.boxes, f.classes, np.ones(len(f))) for f in found]
    scored = [ImageFindings(f.name, f.boxes, f.classes, np.ones(len(f))) for f in reader]
    one = reader_report(truth, found, LOW, [as_reading("R", reader)], NAMES, patients)["readers"]["R"]
    two = reader_report(truth, scored, LOW, [as_reading("R", found)], NAMES, patients)["readers"]["R"]
    for level in ("box_level", "image_level"):
        for how in ("macro", "count_weighted"):
            for kind in ("sensitivity", "specificity"):
                a, b = (x["difference"][level][how][kind] for x in (one, two))
                assert a["value"] == pytest.approx(-b["value"])
                np.testing.assert_allclose(a["patients"], [-x for x in b["patients"][::-1]], atol=1e-12)
    assert one["mcnemar"]["findings"]["all"]["p"] == two["mcnemar"]["findings"]["all"]["p"]


def test_the_interval_is_that_of_both_raters_drawn_together():
    """Each resample put together image by image; not the difference of two intervals."""
    truth, found, reader, patients = many(16, 12)
    r = reader_report(truth, found, LOW, [as_reading("R1", reader, boxes=False)], NAMES, patients)["readers"]["R1"]
    present, values = presence(truth, 3), []
    sides = [presence(x, 3) for x in (found, reader)]
    for row in draw_patients(patients):
        kept = np.repeat(np.arange(len(truth)), row)
        rates = [count_images(present[kept], side[kept]).summed() for side in sides]
        shares = [c.tp.sum() / max(1, (c.tp + c.fn).sum()) for c in rates]
        values.append(shares[0] - shares[1])
    made = r["difference"]["image_level"]["count_weighted"]["sensitivity"]
    np.testing.assert_allclose(made["patients"], np.quantile(values, [0.025, 0.975]))


def test_verdicts():
    """32 patients with one x each, of which the reader finds 24; the model finds the same or fewer."""
    truth = [image((0, *SITE), name=f"{i}_a") for i in range(32)]
    patients = [str(i) for i in range(32)]

    def verdict(first, last, margin):
        found = [image((0, *SITE, 0.9), name=t.name) if first <= i < last else image(name=t.name, scored=True)
                 for i, t in enumerate(truth)]  # fmt: skip
        reader = [t if i < 24 else image(name=t.name) for i, t in enumerate(truth)]
        made = reader_report(truth, found, LOW, [as_reading("R", reader)], NAMES, patients, margin)
        return made["readers"]["R"]["difference"]["box_level"]["classes"]["x"]["sensitivity"]

    assert verdict(0, 32, 0.05)["verdict"] == "superior" and verdict(0, 32, 0.05)["value"] == 0.25
    assert verdict(0, 8, 0.05)["verdict"] == "inferior"
    assert verdict(0, 22, 0.05)["verdict"] == "non-inferiority not shown"
    assert verdict(0, 22, 0.3)["verdict"] == "non-inferior"
    assert verdict(0, 22, 0.3)["with_trials"] == 32


def test_few_patients_get_an_interval_and_no_verdict():
    truth, found, reader, _ = many(30, 30)
    few = [str(i % (LEAST_PATIENTS - 1)) for i in range(30)]
    r = reader_report(truth, found, LOW, [as_reading("R1", reader)], NAMES, few)["readers"]["R1"]
    row = r["difference"]["box_level"]["count_weighted"]["sensitivity"]
    assert row["patients"][0] is not None and row["verdict"] == "not defined: of 9 patients, fewer than 10"
    alone = reader_report(truth, found, LOW, [as_reading("R1", reader)], NAMES, ["1"] * 30)["readers"]["R1"]
    assert alone["difference"]["box_level"]["macro"]["sensitivity"]["patients"] == [None, None]


def test_bad_margins_and_other_images_are_refused():
    for margin in (0, 1, -0.1, math.nan):
        with pytest.raises(ValueError, match="margin"):
            reader_report(TRUTH, FOUND, LOW, [as_reading("R1", READ)], NAMES, ["1", "2", "3"], margin)
    with pytest.raises(ValueError, match="other images"):
        reader_report(TRUTH, FOUND[::-1], LOW, [as_reading("R1", READ)], NAMES, ["1", "2", "3"])


def test_text_and_pictures(tmp_path):
    truth, found, reader, patients = many()
    readings = [as_reading("R1", reader), as_reading("R2", reader, [True] * 40 + [False] * 8, boxes=False)]
    report = reader_report(truth, found, LOW, readings, NAMES, patients)
    text = format_readers(report)
    for part in ("R1", "R2, 40 images", "McNemar", "model / R2", "R1 / R2", "non-inferior", "not corrected"):
        assert part in text
    files = save_readers(report, tmp_path)
    assert {f.name for f in files} == {
        "rates-box_level.png", "rates-image_level.png", "difference-box_level.png", "difference-image_level.png",
    }  # fmt: skip
    assert all(cv2.imread(str(f)).std() > 5 for f in files)
    without = reader_report(truth, found, LOW, readings[1:], NAMES, patients)
    assert "labels found" not in format_readers(without)
    assert [f.name for f in save_readers(without, tmp_path / "b")] == [
        "rates-image_level.png", "difference-image_level.png",
    ]  # fmt: skip


# the command


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A dataset with predictions, and a function that runs the command on it and gives its exit status."""
    truth, found, reader, _ = many(12, 6)
    for kind in ("images", "labels"):
        (tmp_path / "set" / kind / "val").mkdir(parents=True)
    entries, rows = [], ["reader,image,class,x1,y1,x2,y2\n"]
    for t, f, r in zip(truth, found, reader, strict=True):
        cv2.imwrite(str(tmp_path / "set/images/val" / t.name), np.zeros((100, 100), np.uint8))
        centre, size = (t.boxes[:, :2] + t.boxes[:, 2:]) / 200, (t.boxes[:, 2:] - t.boxes[:, :2]) / 100
        lines = [f"{c} {x} {y} {w} {h}\n" for c, (x, y), (w, h) in zip(t.classes, centre, size, strict=True)]
        (tmp_path / "set/labels/val" / t.name).with_suffix(".txt").write_text("".join(lines))
        for c, b, s in zip(f.classes.tolist(), f.boxes.tolist(), f.scores.tolist(), strict=True):
            box = [b[0], b[1], b[2] - b[0], b[3] - b[1]]
            entries.append({"file_name": t.name, "category_id": c + 1, "bbox": box, "score": s})
        rows += [f"R1,{t.name},{NAMES[c]},{','.join(map(str, b))}\n" for c, b in zip(r.classes, r.boxes, strict=True)]
        rows += [f"R1,{t.name},,,,,\n"] if not len(r) else []
    (tmp_path / "set/data.yaml").write_text("path: set\nval: images/val\nnames: [x, y, z]\n")
    (tmp_path / "p.json").write_text(json.dumps(entries))
    (tmp_path / "readers.csv").write_text("".join(rows))
    monkeypatch.chdir(tmp_path)

    def start(*args):
        command = [str(SCRIPT), "set/data.yaml", "--predictions", "p.json", "--readers", "readers.csv", *args]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stop:  # anything else would be a traceback for the user
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return stop.value.code

    return start


def test_command_prints_json_and_writes(study, capsys, tmp_path):
    (tmp_path / "s.csv").write_text("reader,image,seconds\nmodel,p0_0.png,0.5\nR1,p0_0.png,90\n")
    assert study("--json", "--out", "out", "--seconds", "s.csv", "--margin", "0.1", "--conf", "0.3") == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "out/report.json").read_text())
    assert (report["images"], report["patients"], report["margin"]) == (12, 6, 0.1)
    assert report["thresholds"] == dict.fromkeys(NAMES, 0.3) and report["seconds"]["R1"]["mean"] == 90
    truth, found, reader, patients = many(12, 6)
    order = sorted(range(12), key=lambda i: truth[i].name)  # as the dataset is read
    truth, found, reader, patients = ([x[i] for i in order] for x in (truth, found, reader, patients))
    expected = reader_report(truth, found, LOW + 0.3, [as_reading("R1", reader)], NAMES, patients, 0.1)
    assert report["readers"]["R1"]["mcnemar"] == expected["readers"]["R1"]["mcnemar"]
    assert report["model"]["confusion"] == expected["model"]["confusion"]
    assert (tmp_path / "out/difference-box_level.png").is_file()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--readers", "none.csv"], "not a file"),
        (["--margin", "0"], "margin"),
        (["--ungraded", "w"], "class 'w' is unknown"),
        (["--ungraded", "x"], "graded here"),
        (["--patient", "("], "no regular expression"),
        (["--thresholds", "none.json"], "not a file"),
        (["--conf", "2"], "expected 0 to 1"),
    ],
)
def test_command_refuses_bad_input_in_a_sentence(study, args, message, capsys):
    assert study(*args) == 2
    printed = capsys.readouterr()
    assert message in printed.err and not printed.out
