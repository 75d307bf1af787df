"""Exported forms beside PyTorch: agreement by hand, a real export, and what is refused."""

import json
import sys

import cv2
import numpy as np
import pytest
from conftest import REPO, run

from yolospine_ultra.benchmark.exports import Agreement, agreement, compare_exports
from yolospine_ultra.evaluate.findings import ImageFindings

SCRIPT = str(REPO / "scripts" / "benchmark_export.py")


def findings(*rows):
    boxes, classes, scores = zip(*rows, strict=True)
    return ImageFindings("a.png", boxes, classes, scores)


def test_agreement_by_hand():
    reference = findings(
        ([0, 0, 100, 100], 0, 0.9), ([0, 0, 100, 100], 1, 0.8), ([50, 50, 90, 90], 0, 0.5), ([0, 0, 9, 9], 0, 0.005)
    )
    other = findings(
        ([0, 0, 100, 101], 0, 0.88), ([0, 0, 100, 100], 2, 0.8), ([50, 50, 70, 90], 0, 0.5), ([0, 0, 100, 100], 1, 0.8)
    )
    made = agreement([reference], [other])  # the third moved too far, the fourth is below the least score
    assert (made.both, made.missing, made.added) == (2, 1, 2)
    assert (made.box, made.score) == pytest.approx((1, 0.02))


def test_agreement_of_nothing():
    nothing = ImageFindings("a.png", [], [], [])
    assert agreement([nothing], [nothing]) == Agreement(0, 0, 0, 0.0, 0.0)


@pytest.mark.slow
def test_command(real_weights, spider):
    pytest.importorskip("onnxruntime")
    images = str(spider / "images" / "val")
    done = run(
        [sys.executable, SCRIPT, "--weights", str(real_weights), "--images", images, "--count", "3", "--forms", "onnx",
         "--imgsz", "160", "--rounds", "2", "--json"],
        REPO,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)  # nothing else on standard output
    assert list(made) == ["pytorch", "onnx"]
    same = made["onnx"]["agreement"]
    assert same["both"] > 10 and same["missing"] == same["added"] == 0
    assert same["box"] < 0.5 and same["score"] < 1e-3
    assert made["pytorch"]["agreement"]["box"] == 0
    assert all(m["calls"] == 6 and m["median_ms"] > 0 for m in made.values())
    assert not real_weights.with_suffix(".onnx").exists()  # a copy was exported


@pytest.mark.parametrize(
    ("forms", "word"), [(["papyrus"], "expected some of torchscript, onnx, openvino"), (["onnx"], "onnx needs nowhere")]
)
def test_forms_that_cannot_be_had(tmp_path, monkeypatch, forms, word):
    monkeypatch.setitem(compare_exports.__globals__["NEEDS"], "onnx", "nowhere")
    with pytest.raises(ValueError, match=word):
        compare_exports(tmp_path / "best.pt", forms, [], 96, 1, 1, tmp_path)


def test_command_refuses(tmp_path):
    def refused(weights, images):
        done = run(
            [sys.executable, SCRIPT, "--weights", weights, "--images", images, "--forms", "torchscript"], tmp_path
        )
        assert done.returncode == 2 and "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]

    assert "none is not a folder" in refused("best.pt", "none")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 9, 3), np.uint8))
    assert "best.pt" in refused("best.pt", ".")
