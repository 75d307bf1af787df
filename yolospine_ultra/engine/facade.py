"""The `YOLO` subclass that a model with one of our heads becomes."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from ultralytics.models.yolo.model import YOLO
from ultralytics.utils import AUTOINSTALL

from yolospine_ultra.engine.arguments import with_recipe
from yolospine_ultra.engine.model import PluginDetectionModel
from yolospine_ultra.engine.predictor import SpinePredictor
from yolospine_ultra.engine.trainer import SpineTrainer
from yolospine_ultra.engine.validator import SpineValidator

EXPORT_PACKAGES = {"onnx": ("onnx", "onnxslim"), "openvino": ("openvino",)}  # the extra `export`


class YOLOspine(YOLO):
    """`ultralytics.YOLO` with the plugin's model, trainer, validator and predictor, and the recipe's defaults."""

    @property
    def task_map(self) -> dict[str, dict[str, Any]]:
        """The classes of the one task these models have."""
        return {
            "detect": {
                "model": PluginDetectionModel,
                "trainer": SpineTrainer,
                "validator": SpineValidator,
                "predictor": SpinePredictor,
            }
        }

    def train(self, trainer: type | None = None, **kwargs: Any) -> Any:
        """As the host's, with the recipe's defaults under the given arguments.

        A resumed training keeps the arguments it was started with.

        Raises:
            ValueError: `calibrate=True`: temperatures are fitted to weights that are there.
        """
        if kwargs.get("calibrate"):
            raise ValueError("calibrate=True is for predict and val; train first, then run scripts/calibrate.py.")
        given = kwargs if self._resumes(kwargs.get("resume")) else with_recipe(kwargs, self.overrides)
        return super().train(trainer=trainer, **given)

    def _resumes(self, resume: Any) -> bool:
        """Whether the host will resume: from a named file, or from this model's checkpoint if that can be."""
        started = self.ckpt and self.ckpt.get("epoch", -1) >= 0 and self.ckpt.get("optimizer") is not None
        return bool(started if resume is True else resume)

    def export(self, **kwargs: Any) -> str:
        """As the host's: both stages are in the graph, Soft-NMS is done by the predictor that the file is routed to.

        Raises:
            ValueError: `nms=True`, which would put the host's hard NMS into the graph.
            ImportError: a package that the format needs is missing and the host may not install it.
        """
        if kwargs.get("nms"):
            raise ValueError(
                "nms=True embeds Ultralytics' hard NMS, and prediction would no longer be what validation measured; "
                "export without it: YOLO(file).predict() applies Soft-NMS to the exported model too."
            )
        form = str(kwargs.get("format", "torchscript")).lower()
        missing = [name for name in EXPORT_PACKAGES.get(form, ()) if find_spec(name) is None]
        if missing and not AUTOINSTALL:
            raise ImportError(f"Export to {form} needs {' and '.join(missing)}: pip install 'yolospine_ultra[export]'")
        return super().export(**kwargs)

    def tune(self, use_ray: bool = False, iterations: int = 300, *args: Any, **kwargs: Any) -> Any:
        """As the host's, with the recipe's defaults under the given arguments."""
        return super().tune(use_ray, iterations, *args, **with_recipe(kwargs, self.overrides))
