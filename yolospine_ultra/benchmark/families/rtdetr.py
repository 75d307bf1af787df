"""RT-DETR-L and -X of Ultralytics, a transformer that needs a recipe of its own.

Source of the recipe: Zhao et al. 2024, "DETRs Beat YOLOs on Real-time Object Detection", AdamW at 1e-4 with a weight
decay of 1e-4. Mixed precision is off, as the host's documentation warns of NaN in its bipartite matching.
"""

from __future__ import annotations

from typing import Any

from yolospine_ultra.benchmark.families.ultralytics_family import UltralyticsFamily
from yolospine_ultra.benchmark.family import ModelEntry


class RTDETRFamily(UltralyticsFamily):
    """Models of the facade `RTDETR`, which `YOLO` does not build from model files."""

    def facade(self, source: str) -> Any:
        """The host's object for a model file or weights."""
        from ultralytics import RTDETR

        return RTDETR(source)


FAMILY = RTDETRFamily()

_RECIPE = {"lr0": 1e-4, "weight_decay": 1e-4, "amp": False}
ROWS = tuple(
    ModelEntry(
        f"rtdetr-{s}", "rtdetr", {"yaml": f"rtdetr-{s}.yaml"}, scale=s, recipe=_RECIPE, paper=f"RT-DETR-{s.upper()}"
    )
    for s in "lx"
)
