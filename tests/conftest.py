"""Shared fixtures: an offline host with folders of its own, a tiny dataset, and the real one where it is there."""

import atexit
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# before Ultralytics is imported: nothing is downloaded, and the user's settings stay as they are
_CONFIG = Path(tempfile.mkdtemp(prefix="yolospine-tests-"))
atexit.register(shutil.rmtree, _CONFIG, ignore_errors=True)
os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="0", YOLO_CONFIG_DIR=str(_CONFIG))
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores: before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import matplotlib
import numpy as np
import pytest

SMALL = {"imgsz": 64, "batch": 4, "device": "cpu", "amp": False, "workers": 0, "plots": False}  # a training of seconds
REPO = Path(__file__).resolve().parents[1]
SPIDER = REPO.parent / "shared" / "data" / "spider-lumbar"
MODELS = REPO / "cfg" / "models"

(_CONFIG / "Ultralytics").mkdir(exist_ok=True)
_FONT = _CONFIG / "Ultralytics" / "Arial.ttf"  # the host would download it
if not _FONT.exists():
    _FONT.symlink_to(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def pytest_configure(config):
    """Exports trace static shapes on purpose. In pyproject.toml the name would import torch before the lines above."""
    config.addinivalue_line("filterwarnings", "ignore::torch.jit.TracerWarning")


def run(code_or_args, cwd, **env):
    """Run Python code, or a command as a list, in a fresh process; returns the completed process."""
    args = [sys.executable, "-c", code_or_args] if isinstance(code_or_args, str) else code_or_args
    return subprocess.run(args, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=900)


def script_here(monkeypatch, name, *args):
    """A script's exit status, without the seconds that a new process takes."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
    return runpy.run_path(str(REPO / "scripts" / f"{name}.py"))["main"]()


def command(name):
    """Path of a console script beside the interpreter that runs the tests."""
    return str(Path(sys.executable).with_name(name))


def write_dataset(root, images=6, classes=3, size=96, per_image=3, seed=0, channels=3):
    """Bright rectangles on noise in YOLO layout; some carry two labels. Returns the dataset YAML."""
    rng = np.random.default_rng(seed)
    for split, n in (("train", images), ("val", max(images // 2, 2))):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            image = rng.integers(0, 60, (size, size), dtype=np.uint8)
            rows = []
            for k in range(per_image):
                w, h = rng.uniform(0.2, 0.4), rng.uniform(0.1, 0.2)
                x, y = rng.uniform(w / 2, 1 - w / 2), (k + 0.5) / per_image
                x1, y1, x2, y2 = ((np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])).clip(0, 1) * size).astype(
                    int
                )
                c = int(rng.integers(classes))
                image[y1:y2, x1:x2] = 100 + 30 * c
                labels = {c, (c + 1) % classes} if rng.random() < 0.3 else {c}
                rows += [f"{c} {x:.5f} {y:.5f} {w:.5f} {h:.5f}" for c in sorted(labels)]
            cv2.imwrite(str(root / "images" / split / f"{i}.png"), image)
            (root / "labels" / split / f"{i}.txt").write_text("\n".join(rows) + "\n")
    file = root / "data.yaml"
    names = "".join(f"  {i}: class{i}\n" for i in range(classes))
    file.write_text(f"path: {root}\ntrain: images/train\nval: images/val\nchannels: {channels}\nnames:\n{names}")
    return file


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """YAML of a dataset of a few small images with three classes."""
    return write_dataset(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def spider():
    """Folder of the real lumbar MRI set; tests that need it are skipped where it is not there."""
    if not SPIDER.is_dir():
        pytest.skip(f"needs the real images, expected at {SPIDER}")
    return SPIDER


@pytest.fixture(scope="session")
def real_weights(spider, tmp_path_factory):
    """Checkpoint of a short training on the real images, with a copy of them beside it (the host writes caches).

    Made once a run: with several workers the first one to come makes it, in the folder above theirs.
    """
    from filelock import FileLock

    base = tmp_path_factory.getbasetemp()
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "real"
    with FileLock(f"{out}.lock"):
        return next(out.glob("*/weights/last.pt"), None) or _train_real(spider, out)


def _train_real(spider, out):
    from ultralytics import YOLO

    shutil.copytree(spider, out / "set")
    model = YOLO("yolospine-n.yaml")
    model.train(
        data="spider-lumbar.yaml", data_root=str(out / "set"), epochs=8, imgsz=160, batch=8, device="cpu", amp=False,
        plots=False, project=str(out), lr0=2e-3, mosaic=0.0, val=False, warmup_epochs=1,
    )  # fmt: skip
    return model.trainer.last


@pytest.fixture
def truth_batch():
    """A function that makes a batch of the host's layout from lists of (class, x, y, w, h) rows, one list an image."""
    import torch

    def make(images, size=64, channels=3):
        rows = [(i, *row) for i, image in enumerate(images) for row in image]
        table = torch.tensor(rows).float().view(-1, 6)
        torch.manual_seed(0)
        return {
            "img": torch.rand(len(images), channels, size, size),
            "batch_idx": table[:, 0],
            "cls": table[:, 1:2],
            "bboxes": table[:, 2:],
        }

    return make
