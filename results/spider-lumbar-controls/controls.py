"""A stock model with what the trainer and the network of ours have besides the architecture.

Rows for `--models`: YOLOv8n with class weights (`cls_pw` .25) and batch norms of momentum .1, read as the host's
`predict` does, with several labels a box, and told what the dataset declares of its classes.
"""

from typing import Any

from torch import nn

from yolospine_ultra.benchmark.families.ultralytics_family import UltralyticsFamily
from yolospine_ultra.benchmark.family import ModelEntry
from yolospine_ultra.engine.model import BATCH_NORM_MOMENTUM


class OurNorms(UltralyticsFamily):
    """Models of the host whose batch norms have the momentum of ours."""

    def facade(self, source: str) -> Any:
        """The host's object, which sets the momentum when its training begins."""
        model = super().facade(source)
        model.add_callback("on_train_start", _set_momentum)
        return model


def _set_momentum(trainer: Any) -> None:
    """In every batch norm that is trained."""
    for m in trainer.model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = BATCH_NORM_MOMENTUM


FAMILY = OurNorms()
_ROW: dict[str, Any] = {
    "family": "controls:FAMILY",
    "build": {"yaml": "yolov8n.yaml"},
    "scale": "n",
    "recipe": {"cls_pw": 0.25},
    "note": "with the class weights and the momentum of batch norms that yolospine has",
}
PLAIN = ModelEntry("yolov8n-control", **_ROW)
MULTILABEL = ModelEntry("yolov8n-control-multilabel", **_ROW, predict={"multi_label": True})
TOLD = ModelEntry("yolov8n-control-told", **_ROW, predict={"multi_label": True, "told": True})
