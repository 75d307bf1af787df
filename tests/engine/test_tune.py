"""Hyper-parameter search through the host's tuner, which starts trainings of its own in fresh processes."""

import pytest
from conftest import run
from ultralytics.utils import YAML


@pytest.mark.slow
def test_tune_starts_from_the_recipe(tiny, tmp_path):
    code = (
        "from ultralytics import YOLO\n"
        f"YOLO('yolospine-n.yaml').tune(data={str(tiny)!r}, iterations=1, epochs=1, imgsz=64, batch=4, device='cpu', "
        f"amp=False, workers=0, plots=False, project={str(tmp_path)!r}, name='search')"
    )
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    best = YAML.load(tmp_path / "search" / "best_hyperparameters.yaml")
    assert best["lr0"] == 1e-4 and best["cls_pw"] == 0.25  # the first try is where the search starts
    assert len((tmp_path / "search" / "tune_results.ndjson").read_text().splitlines()) == 1
    assert (tmp_path / "search" / "weights" / "best.pt").is_file()
