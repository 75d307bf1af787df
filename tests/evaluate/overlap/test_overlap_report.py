"""The overlap report, its pictures, and the command from end to end."""

import json
import runpy
import sys

import cv2
import numpy as np
import pytest
from conftest import REPO, run, write_dataset

from yolospine_ultra.evaluate.findings import ImageFindings, read_dataset, read_predictions
from yolospine_ultra.evaluate.overlap.pairs import PAPER_TABLE, find_pairs
from yolospine_ultra.evaluate.overlap.plots import save_plots
from yolospine_ultra.evaluate.overlap.report import default_rules, format_report, overlap_report, recall_report

SCRIPT = REPO / "scripts" / "analyze_overlap.py"
PAPER = ["DDD", "IVDn", "SS", "SP", "LDB", "TDB"]
SS, LDB = 2, 4
# three segments of one image: a pair that passes the paper's .18, one that does not, and boxes that do not touch
BOXES = [(SS, 0, 0, 20, 20), (LDB, 10, 0, 30, 20), (SS, 0, 50, 20, 70), (LDB, 17, 50, 37, 70), (SS, 0, 90, 9, 99)]
TRUTH = [ImageFindings("a.png", [r[1:] for r in BOXES], [r[0] for r in BOXES])]
ROWS = "".join(
    f"{c} {(x1 + x2) / 200} {(y1 + y2) / 200} {(x2 - x1) / 100} {(y2 - y1) / 100}\n" for c, x1, y1, x2, y2 in BOXES
)


def predictions(indices):
    """Perfect predictions of some of `BOXES` in the form the host writes."""
    made = []
    for c, x1, y1, x2, y2 in (BOXES[i] for i in indices):
        box = [x1, y1, x2 - x1, y2 - y1]
        made.append({"image_id": "a", "file_name": "a.png", "category_id": c + 1, "bbox": box, "score": 0.9})
    return made


def small_set(root, text=ROWS, names=PAPER):
    """A dataset of one image of 100 px."""
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True)
    cv2.imwrite(str(root / "images/val/a.png"), np.zeros((100, 100), np.uint8))
    (root / "labels/val/a.txt").write_text(text)
    file = root / "data.yaml"
    file.write_text(f"path: {root}\nval: images/val\nnames: [{', '.join(names)}]\n")
    return file


def analyze(cwd, *args):
    return run([sys.executable, str(SCRIPT), *map(str, args)], cwd)


def test_report_of_a_hand_made_set():
    report = overlap_report(TRUTH, PAPER, default_rules(PAPER))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["labels"] == dict(zip(PAPER, [0, 0, 3, 0, 2, 0], strict=True))
    assert report["compatibility"]["matrix"][SS][LDB] == 1 and report["compatibility"]["matrix"][SS][SS] is None
    iou = report["iou"]["SS+LDB"]
    assert (iou["n"], iou["min"], iou["max"]) == (2, pytest.approx(3 / 37), pytest.approx(1 / 3))
    row = report["overlapping"]["SS+LDB"]
    assert (row["count"], row["co_occurring"], row["mean_iou"]) == (1, 2, pytest.approx(1 / 3))
    assert report["overlapping"]["SP+LDB"]["mean_iou"] is None and not report["overlapping"]["SP+LDB"]["compatible"]
    kept = dict(zip(report["kept"]["tau"], report["kept"]["pairs"]["SS+LDB"], strict=True))
    assert (kept[0.0], kept[0.08], kept[0.09], kept[0.18], kept[0.33], kept[0.34]) == (2, 2, 1, 1, 1, 0)


def test_the_papers_figures_stand_apart_and_only_for_its_classes():
    report = overlap_report(TRUTH, PAPER, default_rules(PAPER))
    assert [p["pairs"] for p in report["paper"].values()] == [p.pairs for p in PAPER_TABLE]
    measured = json.dumps({k: v for k, v in report.items() if k != "paper"})
    assert "869" not in measured and "0.184" not in measured
    assert not overlap_report(TRUTH, list("abcdef"), {(SS, LDB): 0.2})["paper"]
    assert "paper" not in format_report(overlap_report(TRUTH, list("abcdef"), {(SS, LDB): 0.2}))
    assert "869" in format_report(report)


