"""Tests of the report that puts the phantom beside the paper."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import run

from yolospine_ultra.data.phantom.anatomy import build_anatomy
from yolospine_ultra.data.phantom.canvas import Frame
from yolospine_ultra.data.phantom.dataset import plan_patients
from yolospine_ultra.data.phantom.export import COLUMNS, csv_row
from yolospine_ultra.data.phantom.report import Row, compare
from yolospine_ultra.data.phantom.slices import CLASS_NAMES, read_findings

SCRIPT = Path(__file__).parents[3] / "scripts" / "phantom_report.py"


def write_annotations(folder, images, seed):
    """The phantom's `annotations.csv` without its pictures, which is all that the report reads."""
    folder.mkdir(exist_ok=True)
    with (folder / "annotations.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for plan in plan_patients(images, seed):
            for shot in plan.shots:
                anatomy = build_anatomy(plan.patient, shot.offset_mm)
                columns = [f"{shot.name}.png", "train", f"{plan.number:04d}", shot.sequence, "0", "1"]
                writer.writerows(csv_row(f, columns) for f in read_findings(anatomy, Frame.of(anatomy, 384)))
    return folder


def write_rows(folder, rows):
    with (folder / "annotations.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ("image", "patient", "class", "x1", "y1", "x2", "y2", "meyerding"))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def box(image, patient, name, corners, meyerding=0):
    return dict(
        zip(("x1", "y1", "x2", "y2"), corners, strict=True),
        **{"image": image, "patient": patient, "class": name, "meyerding": meyerding},
    )


def test_hand_case(tmp_path):
    """Two patients with one image each; SS and LDB overlap by 1/3 in the first and by 1/19 in the second."""
    rows = [
        box("a.png", "0", "SS", (0, 0, 10, 10)),
        box("a.png", "0", "LDB", (5, 0, 15, 10)),
        box("a.png", "0", "SP", (50, 50, 60, 60), 2),
        box("b.png", "1", "SS", (0, 0, 10, 10)),
        box("b.png", "1", "LDB", (9, 0, 19, 10)),
    ]
    report = compare(write_rows(tmp_path, rows))
    values = {r.quantity: r.phantom for r in report.rows}
    assert (report.images, report.patients, report.boxes) == (2, 2, 5)
    assert values["boxes"] == pytest.approx(5 / 2 * 1038)
    assert values["share of SS"] == values["share of LDB"] == pytest.approx(2 / 5)
    assert values["pairs SS+LDB"] == pytest.approx(1 / 2 * 1038)
    assert values["mean IoU SS+LDB"] == pytest.approx(1 / 3)
    assert np.isnan(values["mean IoU DDD+SS"])
    assert (values["Meyerding I"], values["Meyerding II"]) == (0, 1)


def test_verdict_knows_chance_from_a_miss():
    near = Row("x", 100, 109, 90, 130)
    assert near.verdict == "within 10%"
    assert replace(near, phantom=115).verdict == "within sampling error"
    assert replace(near, phantom=115, low=105).verdict == "off"
    assert replace(near, phantom=float("nan"), low=float("nan"), high=float("nan")).verdict == "off"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_calibration_at_the_size_of_the_papers_data(tmp_path, seed):
    rows = compare(write_annotations(tmp_path, 1038, seed)).rows
    assert not [(r.quantity, r.phantom, r.paper) for r in rows if r.verdict == "off"]
    # What is frequent must be near, whatever the interval.
    frequent = ("boxes", "share of IVDn", "share of SS", "share of LDB", "share of SP", "pairs SS+LDB")
    assert all(
        r.verdict == "within 10%" for r in rows if r.quantity in frequent or r.quantity.startswith("mean IoU SS")
    )


def test_small_phantom_has_the_classes_of_the_paper(tmp_path):
    rows = {r.quantity: r for r in compare(write_annotations(tmp_path, 150, 5)).rows}
    assert all(rows[f"share of {name}"].phantom > 0 for name in CLASS_NAMES)
    assert abs(rows["share of IVDn"].relative) < 0.15 and abs(rows["share of SS"].relative) < 0.2


def test_command_end_to_end(tmp_path):
    write_rows(tmp_path, [box("a.png", "0", "SS", (0, 0, 10, 10)), box("a.png", "0", "LDB", (5, 0, 15, 10))])
    table = run([sys.executable, str(SCRIPT), str(tmp_path)], tmp_path)
    assert table.returncode == 0 and "pairs SS+LDB" in table.stdout and "off" in table.stdout
    content = json.loads(run([sys.executable, str(SCRIPT), str(tmp_path), "--json"], tmp_path).stdout)
    assert content["images"] == 1
    assert {r["quantity"]: r["phantom"] for r in content["rows"]}["mean IoU DDD+SS"] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "annotations.csv is not there"),
        ("a,b\n1,2\n", "lacks the columns image"),
        ("image,patient,class,x1,y1,x2,y2,meyerding\n", "holds no finding"),
        ("image,patient,class,x1,y1,x2,y2,meyerding\na.png,0,Dog,0,0,1,1,0\n", "line 2"),
        ("image,patient,class,x1,y1,x2,y2,meyerding\na.png,0,SS,0,zero,1,1,0\n", "line 2"),
        ("image,patient,class,x1,y1,x2,y2,meyerding\na.png,0,SS\n", "line 2"),
        ("image,patient,class,x1,y1,x2,y2,meyerding\na.png,0,SS,0,0,nan,1,0\n", "a.png"),
    ],
)
def test_bad_folders_are_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "annotations.csv").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        compare(tmp_path)


def test_command_says_what_is_wrong_in_one_line(tmp_path):
    done = run([sys.executable, str(SCRIPT), str(tmp_path)], tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
