"""Contract of every host symbol the plugin relies on: what breaks first when Ultralytics changes."""

import inspect
import re

import torch
from ultralytics import YOLO
from ultralytics.engine import trainer
from ultralytics.models.yolo.detect import DetectionPredictor, DetectionTrainer, DetectionValidator
from ultralytics.nn import tasks
from ultralytics.nn.backends.base import BaseBackend
from ultralytics.nn.backends.openvino import OpenVINOBackend
from ultralytics.nn.modules import Conv, Detect
from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT
from ultralytics.utils.loss import v8DetectionLoss

from yolospine_ultra.data.dataset import SpineDataset
from yolospine_ultra.data.scan_dataset import ScanDataset
from yolospine_ultra.engine.facade import YOLOspine
from yolospine_ultra.engine.model import PluginDetectionModel
from yolospine_ultra.engine.predictor import SpinePredictor
from yolospine_ultra.engine.results import SpineResults
from yolospine_ultra.engine.trainer import SpineTrainer
from yolospine_ultra.engine.validator import SpineValidator
from yolospine_ultra.nn.dde import DDEDetect
from yolospine_ultra.nn.spine_detect import SpineDetect


def original(f):
    return inspect.unwrap(f)


def test_parse_model_takes_dict_channels_verbose_and_returns_layers_and_save_list():
    f = original(tasks.parse_model)
    assert list(inspect.signature(f).parameters) == ["d", "ch", "verbose"]
    d = {"nc": 2, "backbone": [[-1, 1, "Conv", [8, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}
    layers, save = f(d, 3, False)
    assert isinstance(layers, torch.nn.Sequential) and save == [0]
    assert layers[0].conv.in_channels == 3 and layers[1].cv2[0][0].conv.in_channels == 8
    assert all(hasattr(m, a) for m in layers for a in ("i", "f", "type", "np"))


def test_conv_stand_in_repeats_as_a_sequential():
    d = {"nc": 2, "backbone": [[-1, 3, "Conv", [8, 1, 1]]], "head": [[[0], 1, "Detect", ["nc"]]]}
    layers, _ = original(tasks.parse_model)(d, 3, False)
    assert len(layers[0]) == 3 and isinstance(layers[0][0], Conv)


def test_yaml_model_load_takes_a_path_and_gives_scale_and_file():
    d = original(tasks.yaml_model_load)("yolov8n.yaml")
    assert d["scale"] == "n" and d["yaml_file"] == "yolov8n.yaml"


def test_yolo_init_and_task_map():
    assert list(inspect.signature(original(YOLO.__init__)).parameters) == ["self", "model", "task", "verbose"]
    assert set(YOLO("yolov8n.yaml").task_map["detect"]) == {"model", "trainer", "validator", "predictor"}


def test_metadata_reader_exists():
    assert BaseBackend.read_metadata("no-such-file.onnx") == {}


def test_openvino_compiles_by_a_partial_of_its_core():
    f = original(OpenVINOBackend.load_model)
    assert list(inspect.signature(f).parameters) == ["self", "weight"]
    source = inspect.getsource(f)
    assert "self.compile_model = partial(core.compile_model," in source
    assert "self.ov_compiled_model = self.compile_model(ov_model)" in source


def test_safe_load_registry():
    assert tasks._SafeLoad.SUPPORTED
    assert isinstance(tasks._SafeLoad._build(), dict) and hasattr(tasks._SafeLoad, "_lock")
    assert list(inspect.signature(original(tasks._SafeLoad.loading)).parameters) == ["cls", "weight"]


def test_defaults_are_shared_mutable_objects():
    assert trainer.DEFAULT_CFG is DEFAULT_CFG
    assert DEFAULT_CFG_DICT["suppression"] == DEFAULT_CFG.suppression == "gaussian"


def test_detect_constructor_and_attributes():
    assert list(inspect.signature(Detect.__init__).parameters) == ["self", "nc", "reg_max", "end2end", "ch"]
    head = Detect(3, ch=(16, 32))
    assert all(hasattr(head, a) for a in ("cv2", "cv3", "dfl", "stride", "export", "xyxy", "dynamic", "max_det"))


def test_hooks_that_are_overridden_exist():
    """What we call by `super()` as well, in every class that extends one of the host's."""
    extended = (
        SpineTrainer, SpineValidator, SpinePredictor, SpineResults, PluginDetectionModel, YOLOspine,
        SpineDataset, ScanDataset, DDEDetect, SpineDetect,
    )  # fmt: skip
    for cls in extended:
        hosts = [c for c in cls.__mro__ if c.__module__.startswith("ultralytics")]
        called = set(re.findall(r"super\(\)\.(\w+)", inspect.getsource(cls)))
        assert not [name for name in called if not any(hasattr(c, name) for c in hosts)], cls
    for cls, names in (
        (DetectionTrainer, "get_dataset get_model build_dataset get_validator build_optimizer final_eval save_model"),
        (DetectionValidator, "postprocess"),
        (DetectionPredictor, "pre_transform postprocess get_obj_feats construct_results"),
        (Detect, "_get_decode_boxes decode_bboxes bias_init"),
    ):
        assert all(callable(getattr(cls, n)) for n in names.split())


def test_when_the_trainer_calls_what_we_override():
    setup = inspect.getsource(trainer.BaseTrainer._setup_train)
    # labels are read, then the relations of the classes go into the model, then the moving average copies it
    steps = ("self.auto_batch()", "self._build_train_pipeline()", "self.set_class_weights()", "ModelEMA(self.model)")
    places = [setup.index(s) for s in steps]
    assert places == sorted(places)
    source = inspect.getsource(trainer.BaseTrainer.save_model)
    assert "self.last.write_bytes" in source and "self.best.write_bytes" in source  # what makes AtomicPath work


def test_criterion_base_has_what_the_losses_use():
    assert all(hasattr(v8DetectionLoss, n) for n in ("preprocess", "bbox_decode", "parse_output"))
    assert "loss_items" not in inspect.signature(v8DetectionLoss.__call__).parameters