def test_default_rules():
    assert default_rules(PAPER)[SS, LDB] == 0.18 and len(default_rules(PAPER)) == 4
    assert default_rules(["x", "y", "z"]) == {(0, 1): 0.15, (0, 2): 0.15, (1, 2): 0.15}
    assert set(default_rules(PAPER, 0.4).values()) == {0.4} and len(default_rules(PAPER, 0.4)) == 15


def test_recall_report_counts_all_pairs_together():
    found = [ImageFindings("a.png", TRUTH[0].boxes[:3], TRUTH[0].classes[:3], [0.9, 0.9, 0.1])]
    report = recall_report(TRUTH, found, PAPER, {(SS, LDB): 0.05, (0, 1): 0.1})
    assert report["pairs"]["SS+LDB"] == report["pairs"]["all"]
    row = report["pairs"]["all"]
    assert (row["pairs"], row["both"], row["neither"], row["recall"], row["precision"]) == (2, 1, 1, 0.5, 1)
    assert row["recall_interval"][0] < 0.5 < row["recall_interval"][1]
    assert report["pairs"]["DDD+IVDn"]["recall"] is None
    assert report["images_without_prediction"] == 0
    assert recall_report(TRUTH, found, PAPER, {(SS, LDB): 0.05}, conf=0.95)["images_without_prediction"] == 1


def test_places_are_found_whatever_the_class():
    boxes = [[0, 0, 20, 20], [0, 0, 20, 20], [0, 50, 20, 70], [50, 50, 70, 70]]  # two findings at the first place
    truth = [ImageFindings("a.png", boxes, [SS, LDB, LDB, SS]), ImageFindings("b.png", np.zeros((0, 4)), [])]
    found = [
        ImageFindings("a.png", [[0, 0, 20, 18], [0, 50, 20, 60], [50, 50, 70, 70]], [0, SS, 0], [0.9, 0.9, 0.1]),
        ImageFindings("b.png", [[0, 0, 9, 9]], [0], [0.9]),
    ]
    places = recall_report(truth, found, PAPER, default_rules(PAPER))["places"]
    assert (places["places"], places["found"], places["recall"]) == (3, 2, pytest.approx(2 / 3))  # IoU .9, .5, unsure
    assert places["interval"][0] < 2 / 3 < places["interval"][1]
    assert recall_report(truth, found, PAPER, {}, iou=0.6, conf=0.05)["places"]["found"] == 2
    assert recall_report(truth[1:], found[1:], PAPER, {})["places"]["recall"] is None


def test_pictures_are_written_and_nothing_where_nothing_is(tmp_path):
    report = overlap_report(TRUTH, PAPER, default_rules(PAPER))
    assert [f.name for f in save_plots(report, tmp_path / "a")] == ["compatibility.png", "iou.png", "pairs-kept.png"]
    found = [ImageFindings("a.png", TRUTH[0].boxes, TRUTH[0].classes, np.ones(5))]
    report["recall"] = recall_report(TRUTH, found, PAPER, default_rules(PAPER))
    files = save_plots(report, tmp_path / "b")
    assert files[-1].name == "pair-recall.png"
    for file in files:
        assert cv2.imread(str(file)).std() > 5
    assert save_plots(overlap_report([TRUTH[0].above(0)][:0], PAPER, {}), tmp_path / "c") == []


def test_text_of_many_classes_stays_short():
    names = [f"c{i}" for i in range(60)]
    crowd = ImageFindings("a", np.tile([0, 0, 10, 10], (60, 1)), np.arange(60))
    text = format_report(overlap_report([crowd], names, default_rules(names)))
    assert len(text.splitlines()) < 80 and "1746 more" in text


def test_phantom_agrees_with_its_table_of_annotations(tmp_path):
    """Pairs found in the label files are those of annotations.csv, which has the boxes of the same slices in pixels."""
    import csv
    from collections import defaultdict

    from yolospine_ultra.data.phantom.dataset import write_dataset as write_phantom

    made = write_phantom(tmp_path / "phantom", images=16, seed=3, size=192, progress=False)
    images, names = read_dataset("spine-phantom.yaml", "all", made["path"])
    table = defaultdict(list)
    with (made["path"] / "annotations.csv").open() as file:
        for row in csv.DictReader(file):
            table[row["image"]].append(row)
    again = []
    for x in images:
        rows = table[x.name.split("/")[-1]]
        boxes = np.array([[float(r[k]) for k in ("x1", "y1", "x2", "y2")] for r in rows])
        np.testing.assert_allclose(x.boxes, boxes, atol=0.01)
        again.append(ImageFindings(x.name, boxes, [names.index(r["class"]) for r in rows]))
    labelled, tabled = find_pairs(images), find_pairs(again)
    # the table is rounded to 0.01 px, so that an IoU at a threshold may fall to either side of it: compared before it
    for kind in ("image", "boxes", "classes"):
        np.testing.assert_array_equal(getattr(labelled, kind), getattr(tabled, kind))
    np.testing.assert_allclose(labelled.iou, tabled.iou, atol=2e-3)
    assert labelled.of((SS, LDB)).any()


