"""The `YOLO` subclass that a model with one of our heads becomes."""

from __future__ import annotations

from typing import Any

from ultralytics.models.yolo.model import YOLO

from yolospine_ultra.engine.arguments import with_recipe
from yolospine_ultra.engine.model import PluginDetectionModel
from yolospine_ultra.engine.predictor import SpinePredictor
from yolospine_ultra.engine.trainer import SpineTrainer
from yolospine_ultra.engine.validator import SpineValidator


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
        """As the host's, with the recipe's defaults under the given arguments."""
        return super().train(trainer=trainer, **with_recipe(kwargs, self.overrides))

    def tune(self, use_ray: bool = False, iterations: int = 300, *args: Any, **kwargs: Any) -> Any:
        """As the host's, with the recipe's defaults under the given arguments."""
        return super().tune(use_ray, iterations, *args, **with_recipe(kwargs, self.overrides))
