"""The one place that touches Ultralytics; one contract test a symbol in tests/test_host.py, tested range in setup.cfg.

What is touched, and why:

=================================== ===============================================================================
`nn.tasks.parse_model`              rows of registered modules, see `yolospine_ultra.rows`
`nn.tasks.yaml_model_load`          ``BASE-n.yaml`` means BASE.yaml at scale n; bare names of the plugin's own YAMLs
`nn.tasks._SafeLoad.loading`        registered classes load under ``ULTRALYTICS_SAFE_LOAD=1``
`models.yolo.model.YOLO.__init__`   a model with a registered head becomes that head's facade, as for RT-DETR
`OpenVINOBackend.load_model`        our exported models compute in float32 on a CPU, as they were validated
`utils.DEFAULT_CFG(_DICT)`          `yolospine_ultra.autoload.arguments`, so that `yolo` accepts them
=================================== ===============================================================================
"""

from __future__ import annotations

import functools
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

_MARK = "__yolospine_wrapped__"


def cfg_dir() -> Path:
    """The folder with the plugin's `models` and `datasets` YAMLs: inside an installed wheel, or of the checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "cfg"
    return inside if inside.is_dir() else package.parent / "cfg"


def register() -> None:
    """Teach Ultralytics the plugin's modules, arguments and facades. Idempotent."""
    import ultralytics.models.yolo.model as host_yolo
    from ultralytics.nn import tasks
    from ultralytics.nn.backends.openvino import OpenVINOBackend

    from yolospine_ultra.autoload.arguments import add_to_host

    add_to_host()
    # names are copied by `from ... import`: every module that took the original gets the wrapper
    _wrap(tasks, "parse_model", _parse_model)
    _wrap(tasks, "yaml_model_load", _yaml_model_load)
    _wrap(host_yolo.YOLO, "__init__", _yolo_init)
    _wrap(tasks._SafeLoad, "loading", _safe_loading)
    _wrap(OpenVINOBackend, "load_model", _openvino_load)
    import yolospine_ultra.nn  # noqa: F401  (registers the blocks and heads)


def _wrap(owner: Any, name: str, make: Any) -> None:
    """Replace `owner.name` by ``make(original)``, once, also where another host module imported it by name."""
    original = getattr(owner, name)
    if hasattr(original, _MARK):
        return
    wrapper = make(original)
    setattr(getattr(wrapper, "__func__", wrapper), _MARK, True)
    setattr(owner, name, wrapper)
    if not isinstance(owner, type):
        for module in [m for n, m in sys.modules.items() if n.startswith("ultralytics") and m is not None]:
            if vars(module).get(name) is original:
                setattr(module, name, wrapper)


def _parse_model(original: Any) -> Any:
    from yolospine_ultra.rows import parse_with_own_rows

    @functools.wraps(original)
    def parse_model(d: dict, ch: int, verbose: bool = True) -> tuple:
        return parse_with_own_rows(original, original.__globals__, d, ch, verbose)

    return parse_model


def _yaml_model_load(original: Any) -> Any:
    from ultralytics.utils import YAML

    from yolospine_ultra.rows import find_model_yaml

    @functools.wraps(original)
    def yaml_model_load(path: str | Path) -> dict:
        found = find_model_yaml(path, cfg_dir() / "models")
        if found is None:
            return original(path)
        file, scale = found
        d = YAML.load(file)
        d["scale"] = scale or d.get("default_scale", "")
        # the name the user gave, with its scale letter: it is what the model is called in logs and exports
        d["yaml_file"] = str(path)
        return d

    return yaml_model_load


def _yolo_init(original: Any) -> Any:
    from ultralytics.nn.tasks import yaml_model_load

    from yolospine_ultra.rows import find_model_yaml, head_facade

    @functools.wraps(original)
    def __init__(self: Any, model: Any = "yolo26n.pt", task: str | None = None, verbose: bool = False) -> None:
        facade = None
        if isinstance(model, (str, Path)) and find_model_yaml(str(model).strip(), cfg_dir() / "models"):
            facade = head_facade(yaml_model_load(str(model).strip()))
        if facade and not isinstance(self, _resolve(facade)):
            self.__class__ = _resolve(facade)  # before it is built, so that it is built with the facade's classes
        original(self, model=model, task=task, verbose=verbose)
        facade = facade or _loaded_facade(self)
        if facade and not isinstance(self, _resolve(facade)):
            self.__class__ = _resolve(facade)

    return __init__


def _loaded_facade(yolo: Any) -> str | None:
    """The facade that a loaded checkpoint or an exported file asks for by its head's class."""
    from yolospine_ultra.registry import HEADS

    if isinstance(yolo.model, (str, Path)):
        head = _exported_head(yolo.model)
    else:
        model = getattr(yolo.model, "student_model", yolo.model)  # a checkpoint in mid-distillation
        layers = getattr(model, "model", None)
        head = type(layers[-1]).__name__ if layers is not None else ""
    entry = HEADS.get(head)
    return entry.facade if entry else None


def _exported_head(file: str | Path) -> str:
    """Class name of the head that an exported file's metadata tell, or ""."""
    from ultralytics.nn.backends.base import BaseBackend

    return BaseBackend.read_metadata(file).get("head", "")


def _resolve(dotted: str) -> type:
    """The class a dotted name stands for."""
    module, _, name = dotted.rpartition(".")
    return getattr(import_module(module), name)


def _safe_loading(original: Any) -> Any:
    """Enter the registered classes, and the modules they are made of, in the host's list of safe classes."""
    from ultralytics.nn.tasks import _SafeLoad

    @functools.wraps(original)
    def loading(weight: str | Path) -> Any:
        with _SafeLoad._lock:
            if _SafeLoad._registry is None:
                _SafeLoad._registry = _SafeLoad._build()
            _SafeLoad._registry.update(safe_classes())
        return original(weight)

    return staticmethod(loading)


def _openvino_load(original: Any) -> Any:
    """Compile our models in float32 where the CPU would choose bfloat16, in which a box's corner moves by pixels."""
    from yolospine_ultra.registry import HEADS

    @functools.wraps(original)
    def load_model(self: Any, weight: str | Path) -> None:
        original(self, weight)
        if _exported_head(weight) not in HEADS:
            return
        core = self.compile_model.func.__self__
        core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        if "CPU" in self.ov_compiled_model.get_property("EXECUTION_DEVICES"):
            file = Path(weight) if Path(weight).is_file() else next(Path(weight).glob("*.xml"))
            self.ov_compiled_model = self.compile_model(core.read_model(file))

    return load_model


def safe_classes() -> dict[str, type]:
    """Module classes of the plugin and of registered modules' own files, by dotted name."""
    from torch import nn

    from yolospine_ultra.engine.model import PluginDetectionModel
    from yolospine_ultra.registry import BLOCKS, HEADS

    files = {sys.modules[entry.cls.__module__] for entry in (*BLOCKS.values(), *HEADS.values())}
    found = [v for f in files for v in vars(f).values() if isinstance(v, type) and issubclass(v, nn.Module)]
    return {f"{c.__module__}.{c.__qualname__}": c for c in (*found, PluginDetectionModel)}
