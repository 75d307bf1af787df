"""The model of a YAML with a registered head: the host's, with the head's own loss."""

from __future__ import annotations

from typing import Any

from torch import nn
from ultralytics.nn.tasks import DetectionModel

# The host's 0.03 needs 150 steps to forget the initial variance of one, which is 400 times that of dark MR images: some
# twenty epochs of a small set, during which validation sees nothing. torch's own default needs 50.
BATCH_NORM_MOMENTUM = 0.1


class PluginDetectionModel(DetectionModel):
    """The host's detection model; a head with ``build_criterion(model)`` brings its own loss."""

    def __init__(self, cfg: str | dict = "yolospine.yaml", ch: int = 3, nc: int | None = None, verbose: bool = True) -> None:
        super().__init__(cfg, ch, nc, verbose)
        for m in self.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = BATCH_NORM_MOMENTUM

    def init_criterion(self) -> Any:
        """The head's criterion, or the host's."""
        build = getattr(self.model[-1], "build_criterion", None)
        return build(self) if build else super().init_criterion()
