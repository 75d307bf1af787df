"""Sweeps on disk that are damaged, partial, or of one model only."""

import json
import math
from dataclasses import asdict

import pytest
from report_sweep import make_record, make_sweep, write_small_sweep

from yolospine_ultra.benchmark.records import write_record
from yolospine_ultra.benchmark.report import statements
from yolospine_ultra.benchmark.report.roles import assign_roles
from yolospine_ultra.benchmark.report.source import Comparison, Estimate, read_results


@pytest.fixture
def folder(tmp_path):
    return write_small_sweep(tmp_path / "sweep")


def test_everything_is_read(folder):
    results = read_results(folder)
    assert results.models == ["yolospine-n", "yolospine-noa2-n", "yolo11n", "yolov8n"]
    assert results.value("yolov8n", "map50_95", "LDB") == Estimate(0.32, 0.04, -0.04, 0.68, 2)
    assert results.value("yolov8n", "map50_95", "SS") is None  # not defined, and no damage
    assert (len(results.records), results.problems) == (8, ())
    seen_from_b = results.comparison("yolospine-n", "yolov8n")
    assert (seen_from_b.diff, seen_from_b.low, seen_from_b.high) == (0.11, 0.02, 0.18)
    assert results.comparison("yolo11n", "yolospine-noa2-n") is None


def test_damaged_records_are_named_left_out_and_counted(folder):
    cells = folder / "cells"
    (cells / "yolov8n_seed0" / "record.json").write_text('{"format": 1, "cell"')
    (cells / "yolov8n_seed1" / "record.json").unlink()
    (cells / "yolo11n_seed0" / "record.json").write_text('{"format": 1, "cell": "x"}')
    (cells / "yolo11n_seed1" / "record.json").write_text("[]")
    other = asdict(make_record("yolospine-n", 0, confusion=[[1, 2], [3, 4]]))
    (cells / "yolospine-n_seed0" / "record.json").write_text(json.dumps(other))
    write_record(folder, make_record("yolospine-n", 1, status="failed", error="the loss is no longer finite"))
    results = read_results(folder)
    assert sorted(r.cell for r in results.records) == ["yolospine-noa2-n_seed0", "yolospine-noa2-n_seed1"]
    text = "\n".join(results.problems)
    for cell in ("yolov8n_seed0", "yolov8n_seed1", "yolo11n_seed0", "yolo11n_seed1", "yolospine-n_seed0"):
        assert f"cells/{cell}/record.json" in text
    assert "yolospine-n_seed1/record.json: the cell failed: the loss is no longer finite" in text
    assert "confusion is not a 4 x 4 matrix" in text
    # the summary still counts what can no longer be read
    assert "summary.csv counts 2 seeds of yolov8n, but the records of 0 can be read" in text
    assert len(results.problems) == 6 + 3


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("toy,yolov8n,n,kappa,all,2,oops,0,0,0", "no number in mean"),
        ("toy,yolov8n,n,kappa,all,2,nan,0,0,0", "no number in mean"),
        ("toy,yolov8n,n,kappa,all", "too few"),
        ("toy,yolov8n,n,kappa,all,2,1,0,0,0,9", "too many"),
        ("other,yolov8n,n,kappa,all,2,1,0,0,0", "dataset other, not toy"),
        ("toy,nobody,n,kappa,all,2,1,0,0,0", "no model nobody"),
        ("toy,yolov8n,n,map50,all,2,0.9,0,0,0", "stands there twice"),
    ],
)
def test_damaged_rows(folder, line, expected):
    file = folder / "summary.csv"
    text = file.read_text()
    file.write_text(text + line + "\n")
    results = read_results(folder)
    (problem,) = results.problems
    assert expected in problem and f"line {len(text.splitlines()) + 1}" in problem
    assert results.value("yolov8n", "map50").mean == 0.5 and results.value("yolov8n", "kappa") is None


