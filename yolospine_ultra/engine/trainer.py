"""The trainer of models with one of our heads.

The host's detection trainer with: the head's own loss, a learning rate of its own for the backbone, validation on the
very images that prediction sees, augmentation for MRI, checkpoints that are never half-written, and datasets that are
refused with a reason.
"""

from __future__ import annotations

import os
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, LOGGER, RANK
from ultralytics.utils.torch_utils import strip_optimizer, torch_distributed_zero_first, unwrap_model

from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.data.checks import check_dataset_labels, resolve_data
from yolospine_ultra.data.dataset import build_dataset
from yolospine_ultra.data.relations import Relations, fit_relations, read_relations
from yolospine_ultra.engine.arguments import check_arguments
from yolospine_ultra.engine.model import PluginDetectionModel
from yolospine_ultra.engine.validator import SpineValidator
from yolospine_ultra.nn.spine_detect import SpineDetect


class SpineTrainer(DetectionTrainer):
    """Trainer of `SpineDetect` and `DDEDetect` models, or of any registered head with ``build_criterion``."""

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: dict | None = None, _callbacks: dict | None = None) -> None:
        self.nbs_follows_batch = "nbs" not in (overrides or {})
        super().__init__(cfg, overrides, _callbacks)
        check_arguments(self.args)
        # the host writes these with `write_bytes`
        self.wdir = AtomicPath(self.wdir)
        self.last, self.best = self.wdir / "last.pt", self.wdir / "best.pt"

    def get_dataset(self) -> dict[str, Any]:
        """The host's, of the dataset that `data` and `data_root` mean."""
        self.args.data = resolve_data(self.args.data, self.args.data_root)
        data = super().get_dataset()
        if not self.args.single_cls:  # whose one class has another name
            read_relations(data)  # refuses what cannot be meant, before anything is built
        return data

    def get_model(
        self, cfg: str | dict | None = None, weights: nn.Module | None = None, verbose: bool = True
    ) -> PluginDetectionModel:
        """A new model for the dataset's classes and channels, with what fits of `weights`."""
        model = self.set_model_names_for_load(
            PluginDetectionModel(cfg, nc=self.data["nc"], ch=self.data["channels"], verbose=verbose and RANK == -1)
        )
        if weights:
            model.load(weights)
        return model

    def auto_batch(self) -> int:
        """The batch that fits the memory; where no `nbs` is given, a step of the optimiser, as the recipe has it."""
        batch = super().auto_batch()
        if self.nbs_follows_batch:
            self.args.nbs = batch
        return batch

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Images and scans, augmented for training; validation images are squares, as in prediction."""
        stride = max(int(unwrap_model(self.model).stride.max()), 32)
        dataset = build_dataset(self.args, img_path, batch, self.data, stride, mode)
        check_dataset_labels(dataset, self.data)
        return dataset

    def set_class_weights(self) -> None:
        """The host's, and how the classes are related, by the labels and what the dataset declares.

        The host calls this when the training labels are read and before it copies the model for its moving average.
        """
        super().set_class_weights()
        model = unwrap_model(self.model)
        head = getattr(model, "student_model", model).model[-1]  # distillation wraps the model
        if not isinstance(head, SpineDetect):
            return
        relations = Relations(None, []) if self.args.single_cls else read_relations(self.data)
        if head.mldr.order is None:  # a model that may not count divides nothing by level
            relations = relations._replace(groups=[])
        head.relations.declare(fit_relations(self.train_loader.dataset.labels, relations, head.nc))

    def get_validator(self) -> SpineValidator:
        """The validator that measures what the predictor gives."""
        return SpineValidator(self.test_loader, save_dir=self.save_dir, args=copy(self.args), _callbacks=self.callbacks)

    def build_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The host's optimiser, with the backbone in groups of its own at `backbone_lr` times the learning rate."""
        optimizer = super().build_optimizer(model, *args, **kwargs)
        net = unwrap_model(model)
        net = getattr(net, "student_model", net)  # distillation wraps the model
        backbone = {id(p) for layer in net.model[: len(net.yaml["backbone"])] for p in layer.parameters()}
        for group in list(optimizer.param_groups):
            inside = [p for p in group["params"] if id(p) in backbone]
            if inside:
                group["params"] = [p for p in group["params"] if id(p) not in backbone]
                optimizer.add_param_group({**group, "params": inside, "lr": group["lr"] * self.args.backbone_lr})
        return optimizer

    def final_eval(self) -> None:
        """Strip both checkpoints, each in one step so that a kill loses none, and validate the best one."""
        with torch_distributed_zero_first(LOCAL_RANK):
            if RANK in {-1, 0}:
                last = _strip(self.last, {})
                _strip(self.best, {"train_results": last.get("train_results")})
        if not self.best.exists():
            return
        LOGGER.info(f"\nValidating {self.best}...")
        self.validator.args.plots = self.args.plots
        self.validator.args.compile = False
        self.metrics = self.validator(model=self.best)
        self.metrics.pop("fitness", None)
        self.epoch += 1  # the host logs the best model's metrics one step after the last epoch's
        self.run_callbacks("on_fit_epoch_end")
        self.epoch -= 1


def _strip(file: Path, updates: dict[str, Any]) -> dict[str, Any]:
    """The host's `strip_optimizer`, in one step: `file` is the old checkpoint or the stripped one, never a part."""
    if not file.exists():
        return {}
    stripped = f"{file}.part"
    content = strip_optimizer(file, stripped, updates)
    if content:
        os.replace(stripped, file)
    return content
