"""How time grows: exponents by hand, and every series of small networks."""

import math
import runpy
import sys

import pytest
from conftest import REPO, run
from ultralytics import YOLO

from yolospine_ultra.benchmark import growth


def series(sizes, ms):
    return growth.Series("x", "y", tuple(sizes), tuple(ms), tuple(ms), tuple(ms))


def test_exponent_by_hand():
    assert series([1, 2, 4, 8], [3, 3, 5, 20]).exponent == pytest.approx(2)  # of 4 and 8; the small ones cost a call
    assert series([10, 100], [1, 10]).exponent == pytest.approx(1)
    assert math.isnan(series([10], [1]).exponent)


@pytest.fixture(scope="module")
def model():
    return YOLO("yolospine-n.yaml").model.fuse(verbose=False).eval()


def test_every_series_has_its_sizes(model):
    made = growth.grow_side({"a": model, "b": model}, (64, 96), 1, "cpu")
    made += growth.grow_batch({"a": model}, (1, 2), 64, 1, "cpu")
    made += growth.grow_proposals(model, (10, 20, 10_000), 64, 1, "cpu")  # more than there are anchor points: left out
    made += growth.grow_tokens((144, 576), 1, "cpu")
    assert [(s.name, s.sizes) for s in made] == [
        ("a", (64, 96)), ("b", (64, 96)), ("a", (1, 2)), ("whole network", (10, 20)), ("stage 2 alone", (10, 20)),
        ("strips of 400", (144, 576)), ("one strip", (144, 576)),
    ]  # fmt: skip
    assert all(q1 <= t <= q3 for s in made for q1, t, q3 in zip(s.q1_ms, s.ms, s.q3_ms, strict=True))
    panels = growth.draw_growth(made).axes
    assert [len(a.lines) for a in panels] == [2, 1, 2, 2]


def test_a_model_of_one_stage_has_no_proposals():
    with pytest.raises(ValueError, match="Detect; expected SpineDetect"):
        growth.grow_proposals(YOLO("yolov8n.yaml").model, (10,), 64, 1, "cpu")


@pytest.mark.parametrize(
    ("args", "said"),
    [(["--models", "yolov8n"], "expected SpineDetect"), (["--device", "98"], "device=98 is not usable")],
)
def test_command_refuses_before_it_measures(args, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(growth, "grow_side", None)
    script = runpy.run_path(str(REPO / "scripts/growth.py"))
    monkeypatch.setattr(sys, "argv", ["growth.py", *args, "--out", str(tmp_path / "x")])
    assert script["main"]() == 2 and said in capsys.readouterr().err


def test_command_refuses_an_unknown_model(tmp_path):
    done = run(["python", str(REPO / "scripts/growth.py"), "--models", "yolospine-q", "--out", "x"], tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error:") and not (tmp_path / "x").exists()
