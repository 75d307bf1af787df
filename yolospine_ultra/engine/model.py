"""The model of a YAML with a registered head: the host's, with the head's own loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import model_info

from yolospine_ultra.engine.cost import model_cost
from yolospine_ultra.nn.mldr import MLDR

# The host's 0.03 needs 150 steps to forget the initial variance of one, which is 400 times that of dark MR images: some
# twenty epochs of a small set, during which validation sees nothing. torch's own default needs 50.
BATCH_NORM_MOMENTUM = 0.1


class PluginDetectionModel(DetectionModel):
    """The host's detection model; a head with ``build_criterion(model)`` brings its own loss.

    Attributes:
        calibration: names and temperatures of the classes, None without; see `engine.calibration`.
    """

    calibration: dict[str, list] | None = None

    def __init__(
        self, cfg: str | dict = "yolospine.yaml", ch: int = 3, nc: int | None = None, verbose: bool = True
    ) -> None:
        super().__init__(cfg, ch, nc, verbose)
        for m in self.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = BATCH_NORM_MOMENTUM

    def info(self, detailed: bool = False, verbose: bool = True, imgsz: int | list[int] = 640) -> tuple | None:
        """The host's summary with the operations that one image of `imgsz` takes, see `engine.cost`.

        Returns:
            Layers, parameters, gradients and GFLOPs, or None where `verbose` is False.
        """
        if not verbose:
            return None
        size = (imgsz, imgsz) if isinstance(imgsz, int) else tuple(imgsz)
        if detailed:
            model_info(self, detailed=True, imgsz=imgsz)
        cost = model_cost(self, size, self.yaml.get("channels", 3))
        gradients = sum(p.numel() for p in self.parameters() if p.requires_grad)
        gflops, layers = cost.flops / 1e9, len(list(self.modules()))
        name = Path(self.yaml.get("yaml_file", "model")).stem + (" (fused)" if self.is_fused() else "")
        LOGGER.info(
            f"{name} summary: {layers} layers, {cost.parameters:,} parameters, {gradients:,} gradients, "
            f"{gflops:.1f} GFLOPs at {size[0]} x {size[1]}"
        )
        return layers, cost.parameters, gradients, gflops

    def _remap_cls_by_names(self, csd: dict[str, Tensor], src_model: nn.Module, verbose: bool = True) -> int:
        """The host's, which brings rows of the classifier of stage 1 to where a class of the same name now stands.

        Here also those of stage 2, which would otherwise begin with the weights of other classes.

        Args:
            csd: weights of the other model; those that are moved are taken out.
            src_model: the other model.
            verbose: whether the host says so in its log.

        Returns:
            How many tensors were moved.
        """
        moved = super()._remap_cls_by_names(csd, src_model, verbose)
        refiners = {name: m for name, m in self.named_modules() if isinstance(m, MLDR)}
        if not moved or not refiners:  # the host has seen no class of the same name in another place
            return moved
        places = {str(name).strip().lower(): i for i, name in src_model.names.items()}
        rows = torch.tensor([places.get(str(self.names[i]).strip().lower(), -1) for i in range(len(self.names))])
        known, own = rows >= 0, self.state_dict()
        for key in (f"{name}.{row}" for name, refiner in refiners.items() for row in refiner.class_rows):
            if key not in csd or csd[key].shape[1:] != own[key].shape[1:]:
                continue
            if len(csd[key]) * len(rows) != len(own[key]) * len(src_model.names):  # one box for all classes there
                continue
            to, given = own[key].view(len(rows), -1), csd.pop(key).view(len(src_model.names), -1)
            to[known] = given[rows[known]].to(to.dtype)
            moved += 1
        return moved

    def init_criterion(self) -> Any:
        """The head's criterion, or the host's."""
        build = getattr(self.model[-1], "build_criterion", None)
        return build(self) if build else super().init_criterion()
