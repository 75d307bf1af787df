"""The whole report: page, plots, panels, and the commands in a process of their own."""
# ruff: noqa: RUF001  (intervals are written with an en dash)

import re
import sys
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from conftest import REPO, run, script_here
from report_sweep import detections, make_sweep, truth, write_images, write_small_sweep

from yolospine_ultra.benchmark.family import ModelEntry
from yolospine_ultra.benchmark.report import panels, plots, write
from yolospine_ultra.benchmark.report.page import inline_svg
from yolospine_ultra.benchmark.report.readme import fill_blocks, readme_block
from yolospine_ultra.benchmark.report.roles import assign_roles
from yolospine_ultra.benchmark.report.source import read_results
from yolospine_ultra.benchmark.report.write import write_report

BAD = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A full report of the small sweep with short runs: folder of the sweep, what was written, the page."""
    root = tmp_path_factory.mktemp("report")
    sweep = write_small_sweep(root / "sweep")
    short = make_sweep(("yolov8n",), budget=make_sweep().budget | {"epochs": 1})
    images = write_images(root / "images")
    shorter = [write_small_sweep(root / "short", short)]
    words = {"credit": f"Images: A & B {BAD}", "cautions": ["The machine was busy."]}
    written = write_report(sweep, paper=True, images=images, shorter=shorter, **words)
    return sweep, written, (sweep / "report" / "report.html").read_text()


class Page(HTMLParser):
    """Tags, ids and texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.texts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value)
            if key in ("src", "href", "xlink:href"):
                self.links.append(value)

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_says_how_trainings_began_and_whether_seeds_are_the_same(tmp_path):
    initial = {"sweep": "../a", "dataset": "phantom", "fingerprint": "", "epochs": 30, "imgsz": 256}
    sweep = write_small_sweep(tmp_path / "sweep", make_sweep(initial=initial))
    write_report(sweep)
    text = (sweep / "report" / "report.html").read_text()
    assert "64 px from weights of 30 epochs at 256 px on phantom" in text and "from scratch" not in text
    assert "the same data and schedule and seeds for all" in text
    next((sweep / "cells").glob("yolov8n_seed1")).rename(tmp_path / "gone")
    write_report(sweep)
    text = (sweep / "report" / "report.html").read_text()
    assert "the same data and schedule for all" in text


def test_the_page_of_one_model_counts_in_the_singular(tmp_path, no_plots):
    sweep = write_small_sweep(tmp_path / "sweep", make_sweep(("yolospine-n",)))
    write_report(sweep)
    assert "1 model ranked, 2 evaluations, 60 epochs" in (sweep / "report" / "report.html").read_text()


def test_panels_of_images_of_one_name(tmp_path):
    """The picture of the patient that is meant; none where nobody can say."""
    sweep = write_small_sweep(tmp_path / "sweep")
    results = read_results(sweep)
    write_images(tmp_path / "images" / "a")
    write_images(tmp_path / "images" / "b")
    problems = []
    assert panels.make_panels(results, assign_roles(results), tmp_path / "images", problems) == []
    assert problems and all("several such files" in p for p in problems)


def test_files(made):
    sweep, written, _ = made
    names = {f.relative_to(sweep / "report").as_posix() for f in written.files}
    for table in ("classwise", "comparisons", "ranks", "complexity", "ablation", "short_runs", "paper_internal"):
        assert {f"tables/{table}.{x}" for x in ("md", "csv", "tex")} <= names
    for plot in ("classes", "ranks", "cost", "confusion", "panels"):
        assert {f"plots/{plot}.{x}" for x in ("png", "pdf")} <= names
    assert all(f.stat().st_size for f in written.files) and written.problems == ()
    assert not list(sweep.rglob("*.part"))


