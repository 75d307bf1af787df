"""Tables of a report against text written by hand."""
# ruff: noqa: RUF001  (intervals are written with an en dash)

import csv
import dataclasses
import io
import re

import pytest
from report_sweep import SUMMARY, make_sweep, write_small_sweep

from yolospine_ultra.benchmark.report import cost_tables, tables
from yolospine_ultra.benchmark.report.formats import Column, Table, latex, latex_text, markdown, table_csv
from yolospine_ultra.benchmark.report.roles import assign_roles
from yolospine_ultra.benchmark.report.source import Estimate, read_results


@pytest.fixture
def small(tmp_path):
    results = read_results(write_small_sweep(tmp_path / "sweep"))
    assert results.problems == ()
    return results, assign_roles(results)


def rows_of(text):
    return [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_classwise_markdown(small):
    assert markdown(tables.classwise(*small)).splitlines()[:5] == [
        "| model | n | DDD | SS | LDB | mAP50-95 | mAP50 |",
        "| :-- | --: | --: | --: | --: | --: | --: |",
        "| yolospine-n | 2 | **40.0** ± 2.0 (22.0–58.0) | – | **44.0** ± 3.0 (17.0–71.0) | **42.0** ± 1.0 (33.0–51.0) "
        "| **60.0** ± 2.0 (42.0–78.0) |",
        # equal to the best as shown: bold too; what was not measured is a dash; models best first
        "| yolo11n | 2 | **40.0** ± 2.0 (22.0–58.0) | – | – | 35.0 ± 1.0 (26.0–44.0) | – |",
        # the interval is cut where a share ends
        "| yolov8n | 2 | 30.0 ± 2.0 (12.0–48.0) | – | 32.0 ± 4.0 (0.0–68.0) | 31.0 ± 1.0 (22.0–40.0) "
        "| 50.0 ± 2.0 (32.0–68.0) |",
    ]


def test_classwise_csv_keeps_every_digit_and_the_uncut_interval(small):
    found = list(csv.DictReader(io.StringIO(table_csv(tables.classwise(*small)))))
    assert [r["model"] for r in found] == ["yolospine-n", "yolo11n", "yolov8n"]
    last = found[-1]
    assert (last["LDB"], last["LDB sd"], last["LDB ci_low"], last["LDB ci_high"], last["LDB n"]) == (
        "32", "4", "-4", "68", "2",
    )  # fmt: skip
    assert last["SS"] == ""


def test_latex(small):
    text = latex(tables.classwise(*small))
    assert r"yolov8n & 2 & 30.0 $\pm$ 2.0 {\scriptsize(12.0--48.0)} & -- & 32.0" in text
    assert r"\begin{tabular}{lrrrrrr}" in text and r"\textbf{42.0} $\pm$ 1.0" in text
    assert text.count("{") == text.count("}")
    assert latex_text(r"50% of a_b & c{d}^~\ #$") == (
        r"50\% of a\_b \& c\{d\}\textasciicircum{}\textasciitilde{}\textbackslash{} \#\$"
    )


def test_marks_of_every_format_are_harmless():
    bad = "a|b*c_<script>\n=1+1"
    table = Table("t", "T", (Column("model"),), ((bad,), ("=2+2",)), (bad,))
    assert r"| a\|b\*c\_&lt;script&gt; =1+1 |" in markdown(table) and "<script>" not in markdown(table)
    assert len(rows_of(markdown(table).replace(r"\|", ""))) == 4
    assert list(csv.reader(io.StringIO(table_csv(table))))[2] == ["'=2+2"]  # a spreadsheet would compute it


def test_a_single_value_has_neither_spread_nor_bold():
    table = Table("t", "T", (Column("x", 1, better=1),), ((Estimate(1.0),),))
    assert rows_of(markdown(table))[-1] == ["1.0"]


def test_where_all_are_equal_as_shown_none_is_bold():
    table = Table("t", "T", (Column("x", 1, better=1),), ((Estimate(0.01),), (Estimate(0.0),)))
    assert rows_of(markdown(table))[-2:] == [["0.0"], ["0.0"]]


def test_a_mean_over_fewer_seeds_is_not_the_best():
    column, other = Column("x", 1, better=1), Estimate(0.4, n=3)
    table = Table("t", "T", (column,), ((Estimate(0.5, n=2),), (other,), (Estimate(0.3, n=3),)))
    assert rows_of(markdown(table))[-3:] == [["0.5"], ["**0.4**"], ["0.3"]]
    alone = Table("t", "T", (column,), ((Estimate(0.5, n=2),), (other,)))
    assert rows_of(markdown(alone))[-2:] == [["0.5"], ["0.4"]]  # no choice left


def test_differences_are_told_from_the_model_that_is_ahead(small):
    found = rows_of(markdown(tables.beats(*small)))[2:]
    assert found == [
        ["yolospine-n", "yolo11n", "+7.0 (-1.0 to +15.0)", "no difference shown"],
        ["yolospine-n", "yolov8n", "+11.0 (+2.0 to +18.0)", "A beats B"],
    ]
    others = rows_of(markdown(tables.beats(*small, others=True)))[2:]
    assert others == [["yolo11n", "yolov8n", "+4.0 (-2.0 to +10.0)", "no difference shown"]]


def test_ranks(small):
    assert rows_of(markdown(tables.ranks(small[0])))[2:] == [
        ["yolospine-n", "2", "**1.2** (1.0–2.0)"],
        ["yolo11n", "2", "3.0 (2.0–4.0)"],
        ["yolov8n", "2", "3.5 (3.0–4.0)"],
    ]


def test_complexity(small):
    found = rows_of(markdown(cost_tables.complexity(*small)))
    assert found[0][:4] == ["model", "parameters, M", "GFLOPs", "regions pooled"]
    assert found[-2:] == [
        ["yolov8n", "3.16", "**2.0**", "–", "10.0 ± 1.0 (1.0–19.0)", "10.0 ± 1.0 (1.0–19.0)", "2.00 ± 0.00 (2.00–2.00)",
         "40 (38–44)"],
        ["yolospine-noa2-n", "–", "4.0", "–", "–", "–", "–", "–"],
    ]  # fmt: skip


def test_ablation_reads_the_parts_off_the_model_files(small):
    found = rows_of(markdown(cost_tables.ablation(*small, paper=True)))
    assert found[0][1:6] == ["GELAN", "R-ELAN", "A²", "MLDR", "Soft-NMS"]
    assert [r[:6] for r in found[2:]] == [
        ["yolospine-n", "✓", "✓", "✓", "✓", "✓"],
        ["yolospine-noa2-n", "✓", "✓", "✗", "✓", "✓"],
        ["yolo11n", "–", "–", "–", "–", "–"],
    ]
    by_name = {r[0]: dict(zip(found[0], r, strict=True)) for r in found[2:]}
    assert by_name["yolospine-noa2-n"]["to the full model"] == "-2.0 (-6.0 to +3.0)"
    # the paper's row is found by the parts, and says whose figure it is
    assert [by_name[m]["paper: mAP50-95"] for m in by_name] == ["84.9", "82.1", "–"]


def test_parts_of_our_own_are_shown_where_rows_differ_in_them(tmp_path):
    variants = ("yolospine-onebox-n", "yolospine-onehot-n", "yolospine-nomldr-n", "yolospine-n-undeclared")
    names = ("yolospine-n", *variants, "yolov8n")
    sweep = make_sweep(names)
    sweep.models["yolospine-n-undeclared"] = dataclasses.replace(
        sweep.models["yolospine-n-undeclared"], build={"yaml": "yolospine-n.yaml", "declared": False}
    )
    folder = write_small_sweep(tmp_path, sweep)
    lines = [f"toy,{m},n,map50_95,all,2,0.4,0.01,0.31,0.49" for m in names]
    (folder / "summary.csv").write_text("\n".join([SUMMARY.splitlines()[0], *lines]) + "\n")
    results = read_results(folder)
    found = rows_of(markdown(cost_tables.ablation(results, assign_roles(results), paper=True)))
    assert found[0][1:9] == ["GELAN", "R-ELAN", "A²", "MLDR", "Soft-NMS", "class boxes", "multi-hot", "declared"]
    by_name = {r[0]: r for r in found[2:]}
    assert by_name["yolospine-onebox-n"][6:9] == ["✗", "✓", "✓"]
    assert by_name["yolospine-onehot-n"][6:9] == ["✓", "✗", "✓"]
    assert by_name["yolospine-n-undeclared"][6:9] == ["✓", "✓", "✗"]
    assert by_name["yolospine-nomldr-n"][6:9] == ["–", "–", "–"]
    at = found[0].index("paper: mAP50-95")
    assert [by_name[m][at] for m in names[:4]] == ["84.9", "–", "–", "81.1"]  # the paper has no such variants


def test_what_ours_finds_more_is_signed_from_our_side_and_has_its_interval(small):
    found = rows_of(markdown(tables.equal(*small)))
    assert found[2:] == [["yolov8n", "+9.0 (+1.0 to +17.0)", "–", "–"]]


def test_soft_nms_is_off_where_predicting_says_so(tmp_path):
    sweep = make_sweep()
    sweep.models["yolospine-noa2-n"].predict["suppression"] = "hard"
    results = read_results(write_small_sweep(tmp_path, sweep))
    found = rows_of(markdown(cost_tables.ablation(results, assign_roles(results))))
    assert next(r for r in found if r[0] == "yolospine-noa2-n")[5] == "✗"


def test_short_runs_are_listed_with_their_budget(small, tmp_path):
    short = make_sweep(("yolov8n",), budget=make_sweep().budget | {"epochs": 1})
    other = read_results(write_small_sweep(tmp_path / "short", short))
    table = cost_tables.short_runs(small[0], [other])
    assert rows_of(markdown(table))[2][:6] == ["yolov8n", "toy", "1", "64", "2", "3.16"]
    assert "take part in no ranking" in table.notes[0]
    assert "**" not in markdown(table)


def test_the_paper_is_beside_only_where_it_has_a_row(small, tmp_path):
    assert "paper" not in markdown(tables.classwise(*small, paper=True))  # n scale: the paper has m
    sweep = make_sweep()
    sweep.models["yolov8n"] = type(sweep.models["yolov8n"])(
        "yolov8n", "ultralytics", {"yaml": "yolov8n.yaml"}, paper="YOLOv8m"
    )
    results = read_results(write_small_sweep(tmp_path, sweep))
    table = tables.classwise(results, assign_roles(results), paper=True)
    found = rows_of(markdown(table))
    assert found[0][-1] == "paper: mAP50-95" and [r[-1] for r in found[2:]] == ["–", "–", "74.6"]
    assert any(re.search("Not measured here", n) for n in table.notes)
