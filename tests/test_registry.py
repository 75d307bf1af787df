"""Registering blocks and heads of one's own, and what happens when a YAML is wrong."""

import pytest
import torch
import yaml
from torch import nn
from ultralytics import YOLO
from ultralytics.nn.modules import Detect
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG
from ultralytics.utils.loss import v8DetectionLoss

from yolospine_ultra import registry
from yolospine_ultra.engine.model import PluginDetectionModel
from yolospine_ultra.registry import register_block, register_head
from yolospine_ultra.rows import ModelConfigError, find_model_yaml


@pytest.fixture(autouse=True)
def clean_tables():
    blocks, heads = dict(registry.BLOCKS), dict(registry.HEADS)
    yield
    registry.BLOCKS.clear(), registry.BLOCKS.update(blocks)
    registry.HEADS.clear(), registry.HEADS.update(heads)


class Gate(nn.Module):
    def __init__(self, c1, c2, power=1):
        super().__init__()
        self.conv, self.gate, self.power = nn.Conv2d(c1, c2, 1), nn.Conv2d(c1, c2, 1), power

    def forward(self, x):
        return self.conv(x) * torch.sigmoid(self.gate(x)) ** self.power


def config(row, head=("Detect", ["nc"])):
    return {
        "nc": 3,
        "scales": {"n": [0.5, 0.5, 64], "s": [1.0, 1.0, 64]},
        "scale": "n",
        "backbone": [[-1, 1, "Conv", [16, 3, 2]], row, [-1, 1, "C2f", [32, True]]],
        "head": [[[1, 2], 1, *head]],
    }


def test_own_block_beside_stock_rows_scales_as_they_do():
    register_block()(Gate)
    model = DetectionModel(config([-1, 1, "Gate", [128, 2]]), nc=3, verbose=False)
    gate = model.model[1]
    assert type(gate) is Gate and gate.power == 2
    assert gate.conv.in_channels == 8 and gate.conv.out_channels == 32  # min(128, 64) * 0.5
    assert model.model[2].cv1.conv.in_channels == 32 and (gate.i, gate.f) == (1, -1)


def test_repeats_are_an_argument_or_copies():
    class Deep(Gate):
        def __init__(self, c1, c2, n):
            super().__init__(c1, c2, power=n)

    register_block()(Gate)
    register_block(repeats=True)(Deep)
    copies = DetectionModel(config([-1, 4, "Gate", [32]]), nc=3, verbose=False).model[1]
    deep = DetectionModel(config([-1, 4, "Deep", [32]]), nc=3, verbose=False).model[1]
    assert [m.conv.in_channels for m in copies] == [8, 16]  # depth 0.5 of four, channels chained
    assert type(deep) is Deep and deep.power == 2


def test_own_head_without_a_loss_trains_with_the_hosts():
    @register_head()
    class MyDetect(Detect):
        def __init__(self, nc, ch=()):
            super().__init__(nc, ch=ch)

    model = PluginDetectionModel(config([-1, 1, "Conv", [32, 3, 2]], ("MyDetect", ["nc"])), nc=3, verbose=False)
    assert type(model.model[-1]) is MyDetect and model.stride.tolist() == [4, 4]
    model.args = DEFAULT_CFG
    assert type(model.init_criterion()) is v8DetectionLoss


def test_head_name_must_tell_the_task():
    with pytest.raises(ValueError, match="must contain 'Detect'"):
        register_head()(type("Oracle", (Detect,), {}))


def test_name_of_another_class_is_refused_and_the_same_class_is_not():
    register_block()(Gate)
    register_block()(Gate)
    with pytest.raises(ValueError, match=r"'Gate' is registered already, by test_registry\.Gate"):
        register_block()(type("Gate", (nn.Module,), {"__module__": "elsewhere"}))


def test_unknown_block_is_named_with_near_spellings():
    with pytest.raises(ModelConfigError, match=r"Row 1 .* unknown module 'RELANN'.* Did you mean RELAN"):
        DetectionModel(config([-1, 1, "RELANN", [32]]), verbose=False)


def test_channels_that_do_not_fit_are_named():
    class Picky(Gate):
        def __init__(self, c1, c2):
            if c1 != c2:
                raise ValueError(f"needs c1 == c2, got {c1} and {c2}")
            super().__init__(c1, c2)

    register_block()(Picky)
    with pytest.raises(ModelConfigError, match=r"Row 1 .*channels \(8, 16\).*needs c1 == c2"):
        DetectionModel(config([-1, 1, "Picky", [32]]), verbose=False)


def test_block_without_channels_is_named():
    with pytest.raises(ModelConfigError, match=r"Row 1, 'RELAN': the first argument"):
        DetectionModel(config([-1, 1, "RELAN", []]), verbose=False)


@pytest.mark.parametrize("scale", "nsmlx")
def test_scales_by_file_name_without_a_warning(scale, capfd):
    from conftest import MODELS

    from yolospine_ultra.plugin import cfg_dir

    assert find_model_yaml(MODELS / f"yolospine-{scale}.yaml", cfg_dir() / "models")[1] == scale
    with torch.device("meta"):
        from ultralytics.nn import tasks

        d = tasks.yaml_model_load(MODELS / f"yolospine-{scale}.yaml")
        layers, _ = tasks.parse_model(d, 3, verbose=False)
    out = "".join(capfd.readouterr())
    assert "WARNING" not in out
    width = {"n": 16, "s": 32, "m": 48, "l": 64, "x": 80}[scale]
    assert layers[0].conv.out_channels == width


def test_name_without_a_letter_is_scale_m():
    from conftest import MODELS

    model = YOLO(MODELS / "yolospine.yaml")
    assert model.model.yaml["scale"] == "m" and model.model.model[0].conv.out_channels == 48


def test_a_file_of_ones_own_has_the_scale_of_its_name_as_stock_files_have(tmp_path, caplog):
    register_block()(Gate)
    for name, row in (("stock", [-1, 1, "Conv", [32, 3, 2]]), ("gate", [-1, 1, "Gate", [32]])):
        content = {k: v for k, v in config(row).items() if k != "scale"}
        for file in (f"yolo11s-{name}.yaml", f"{name}.yaml"):
            (tmp_path / file).write_text(yaml.safe_dump(content))
        assert YOLO(tmp_path / f"yolo11s-{name}.yaml").model.model[0].conv.out_channels == 16
        assert "no model scale passed" not in caplog.text
        assert YOLO(tmp_path / f"{name}.yaml").model.model[0].conv.out_channels == 8
        assert "no model scale passed. Assuming scale='n'" in caplog.text
        caplog.clear()


def test_bins_of_a_model_reach_its_head():
    d = config([-1, 1, "Conv", [32, 3, 2]], head=("SpineDetect", ["nc"]))
    for reg_max in (None, 8):
        d["reg_max"] = reg_max or 16
        assert PluginDetectionModel(d, verbose=False).model[-1].reg_max == d["reg_max"]
    d["head"][0][3] = ["nc", 75, 64, 128, 0.5, True, True, True, 4]  # the row's own
    assert PluginDetectionModel(d, verbose=False).model[-1].reg_max == 4


def test_stock_names_are_not_answered_for(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config([-1, 1, "Conv", [32, 3, 2]])))
    assert find_model_yaml(tmp_path / "mine-n.yaml", tmp_path) is None
    assert find_model_yaml("yolov8n.yaml", tmp_path) is None
    assert find_model_yaml(tmp_path / "best.pt", tmp_path) is None