def test_page_is_self_contained_and_says_what_holds(made):
    page = Page(made[2])
    assert "The machine was busy." in page.texts
    assert f"the largest against us. Images: A & B {BAD}" in "".join(page.texts) and BAD not in made[2]
    assert all(x.startswith(("data:", "#")) for x in page.links)
    assert not re.search(r"@import|url\((?!#)", made[2])
    assert len(page.ids) == len(set(page.ids))
    assert all(x[1:] in page.ids for x in page.links if x.startswith("#"))
    text = " ".join(page.texts)
    assert "The data do not tell yolospine-n and yolo11n apart" in text
    assert "python scripts/benchmark_all.py --models 'yolo*n' && echo <done>" in text
    assert "Short runs, not ranked" in text and "What the paper prints" in text
    assert page.tags.count("script") == 1


def test_the_only_script_that_may_run_is_the_pages_own(made):
    import base64
    import hashlib

    script = re.search(r"<script>(.*?)</script>", made[2], re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in made[2] and "default-src 'none'" in made[2]


@pytest.fixture
def no_plots(monkeypatch):
    """Plots are slow to draw, and most tests are about the rest."""
    monkeypatch.setattr(write, "_figures", lambda *_: {})


def test_what_comes_from_files_is_escaped(tmp_path, no_plots):
    name = "evil$x_1"
    sweep = make_sweep(("yolospine-n",), names={0: BAD, 1: "b<i>", 2: 'q" onload="x'}, command=BAD, dataset="toy")
    sweep.models["yolospine-n"] = ModelEntry(
        "yolospine-n", BAD, {"yaml": "yolospine-n.yaml"}, recipe={BAD: BAD}, note=f"{BAD} {name}"
    )
    folder = write_small_sweep(tmp_path / "s", sweep)
    file = folder / "summary.csv"
    file.write_text(file.read_text().replace(",DDD,", f",{BAD},"))
    (folder / "cells" / f"x{BAD.replace('/', '')}").mkdir()
    written = write_report(folder)
    text = (folder / "report" / "report.html").read_text()
    page = Page(text)
    assert BAD not in text and page.tags.count("script") == 1 and "i" not in page.tags
    assert BAD in " ".join(page.texts)
    assert len(written.problems) == 1  # the folder without a record
    assert "<script>" not in (folder / "report" / "tables" / "classwise.md").read_text()


def test_same_files_same_report(made, tmp_path):
    sweep = made[0]
    results = read_results(sweep)
    for form in ("svg", "png", "pdf"):
        once, twice = (plots.save(plots.confusion(results, ["yolov8n"]), form) for _ in range(2))
        assert once == twice
    again = write._page(results, assign_roles(results), {}, {}, [], False, ())
    assert again == write._page(read_results(sweep), assign_roles(results), {}, {}, [], False, ())


def test_partial_sweep_still_has_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "save", lambda figure, form: b'<svg width="1pt">')
    folder = write_small_sweep(tmp_path / "s")
    for name in ("comparisons.csv", "ranks.csv", "latency.json", "specs.json", "ground_truth.json"):
        (folder / name).unlink()
    (folder / "cells" / "yolov8n_seed0" / "record.json").write_text("{")
    written = write_report(folder, images=write_images(tmp_path / "images"))
    names = {f.name for f in written.files}
    assert "report.html" in names and not names & {"ranks.png", "panels.png", "comparisons.md"}
    assert [p.split(" ")[0] for p in written.problems] == [
        "cells/yolov8n_seed0/record.json", "summary.csv", "ground_truth.json",
    ]  # fmt: skip
    assert "3 parts of the sweep could not be used" in (folder / "report" / "report.html").read_text()


def test_no_shorter_sweep_is_refused(tmp_path):
    folder = write_small_sweep(tmp_path / "s")
    with pytest.raises(ValueError, match="60 epochs at 64 px, no less than"):
        write_report(folder, shorter=[folder])


