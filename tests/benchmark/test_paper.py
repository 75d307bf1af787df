"""The paper's figures as data: units, names, and, where the paper's text is there, every single one."""

import re

import pytest
from conftest import REPO

from yolospine_ultra.benchmark.paper import paper_figure, paper_figures
from yolospine_ultra.benchmark.zoo import rows

PAPER = REPO.parent / "shared" / "paper" / "paper-readme.md"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (("internal", "YOLOspine", "map50_95"), 0.849),
        (("internal", "YOLOv11m-Seg", "map50_95", "SP"), 0.1373),
        (("external", "UNet++", "macro_f1"), 0.6231),
        (("complexity", "YOLOv8m", "parameters"), 48.44e6),
        (("complexity", "RT-DETR-L", "seconds_train"), 4.12 * 3600),
        (("ablation", "w/o MLDR", "memory_train_cuda"), 6.6 * 1024),
    ],
)
def test_units_are_the_benchmarks(key, expected):
    assert paper_figure(*key) == pytest.approx(expected)


def test_what_the_paper_does_not_have():
    assert paper_figure("external", "YOLOv10m", "accuracy") is None
    assert paper_figure("internal", "", "map50_95") is None


def test_every_row_of_the_zoo_that_names_a_row_of_the_paper_finds_it():
    named = {e.paper for e in rows().values() if e.paper}
    unknown = named - {model for _, model, _, _ in paper_figures()}
    assert named and unknown <= {"RF-DETR"}  # the paper's text names it, its tables do not


def test_figures_are_the_papers():
    if not PAPER.is_file():
        pytest.skip(f"needs the paper's text, expected at {PAPER}")
    text = PAPER.read_text()
    factors = {"map50_95": 100, "parameters": 1e-6, "flops": 1e-9, "seconds_train": 1 / 3600}
    titles = {
        "internal": "### Internal",
        "external": "### External",
        "complexity": "### Training",
        "ablation": "### Abl",
    }
    for table, title in titles.items():
        part = text[text.index(title) :]
        lines = re.findall(r"^\|.*\|$", part[: part.index("\n### " if table != "ablation" else "\n> ", 10)], re.M)[2:]
        printed = {}
        for line in lines:
            name, *cells = (c.strip().replace("*", "") for c in line.strip("|").split("|"))
            printed[re.sub(r" \(.*\)", "", name)] = [float(c) for c in cells if re.fullmatch(r"[\d.]+", c)]
        ours: dict[str, list[float]] = {}
        for (t, model, metric, _), value in paper_figures().items():
            if t == table:
                factor = 1 / 1024 if metric == "memory_train_cuda" else factors.get(metric, 1)
                ours.setdefault("YOLOv12" if (t, model) == ("ablation", "YOLOv12m") else model, []).append(
                    value * factor
                )
        assert ours.keys() == printed.keys()
        for model, values in printed.items():
            assert ours[model] == pytest.approx(values), (table, model)