def test_files_that_are_no_sweep(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"sweep\.json"):
        read_results(tmp_path)
    (folder / "summary.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no column dataset, model"):
        read_results(folder)
    (folder / "summary.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"summary\.csv"):
        read_results(folder)
    (folder / "sweep.json").write_text('{"format": 1, "names": {}, "models": {}}')
    with pytest.raises(ValueError, match=r"sweep\.json"):
        read_results(folder)


def test_damaged_extras_leave_the_rest(folder):
    (folder / "latency.json").write_text("{")
    (folder / "specs.json").write_text("[1]")
    (folder / "ranks.csv").unlink()
    results = read_results(folder)
    assert results.latency == {} and results.specs == {} and results.ranks == {}
    assert [p.split()[0] for p in results.problems] == ["latency.json", "specs.json"]


def test_costs_of_another_input_are_left_out(folder):
    file = folder / "specs.json"
    file.write_text(file.read_text().replace('"imgsz": 64', '"imgsz": 384'))
    results = read_results(folder)
    assert results.specs == {}
    assert "is of 384 px, 3 classes and 3 channels, the sweep of 64 px, 3 classes and 3" in results.problems[0]


def test_parts(folder):
    results = read_results(folder)
    roles = assign_roles(results)
    assert (roles.ours, roles.baseline) == ("yolospine-n", "yolo11n")
    assert roles.ranked == ("yolospine-n", "yolo11n", "yolov8n")
    assert roles.ablations == ("yolospine-n", "yolospine-noa2-n")
    own = assign_roles(results, "yolo11n")  # somebody's own detector: nothing is its ablation
    assert (own.ours, own.baseline, own.ablations) == ("yolo11n", "yolospine-n", ("yolo11n",))
    assert len(own.ranked) == 4
    with pytest.raises(ValueError, match="no model 'mine'"):
        assign_roles(results, "mine")


def test_what_the_data_support(folder):
    results = read_results(folder)
    roles = assign_roles(results)
    assert statements.headline(results, roles) == (
        "yolospine-n has the highest mean mAP50-95, 42.0%. The data do not tell yolospine-n and yolo11n apart: the "
        "difference is +7.0 points (95% interval -1.0 to +15.0), and the interval holds zero."
    )
    assert statements.supported(results, roles) == [
        "yolospine-n beats yolov8n (interval of the difference above zero).",
        "No difference between yolospine-n and yolo11n is shown.",
    ]
    text = " ".join(statements.not_supported(results, roles))
    for expected in ("2 seeds a model", "toy, 2 patients", "60 epochs at 64 px", "LDB (5 labelled boxes)",
                     "SS cannot be measured", "3 comparisons at 95% each"):  # fmt: skip
        assert expected in text
    assert "DDD" not in text  # 30 boxes are no handful
    assert "at a time" not in text
    results.sweep.budget["jobs"] = 8
    assert "8 trainings ran at a time" in " ".join(statements.not_supported(results, roles))


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ("0.07,0.01,0.15", "The data support that yolospine-n beats yolo11n, by 7.0 points"),
        ("-0.07,-0.15,-0.01", "The data support that yolo11n beats yolospine-n"),
    ],
)
def test_headline_follows_the_interval(folder, interval, expected):
    file = folder / "comparisons.csv"
    file.write_text(file.read_text().replace("0.07,-0.01,0.15", interval))
    results = read_results(folder)
    assert expected in statements.headline(results, assign_roles(results))


def test_the_headline_names_what_is_not_told_apart_and_the_difference_without_rare_classes(folder):
    """A lead over the model with the best mean hides an open difference to another."""
    file = folder / "comparisons.csv"
    text = (
        file.read_text().replace("0.07,-0.01,0.15", "0.07,0.01,0.15").replace("-0.11,-0.18,-0.02", "-0.11,-0.23,0.01")
    )
    file.write_text(text + "toy,yolo11n,yolospine-n,map50_95_common,-0.03,-0.05,0.01\n")
    results = read_results(folder)
    assert statements.headline(results, assign_roles(results)).endswith(
        "(95% interval +1.0 to +15.0). No difference between yolospine-n and yolov8n is shown. Without classes of "
        "fewer than 20 labelled boxes (LDB) the difference to yolo11n is +3.0 points (-1.0 to +5.0)."
    )


def test_no_difference_is_none_from_either_side():
    seen = Comparison("a", "b", "pair_recall_fp1", 0.0, None, None).reversed()
    assert math.copysign(1, seen.diff) == 1


def test_a_difference_without_an_interval_is_no_damage(folder):
    """As of a sweep with one patient."""
    file = folder / "comparisons.csv"
    file.write_text(file.read_text().replace("0.07,-0.01,0.15", "0.07,,"))
    results = read_results(folder)
    roles = assign_roles(results)
    assert results.problems == () and results.comparison("yolo11n", "yolospine-n").diff == -0.07
    assert "+7.0 points, without an interval" in statements.headline(results, roles)
    assert "yolo11n" not in " ".join(s for s in statements.supported(results, roles) if "beats" in s)


def test_without_comparisons_nothing_is_claimed(folder):
    (folder / "comparisons.csv").unlink()
    results = read_results(folder)
    roles = assign_roles(results)
    assert "no claim is made about their difference" in statements.headline(results, roles)
    assert statements.supported(results, roles) == []
    assert "no pairwise comparison" in " ".join(statements.not_supported(results, roles))


def test_one_model_alone(tmp_path):
    results = read_results(write_small_sweep(tmp_path, make_sweep(("yolospine-n",))))
    roles = assign_roles(results)
    assert (roles.ours, roles.baseline, roles.ranked) == ("yolospine-n", None, ("yolospine-n",))
    assert "nothing to compare it with" in statements.headline(results, roles)


def test_nothing_measured_yet(folder):
    (folder / "summary.csv").write_text((folder / "summary.csv").read_text().splitlines()[0] + "\n")
    results = read_results(folder)
    roles = assign_roles(results)
    assert roles.ranked == () and "nothing can be said" in statements.headline(results, roles)