def test_svg_in_a_page_takes_its_ink_and_keeps_its_ids_apart(made):
    results = read_results(made[0])
    svg = inline_svg(plots.save(plots.rank_plot(results, assign_roles(results)), "svg"), "k")
    assert "currentColor" in svg and plots.INK not in svg and not svg.startswith("<?xml")
    assert set(re.findall(r'id="([^"]*)"', svg)) >= set(re.findall(r'href="#([^"]*)"', svg))
    assert all(x.startswith("k-") for x in re.findall(r'id="([^"]*)"', svg))


def test_no_long_name_is_cut_off_at_the_edge(made):
    results = read_results(made[0])
    figure = plots.rank_plot(results, assign_roles(results))
    axes = figure.axes[0]
    for names in ("yolospine-n-undeclared", "yolo11n-multilabel", "W" * 30):
        axes.set_yticks(axes.get_yticks(), [names] * len(axes.get_yticks()))
        figure.set_layout_engine("constrained")
        image = cv2.imdecode(np.frombuffer(plots.save(figure, "png"), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert image[:, 0].min() == 255 and image.min() < 128


def test_bars_have_the_measured_lengths(made):
    results = read_results(made[0])
    figure = plots.class_bars(results, assign_roles(results))
    titled = {a.get_title(loc="left"): a for a in figure.axes if a.get_title(loc="left")}
    assert list(titled) == ["all classes", "DDD", "LDB"]  # SS has no value anywhere
    assert [round(b.get_width(), 6) for b in titled["all classes"].patches] == [42, 35, 31]
    assert [round(b.get_width(), 6) for b in titled["LDB"].patches] == [44, 32]
    assert [t.get_text() for t in titled["LDB"].texts] == ["not measured"]


def test_ablations_are_differences_to_ours(made):
    results = read_results(made[0])
    figure = plots.ablation_plot(results, assign_roles(results))
    (axes,) = figure.axes  # no findings at equal false positives in this sweep
    assert [t.get_text() for t in axes.get_yticklabels()] == ["yolospine-noa2-n"]
    _, interval, dot = axes.lines
    assert list(interval.get_xdata()) == pytest.approx([-6, 3]) and list(dot.get_xdata()) == pytest.approx([-2])
    assert dot.get_markerfacecolor() == "white"  # zero is inside
    assert plots.ablation_plot(results, assign_roles(results, "yolo11n")) is None


def test_confusion_shows_shares_of_a_row(made):
    results = read_results(made[0])
    axes = plots.confusion(results, ["yolospine-n"]).axes[0]
    texts = [t.get_text() for t in axes.texts]
    # two cells of 20, 0, 5, 5 and so on, added up
    assert texts == ["67\n(40)", "17\n(10)", "17\n(10)", "20\n(2)", "60\n(6)", "20\n(2)", "67\n(8)", "33\n(4)",
                     "not labelled in these images"]  # fmt: skip


def test_panels_are_chosen_by_the_difference(made, tmp_path):
    results = read_results(made[0])
    roles, problems = assign_roles(results), []
    images = write_images(tmp_path / "images")
    found = panels.make_panels(results, roles, images, problems)
    # ours is right on images 0 and 1, the baseline on 0: gains 0, 1, 0
    assert [(p.name, p.why) for p in found] == [
        ("1.png", "largest gain (+1.00)"), ("0.png", "median (+0.00)"), ("2.png", "largest loss (+0.00)"),
    ]  # fmt: skip
    assert problems == [] and found[0].pixels.shape == (64, 64, 3)
    (images / "1.png").write_bytes(b"no picture")
    assert len(panels.make_panels(results, roles, images, problems)) == 2 and "1.png cannot be drawn" in problems[0]


def test_f1_of_an_image():
    label, right, wrong = truth()[0], detections(1)[0], detections(0)[0]
    assert (panels.f1(label, right), panels.f1(label, wrong)) == (1.0, 0.0)
    half = type(right)(right.name, right.boxes[:1], right.classes[:1], right.scores[:1])
    assert panels.f1(label, half) == pytest.approx(2 / 3)
    nothing = type(right)(right.name, np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    assert panels.f1(type(label)(label.name, np.zeros((0, 4)), np.zeros(0)), nothing) == 1.0


def test_readme_blocks(made):
    sweep = made[0]
    text = f"# t\n<!-- benchmark {sweep.name} -->\nyesterday\n<!-- /benchmark -->\nrest\n"
    filled = fill_blocks(text, sweep.parent)
    assert filled.startswith(f"# t\n<!-- benchmark {sweep.name} -->\n[toy]({sweep.name}): 2 seeds, 60 epochs at 64 px")
    assert filled.endswith("<!-- /benchmark -->\nrest\n") and "yesterday" not in filled
    assert "| yolov8n | 31.0 ± 1.0 (22.0–40.0) | +11.0 (+2.0 to +18.0) | 40.0 ± 1.0 (31.0–49.0) " in filled
    assert "| +9.0 (+1.0 to +17.0) | 3.16 | 2.0 | 40 |" in filled
    assert fill_blocks(filled, sweep.parent) == filled
    for bad in ("# t\n", f"<!-- benchmark {sweep.name} -->\n"):
        with pytest.raises(ValueError, match="expected at least one"):
            fill_blocks(bad, sweep.parent)


def test_readme_says_where_a_model_has_fewer_seeds(tmp_path):
    folder = write_small_sweep(tmp_path / "s")
    assert "seed)" not in readme_block(folder, "s")
    summary = folder / "summary.csv"
    summary.write_text(
        summary.read_text().replace("toy,yolo11n,n,map50_95,all,2,0.35", "toy,yolo11n,n,map50_95,all,1,0.35")
    )
    (folder / "cells" / "yolo11n_seed1" / "record.json").unlink()
    assert "| yolo11n (1 seed) | 35.0" in readme_block(folder, "s")


def script(name, *args, cwd):
    return run([sys.executable, str(REPO / "scripts" / f"{name}.py"), *map(str, args)], cwd)


@pytest.mark.slow
def test_commands_in_a_process_of_their_own(tmp_path):
    folder = write_small_sweep(tmp_path / "s")
    (folder / "cells" / "yolov8n_seed0" / "record.json").write_text("{")
    done = script("benchmark_report", folder, "--out", "r", cwd=tmp_path)
    assert done.returncode == 0 and "2 left out: r/report.html" in done.stdout, done.stderr
    assert "left out: cells/yolov8n_seed0/record.json" in done.stderr
    assert (tmp_path / "r" / "report.html").is_file() and not (folder / "report").exists()
    (tmp_path / "README.md").write_text("<!-- benchmark s -->\n<!-- /benchmark -->\n")
    done = script("readme_table", "--check", cwd=tmp_path)
    assert done.returncode == 1 and "not what its results say" in done.stderr


@pytest.mark.parametrize(
    ("args", "word"), [(["x"], "x/sweep.json"), (["s", "--ours", "y"], "'y'"), (["s", "--images", "z"], "z")]
)
def test_report_command_refuses(tmp_path, monkeypatch, capsys, args, word):
    write_small_sweep(tmp_path / "s")
    monkeypatch.chdir(tmp_path)
    assert script_here(monkeypatch, "benchmark_report", *args) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1 and word in text


def test_readme_command(tmp_path, monkeypatch, capsys):
    write_small_sweep(tmp_path / "s")
    readme = tmp_path / "README.md"
    readme.write_text("<!-- benchmark s -->\n<!-- /benchmark -->\n")
    assert script_here(monkeypatch, "readme_table", readme) == 0 and "README.md: made anew" in capsys.readouterr().out
    assert script_here(monkeypatch, "readme_table", readme, "--check") == 0
    edited = readme.read_text().replace("42.0", "52.0")
    readme.write_text(edited)
    assert script_here(monkeypatch, "readme_table", readme, "--check") == 1
    assert "not what its results say" in capsys.readouterr().err
    assert readme.read_text() == edited  # a check writes nothing
    assert script_here(monkeypatch, "readme_table", tmp_path / "none.md") == 2
