"""The picture grid and the benchmark of the loader, as commands."""

import json
import sys

import cv2
import numpy as np
import pytest
from conftest import REPO, run, write_dataset

from yolospine_ultra.data.augment.grid import grid_panels

GRID, BENCHMARK = (str(REPO / "scripts" / name) for name in ("augmentation_grid.py", "benchmark_loader.py"))


def test_panels_show_boxes_where_the_image_is():
    image = np.zeros((200, 160, 3), np.uint8)
    image[60:100, 40:90] = 200
    panels = {
        title: (picture, boxes) for title, picture, boxes in grid_panels(image, np.array([[40, 60, 90, 100.0]]), 3, 0.4)
    }
    assert len(panels) == 12
    for title, (picture, boxes) in panels.items():
        x1, y1, x2, y2 = boxes[0].round().astype(int)
        inside, outside = picture[y1:y2, x1:x2].mean(), picture.mean()
        assert inside > 90 and inside > 1.5 * outside, title
    flipped = panels["horizontal flip, fliplr"][1][0]
    assert flipped == pytest.approx([70, 60, 120, 100])


def test_grid_of_a_users_dataset(tmp_path):
    file = write_dataset(tmp_path / "set", images=4)
    done = run([sys.executable, GRID, "--data", str(file), "--out", "grid.png", "--imgsz", "96"], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "images: 4 + 2 extra = 6 samples an epoch" in done.stdout and "class0" in done.stdout
    assert min(cv2.imread(str(tmp_path / "grid.png")).shape[:2]) > 400


def test_grid_of_an_image_and_bad_input(tmp_path):
    cv2.imwrite(str(tmp_path / "one.png"), np.random.default_rng(0).integers(0, 256, (80, 60), dtype=np.uint8))
    done = run([sys.executable, GRID, "--image", "one.png", "--out", "grid.png"], tmp_path)
    assert done.returncode == 0 and (tmp_path / "grid.png").stat().st_size > 10_000, done.stderr[-2000:]
    done = run([sys.executable, GRID, "--image", "none.png", "--out", "other.png"], tmp_path)
    assert done.returncode == 2 and done.stderr.endswith("none.png does not exist; expected an image or a scan.\n")
    assert not (tmp_path / "other.png").exists()


@pytest.mark.slow
def test_grid_of_the_phantom(tmp_path):
    done = run([sys.executable, GRID, "--out", "grid.png"], tmp_path)
    assert done.returncode == 0 and (tmp_path / "grid.png").is_file(), done.stderr[-2000:]
    assert [row.split()[0] for row in done.stdout.splitlines()[-7:-1]] == ["DDD", "IVDn", "SS", "SP", "LDB", "TDB"]
    assert [f.name for f in tmp_path.iterdir()] == ["grid.png"]


@pytest.mark.slow
def test_benchmark(tmp_path):
    file = write_dataset(tmp_path / "set", images=4)
    words = ["--data", str(file), "--imgsz", "96", "--mosaic", "0", "--rounds", "2", "--mri-augment", "0.5"]
    done = run([sys.executable, BENCHMARK, *words], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert found["settings"]["mri_augment"] == 0.5 and found["loaders"][0]["images"] == 4
    assert found["loaders"][0]["throughput_ratio"] > 0 and {"blur", "noise", "motion", "bias"} <= set(
        found["artefacts_ms"]["96"]
    )
