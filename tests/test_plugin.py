"""The plugin from outside: how it wakes up, what it costs, what it leaves alone. Each case is a fresh process."""

import json

import pytest
from conftest import MODELS, REPO, run

BUILD = "from ultralytics import YOLO; print(type(YOLO({!r})).__name__)"
YAML = str(MODELS / "yolospine-n.yaml")


def test_stock_import_finds_the_model(tmp_path):
    assert run(BUILD.format(YAML), tmp_path).stdout.strip().endswith("YOLOspine")


def test_bare_name_is_found_from_anywhere(tmp_path):
    assert run(BUILD.format("yolospine-noa2-s.yaml"), tmp_path).stdout.strip().endswith("YOLOspine")


def test_switched_off_by_environment(tmp_path):
    done = run(BUILD.format(YAML), tmp_path, YOLOSPINE_AUTOLOAD="0")
    assert done.returncode != 0 and "YOLOspine" not in done.stdout


def test_explicit_import_registers_where_autoload_is_off(tmp_path):
    done = run("import yolospine_ultra; " + BUILD.format(YAML), tmp_path, YOLOSPINE_AUTOLOAD="0")
    assert done.stdout.strip().endswith("YOLOspine"), done.stderr


def test_import_order_does_not_matter(tmp_path):
    done = run("import ultralytics, torch, yolospine_ultra; " + BUILD.format(YAML), tmp_path)
    assert done.stdout.strip().endswith("YOLOspine"), done.stderr


def test_it_wakes_up_beside_finders_of_others(tmp_path):
    """The environments of virtualenv and uv bring a finder of their own, a class called `_Finder`, too."""
    other = "import sys; sys.meta_path.insert(0, type('_Finder', (), {'find_spec': lambda *a: None})()); "
    done = run(other + BUILD.format(YAML), tmp_path)
    assert done.stdout.strip().endswith("YOLOspine"), done.stderr


def test_torch_alone_imports_nothing_of_ours_or_the_host(tmp_path):
    code = "import torch, sys; print([m for m in sys.modules if m.split('.')[0] in {'ultralytics', 'yolospine_ultra'}])"
    assert run(code, tmp_path).stdout.strip() == "[]"


def test_wake_up_costs_little_beside_the_interpreters_start(tmp_path):
    code = (
        "import time; t = time.process_time(); import _yolospine_autoload as a; a.install(); "
        "print((time.process_time() - t) / t)"  # processor time, so that the machine's speed has no part in it
    )
    assert min(float(run(code, tmp_path).stdout) for _ in range(3)) < 1 / 3


def test_broken_package_breaks_neither_torch_nor_the_host(tmp_path):
    (tmp_path / "yolospine_ultra").mkdir()
    (tmp_path / "yolospine_ultra" / "__init__.py").write_text("raise OSError('disk on fire')")
    code = "import torch; from ultralytics import YOLO; print(type(YOLO('yolov8n.yaml')).__name__)"
    done = run(code, tmp_path, PYTHONPATH=str(tmp_path))
    assert done.stdout.strip().endswith("YOLO"), done.stderr
    assert "disk on fire" in done.stderr and "YOLOSPINE_AUTOLOAD=0" in done.stderr


def test_registering_twice_changes_nothing():
    from ultralytics import YOLO
    from ultralytics.nn import tasks

    import yolospine_ultra

    before = tasks.parse_model, tasks.yaml_model_load, YOLO.__init__, tasks._SafeLoad.loading
    yolospine_ultra.register()
    assert before == (tasks.parse_model, tasks.yaml_model_load, YOLO.__init__, tasks._SafeLoad.loading)


COUNT = """
import glob, json, os, torch
from copy import deepcopy
import ultralytics
from ultralytics.nn import tasks
import ultralytics.models
found = {}
root = os.path.join(os.path.dirname(ultralytics.__file__), "cfg", "models")
for f in sorted(glob.glob(root + "/**/*.yaml", recursive=True)):
    d = tasks.yaml_model_load(f)
    if "backbone" not in d:
        continue
    try:
        with torch.device("meta"):
            layers, save = tasks.parse_model(deepcopy(d), d.get("channels", 3), verbose=False)
    except OSError as e:  # some build on downloaded weights
        found[os.path.basename(f)] = type(e).__name__
        continue
    found[os.path.basename(f)] = [sum(p.numel() for p in layers.parameters()), [m.type for m in layers], save]
print(json.dumps(found))
"""


def test_every_stock_yaml_builds_as_without_the_plugin(tmp_path):
    without, with_plugin = (run(COUNT, tmp_path, YOLOSPINE_AUTOLOAD=v) for v in ("0", "1"))
    without, with_plugin = (json.loads(x.stdout.splitlines()[-1]) for x in (without, with_plugin))
    assert sum(isinstance(v, list) for v in without.values()) > 50
    assert without == with_plugin


def test_version_is_the_packages():
    from importlib.metadata import version

    import yolospine_ultra

    assert version("yolospine_ultra") == yolospine_ultra.__version__


@pytest.mark.slow
def test_wheel_contains_what_it_needs(tmp_path):
    import sys
    import zipfile

    done = run([sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), str(REPO)], tmp_path)
    assert done.returncode == 0, done.stderr
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    for expected in (
        "_yolospine_autoload/__init__.py",
        "yolospine_ultra/plugin.py",
        "yolospine_ultra/cfg/models/yolospine.yaml",
        "yolospine_ultra/cfg/datasets/spine-phantom.yaml",
    ):
        assert expected in names