def test_command_prints_json_and_changes_nothing(tmp_path):
    file = small_set(tmp_path / "set", ROWS + "9 0.5 0.5 0.1 0.1\n")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "set").rglob("*")}
    found = tmp_path / "predictions.json"
    found.write_text(json.dumps([*predictions([0, 1]), *predictions([2]), {"nonsense": 1}]))
    done = analyze(tmp_path, file, "--predictions", found, "--json", "--rule", "LDB+SS=0.05", "--out", "out")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["overlapping"]["SS+LDB"]["count"] == 2 and list(report["overlapping"]) == ["SS+LDB"]
    row = report["recall"]["pairs"]["SS+LDB"]
    assert (row["pairs"], row["both"], row["first_only"], row["recall"]) == (2, 1, 1, 0.5)
    assert report["problems"]["counts"] == {"class": 1, "prediction": 1} and report["split"] == "val"
    assert "a.txt:6" in done.stderr and "2 problems" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "set").rglob("*")} == before
    assert json.loads((tmp_path / "out/report.json").read_text()) == report
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "report.json", "compatibility.png", "iou.png", "pairs-kept.png", "pair-recall.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--split", "test"], "no split 'test'"),
        (["--rule", "SS+XX=0.2"], "'XX' is unknown"),
        (["--rule", "SS=0.2"], "expected CLASS+CLASS=TAU"),
        (["--tau", "1.5"], "expected 0 to 1"),
        (["--predictions", "none.json"], "save_json"),
        (["--data-root", "none"], "not a folder"),
        (["--out", "set/data.yaml"], "data.yaml"),
    ],
)
def test_command_refuses_bad_input_in_a_sentence(tmp_path, args, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(small_set(tmp_path / "set")), *args])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:  # anything else would be a traceback for the user
        runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr()
    assert stop.value.code == 2 and message in printed.err and not printed.out


@pytest.mark.slow
def test_predictions_of_a_validation_by_the_host(tmp_path):
    """A model of ours, `val(save_json=True)`: every detection comes back, of its class, in pixels of the image."""
    from ultralytics import YOLO

    data = write_dataset(tmp_path / "set")
    model = YOLO(str(REPO / "cfg/models/yolospine-n.yaml"))
    common = {"data": str(data), "imgsz": 96, "device": "cpu", "plots": False, "workers": 0, "project": str(tmp_path)}
    model.train(epochs=1, batch=4, amp=False, val=False, **common)
    trained = YOLO(model.trainer.last)
    trained.val(save_json=True, conf=0.001, name="val", **common)
    images, names = read_dataset(data, "val")
    problems = []
    found = read_predictions(tmp_path / "val/predictions.json", images, len(names), problems.append)
    entries = json.loads((tmp_path / "val/predictions.json").read_text())
    assert not problems and sum(map(len, found)) == len(entries) > 0
    for x in found:
        reference = trained.predict(
            str(tmp_path / "set/images/val" / x.name), imgsz=96, device="cpu", conf=0.001, verbose=False
        )[0].boxes
        assert x.classes.tolist() == reference.cls.int().tolist()
        np.testing.assert_allclose(x.boxes, reference.xyxy.numpy(), atol=0.01)


def test_real_images(spider):
    """Sums of the set's own table (README of spider-lumbar); repeated boxes of one disc have IoU 1."""
    images, names = read_dataset("spider-lumbar.yaml", "all", spider)
    report = overlap_report(images, names, default_rules(names))
    assert len(images) == 168
    assert report["labels"] == {"DDD": 488, "IVDn": 515, "SS": 0, "SP": 19, "LDB": 545, "TDB": 52}
    assert report["iou"]["DDD+LDB"]["median"] == pytest.approx(1)
    assert report["overlapping"]["SS+LDB"]["compatibility"] is None
