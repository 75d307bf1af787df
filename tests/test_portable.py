"""The portable form: a round trip without pickle, and what is refused."""

import builtins
import sys

import pytest
import torch
import yaml
from conftest import REPO, run, script_here
from ultralytics import RTDETR, YOLO

from yolospine_ultra.engine.calibration import store_temperatures, wanted_temperatures
from yolospine_ultra.portable import DESCRIPTION, WEIGHTS, read_portable, write_portable


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    model = YOLO("yolospine-n.yaml")
    model.model.names = dict(enumerate("abcdef"))
    path = tmp_path_factory.mktemp("portable") / "model.pt"
    model.save(path)
    return path


def test_round_trip(checkpoint, tmp_path):
    folder = write_portable(checkpoint, tmp_path / "portable")
    again = YOLO(read_portable(folder, tmp_path / "again.pt"))
    original = YOLO(checkpoint)
    assert type(again).__name__ == "YOLOspine" and again.names == original.names
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(again.model.eval()(x)[0], original.model.eval()(x)[0])


def test_no_place_on_the_machine_that_trained_it_goes_along(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=False)
    places = {
        "data": "/home/jane/spine/set.yaml",
        "project": "/home/jane/runs",
        "name": "jane",
        "data_root": "/home/jane/spine",
    }
    content["train_args"] = {"epochs": 3, "tracker": "bytetrack.yaml", **places, "model": "C:\\jane\\mine.yaml"}
    content["model"].yaml["yaml_file"] = "/home/jane/yolospine-n.yaml"
    torch.save(content, tmp_path / "hers.pt")
    text = (write_portable(tmp_path / "hers.pt", tmp_path / "p") / DESCRIPTION).read_text()
    assert "jane" not in text
    made = yaml.safe_load(text)
    assert made["train_args"] == {"epochs": 3, "tracker": "bytetrack.yaml", "data": "set.yaml", "model": "mine.yaml"}
    assert made["architecture"]["yaml_file"] == "yolospine-n.yaml"


def test_temperatures_go_along(checkpoint, tmp_path):
    weights = tmp_path / "calibrated.pt"
    weights.write_bytes(checkpoint.read_bytes())
    store_temperatures(weights, list("abcdef"), [1, 1.5, 2, 0.5, 1, 3])
    folder = write_portable(weights, tmp_path / "portable")
    again = YOLO(read_portable(folder, tmp_path / "again.pt"))
    assert wanted_temperatures(True, again.model) == [1, 1.5, 2, 0.5, 1, 3]


def test_temperatures_of_other_classes_are_refused(checkpoint, tmp_path):
    folder = write_portable(checkpoint, tmp_path / "portable")
    text = yaml.safe_load((folder / DESCRIPTION).read_text())
    text["calibration"] = {"names": ["other"], "temperatures": [2.0]}
    (folder / DESCRIPTION).write_text(yaml.safe_dump(text))
    with pytest.raises(ValueError, match="the temperatures are of other, but the model has a, b, c, d, e, f"):
        read_portable(folder, tmp_path / "again.pt")
    assert not (tmp_path / "again.pt").exists()


def test_nothing_that_exists_is_overwritten(checkpoint, tmp_path):
    folder = write_portable(checkpoint, tmp_path / "portable")
    (folder / "README.md").write_text("mine")
    (tmp_path / "best.pt").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"best\.pt exists; expected a name that is free"):
        read_portable(folder, tmp_path / "best.pt")
    before = {f: f.read_bytes() for f in folder.iterdir()}
    with pytest.raises(FileExistsError, match=r"portable has a model\.safetensors; expected a folder without one"):
        write_portable(checkpoint, folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileExistsError, match=r"portable has a model\.yaml"):
        write_portable(checkpoint, folder)
    (folder / DESCRIPTION).unlink()
    write_portable(checkpoint, folder)  # beside other files
    assert {f: f.read_bytes() for f in folder.iterdir()} == before
    assert (tmp_path / "best.pt").read_bytes() == b"mine"


def test_reading_imports_no_pickled_class(checkpoint, tmp_path):
    folder = write_portable(checkpoint, tmp_path / "p")
    assert b"yolospine_ultra" not in (folder / WEIGHTS).read_bytes()
    assert "!!python" not in (folder / DESCRIPTION).read_text()
    read_portable(folder, tmp_path / "safe.pt")
    code = f"from ultralytics import YOLO; print(YOLO({str(tmp_path / 'safe.pt')!r}).names[0])"
    assert run(code, tmp_path, ULTRALYTICS_SAFE_LOAD="1").stdout.strip().endswith("a")


def test_what_does_not_fit_is_refused(checkpoint, tmp_path):
    folder = write_portable(checkpoint, tmp_path / "p")
    text = yaml.safe_load((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(yaml.safe_dump(text | {"names": {0: "one"}}))
    with pytest.raises(ValueError, match=r"weights and architecture differ in \d+ tensors, such as model\.18\."):
        read_portable(folder, tmp_path / "x.pt")
    (folder / DESCRIPTION).write_text(yaml.safe_dump(text | {"format": 9}))
    with pytest.raises(ValueError, match="has format 9; this version reads 1"):
        read_portable(folder, tmp_path / "x.pt")
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
        read_portable(folder, tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()


@pytest.mark.parametrize("yaml", ["yolov8n-seg.yaml", "rtdetr-l.yaml"])
def test_other_kinds_of_models_are_refused(yaml, tmp_path):
    (YOLO if "yolo" in yaml else RTDETR)(yaml).save(tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt is a (Segmentation|RTDETRDetection)Model; .* DetectionModel"):
        write_portable(tmp_path / "other.pt", tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_the_command_refuses_bad_input_in_a_sentence(checkpoint, tmp_path, monkeypatch, capsys):
    folder = write_portable(checkpoint, tmp_path / "p")
    (tmp_path / "bad.pt").write_bytes(b"no checkpoint")
    monkeypatch.chdir(tmp_path)

    def said(*words):
        assert script_here(monkeypatch, "portable", *words) == 2
        return capsys.readouterr().err

    done = run([sys.executable, str(REPO / "scripts" / "portable.py"), "write", "bad.pt", "out"], tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "cannot be loaded as a checkpoint" in done.stderr
    assert "none.pt is not there" in said("write", tmp_path / "none.pt", "out")
    for text, message in (("", "has format None"), ("format: 1", "has no architecture, names"), ("{", "is no YAML")):
        (folder / DESCRIPTION).write_text(text)
        assert message in said("read", folder, "again.pt")
    assert not (tmp_path / "again.pt").exists()


def test_missing_extra_is_named(checkpoint, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("safetensors"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'yolospine_ultra\[portable\]'"):
        write_portable(checkpoint, tmp_path)
