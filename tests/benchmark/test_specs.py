"""Costs of models against figures that were measured elsewhere, and the command."""

import json
import runpy
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import REPO, run
from report_sweep import make_sweep, write_small_sweep
from torch import nn
from torchvision.ops import roi_align
from ultralytics.nn.tasks import DetectionModel

from yolospine_ultra.benchmark import specs
from yolospine_ultra.benchmark.family import ModelEntry
from yolospine_ultra.benchmark.report.formats import FORMATS, markdown
from yolospine_ultra.benchmark.report.source import read_results
from yolospine_ultra.benchmark.report.spec_table import spec_table
from yolospine_ultra.benchmark.zoo import rows, select
from yolospine_ultra.engine.model import PluginDetectionModel


class TwoRegions(nn.Module):
    """Pools two regions of an image."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        boxes = torch.tensor([[0.0, 0, 0, 8, 8], [0, 4, 4, 12, 12]])
        return roi_align(self.conv(x), boxes, 2)


def test_by_hand():
    spec = specs.cost_of(TwoRegions(), 32)
    assert (spec.parameters, spec.flops, spec.regions) == (16, 2 * 12 * 32 * 32, 2)
    assert (spec.fused_parameters, spec.fused_flops, spec.latency) == (None, None, None)


def test_true_costs_of_a_stock_model():
    spec = specs.cost_of(DetectionModel("yolov8m.yaml", nc=6, verbose=False), 384)
    assert (spec.parameters, spec.flops) == (25_859_794, 28_331_292_672)
    assert round(spec.fused_parameters / 1e6, 2) == 25.84


# parameters and GFLOPs at 384 px with 6 classes, as they are and fused, measured by another program
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "parameters", "fused", "gflops", "fused_gflops"),
    [
        ("yolo26m", 21.78, 20.35, 26.7, 24.5),
        ("rtdetr-l", 32.82, 32.00, 42.4, None),
    ],
)
def test_true_costs(model, parameters, fused, gflops, fused_gflops):
    (spec,) = specs.measure(select([model]))["models"].values()
    assert round(spec["parameters"] / 1e6, 2) == parameters
    assert round(spec["fused_parameters"] / 1e6, 2) == fused
    assert round(spec["flops"] / 1e9, 1) == gflops
    assert fused_gflops is None or round(spec["fused_flops"] / 1e9, 1) == fused_gflops
    assert spec["regions"] == 0


def test_ours_has_all_of_stage_two():
    spec = specs.cost_of(PluginDetectionModel("yolospine-n.yaml", nc=6, verbose=False), 128)
    assert spec.regions == 200  # 100 proposals, each in a narrow and a wide region


def test_grey_images_have_a_thinner_first_layer():
    entry = [rows()["yolov8n"]]
    colour, grey = (specs.measure(entry, 64, 3, channels=c) for c in (3, 1))
    assert (colour["channels"], grey["channels"]) == (3, 1)
    first = 2 * 3 * 3 * 16 * 32 * 32  # MACs of the first convolution with two channels less
    assert colour["models"]["yolov8n"]["flops"] - grey["models"]["yolov8n"]["flops"] == 2 * first


def test_a_row_whose_packages_are_missing_is_skipped(monkeypatch):
    said = []
    family = SimpleNamespace(extra="bench", packages=("no_such_module",))
    monkeypatch.setattr("yolospine_ultra.benchmark.zoo.family_of", lambda _: family)
    made = specs.measure([ModelEntry("mine", "x", {})], report=said.append)
    assert made["models"] == {}
    assert said == ["skipped: mine needs no_such_module: pip install 'yolospine_ultra[bench]'"]


CONTENT = {
    "imgsz": 384, "nc": 6, "rounds": 5, "device": "cpu", "environment": {"threads": 1, "processor": "a"},
    "models": {
        "a": {
            "parameters": 25859794, "fused_parameters": 25843234, "flops": 28331292672, "fused_flops": 28331292672,
            "regions": 0, "latency": {"median_ms": 198.44, "q1_ms": 190, "q3_ms": 210, "calls": 5},
        },
        "b": {
            "parameters": 69170000, "fused_parameters": None, "flops": 138700000000, "fused_flops": None,
            "regions": 3000, "latency": {"median_ms": 900, "q1_ms": 890, "q3_ms": 910, "calls": 5},
        },
    },
}  # fmt: skip


def test_table():
    entries = {"a": ModelEntry("a", "x", {}, paper="YOLOv8m"), "b": ModelEntry("b", "x", {})}
    lines = markdown(spec_table(CONTENT, entries, paper=True)).splitlines()
    assert lines[2] == "| a | 25.86 | 25.84 | 28.3 | 28.3 | \u2013 | 198.4 (190.0\u2013210.0) | 48.44 | 28.3 |"
    assert lines[3].startswith("| b | 69.17 | \u2013 | 138.7 | \u2013 | 3000 | 900.0")
    assert lines[3].endswith("| \u2013 | \u2013 |")
    assert "paper" not in FORMATS["csv"](spec_table(CONTENT, entries))


class Counting:
    def __init__(self):
        self.calls = []

    def detect(self, images):
        self.calls.append(images)


def test_a_call_has_as_many_images_as_asked_for():
    stock, other = specs.UltralyticsDetector(None, {}), Counting()
    specs._call(stock, 1, 16)
    assert stock.arguments == {"batch": 16}  # the host's loader would take them one by one
    specs._call(other, 1, 3)("a.png")
    assert other.calls == [["a.png"] * 3]


def script(*args):
    return run([sys.executable, str(REPO / "scripts" / "specs.py"), *args], REPO)


@pytest.mark.slow
def test_command(tmp_path):
    folder = write_small_sweep(tmp_path, make_sweep(("yolov8n", "yolospine-n")))
    done = script("--sweep", str(folder), "--latency", "--rounds", "2", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)  # nothing but JSON on standard output
    assert (content["imgsz"], content["nc"], content["environment"]["threads"]) == (64, 3, 1)
    for spec in content["models"].values():
        assert spec["latency"]["calls"] == 2 and 0 < spec["latency"]["q1_ms"] <= spec["latency"]["median_ms"]
    assert read_results(folder).specs == content["models"]
    assert list(content["models"]) == ["yolov8n", "yolospine-n"]


@pytest.mark.parametrize(
    ("args", "word"),
    [(["--models", "yolo8"], "'yolo8'"), (["--imgsz", "100"], "multiple of 32"), (["--nc", "0"], "at least 1"),
     (["--latency", "--images", "none.png"], "none.png"), (["--batch", "0"], "--batch 0"),
     (["--sweep", "none"], "none/sweep.json")],
)  # fmt: skip
def test_command_refuses(monkeypatch, capsys, args, word):
    monkeypatch.setattr(sys, "argv", ["specs.py", *args])
    assert runpy.run_path(str(REPO / "scripts" / "specs.py"))["main"]() == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1 and word in text
