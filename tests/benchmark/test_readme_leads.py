"""The README's table of leads, which is written by hand, says what the committed sweeps say."""

import csv
import re
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
KINDS = {"all labels of a box": "-multilabel", "told alike": "-told"}
LEAD = re.compile(r"[+-][\d.]+ \([+-][\d.]+ to [+-][\d.]+\)")
SITES = "one_site_recall_fp1"


def table():
    """Folders of the columns, and the cells of each row by its first."""
    lines = (REPO / "README.md").read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| ours minus |"))
    head = lines[start].split("|")[2:-1]
    folders = [re.search(r"results/([\w-]+)/", cell)[1] for cell in head]
    rows = {}
    for line in lines[start + 2 :]:
        if not line:
            return folders, rows
        name, *cells = (cell.strip() for cell in line.split("|")[1:-1])
        rows[name] = cells


def leads(sweep, metric, digits):
    """Ours minus each model in a sweep, as the README writes it."""
    with (REPO / "results" / sweep / "comparisons.csv").open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["a"] == "yolospine-n" and r["metric"] == metric and r["ci_low"]]
    made = {}
    for r in rows:
        lead, low, high = (f"{100 * float(r[k]):+.{digits}f}" for k in ("diff", "ci_low", "ci_high"))
        made[r["b"]] = f"{lead} ({low} to {high})"
    return made


FOLDERS, ROWS = table()
CELLS = [(n, s, c[i]) for n, c in ROWS.items() for i, s in enumerate(FOLDERS)]


def test_the_table_is_whole():
    assert len(ROWS) == 9 and len(set(FOLDERS)) == 4
    assert all(LEAD.search(cell) for _, _, cell in CELLS)


@pytest.mark.parametrize(("name", "sweep", "cell"), CELLS)
def test_a_lead_is_that_of_its_sweep(name, sweep, cell):
    if name.startswith("YOLO"):
        model, _, kind = name.partition(", ")
        expected = leads(sweep, "map50_95", 1)[model.lower() + KINDS[kind]]
        holds_zero = re.search(r"\(-.* to \+", expected) is not None
    else:  # the least lead of a kind of rows
        metric, digits = ("map50_95", 1) if "predict" in name else (SITES, 0)
        told = "told" in name
        found = leads(sweep, metric, digits)
        rivals = [m for m in found if m.endswith("-told") == told and not m.startswith("yolospine")]
        if "predict" in name:
            rivals = [m for m in rivals if not m.endswith("-multilabel")]
        expected = min((found[m] for m in rivals), key=lambda text: float(text.split()[0]))
        holds_zero = False
    assert cell.strip("*") == expected
    assert cell.startswith("*") == holds_zero
