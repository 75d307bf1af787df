"""The model of a YAML with a registered head: the host's, with the head's own loss."""

from __future__ import annotations

from typing import Any

from ultralytics.nn.tasks import DetectionModel


class PluginDetectionModel(DetectionModel):
    """The host's detection model; a head with ``build_criterion(model)`` brings its own loss."""

    def init_criterion(self) -> Any:
        """The head's criterion, or the host's."""
        build = getattr(self.model[-1], "build_criterion", None)
        return build(self) if build else super().init_criterion()
