"""The validator: it measures what the predictor gives, through the same function and on the same squares."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils import LOGGER

from yolospine_ultra.data.checks import resolve_data
from yolospine_ultra.data.dataset import build_dataset
from yolospine_ultra.engine.arguments import check_arguments
from yolospine_ultra.engine.calibration import select_calibrated, wanted_temperatures


class SpineValidator(DetectionValidator):
    """The host's detection validator with Soft-NMS.

    `rect` has no effect: images are letterboxed to squares, as `SpinePredictor` does, whatever else is in the batch.
    """

    def __init__(
        self, dataloader: Any = None, save_dir: Any = None, args: Any = None, _callbacks: dict | None = None
    ) -> None:
        super().__init__(dataloader, save_dir, args, _callbacks)
        check_arguments(self.args)
        self.args.rect = False
        self.args.data = resolve_data(self.args.data, self.args.data_root)

    def build_dataset(self, img_path: str, mode: str = "val", batch: int | None = None) -> Any:
        """Images and scans, as squares."""
        return build_dataset(self.args, img_path, batch, self.data, self.stride, mode)

    def init_metrics(self, model: nn.Module) -> None:
        """The host's, after refusing a model made for other classes.

        Raises:
            ValueError: the model and the dataset differ in their number of classes; `calibrate=True` and a model
                without temperatures.
        """
        self.temperatures = wanted_temperatures(self.args.calibrate, model)
        if len(model.names) != self.data["nc"] and not self.args.single_cls:
            raise ValueError(
                f"The model has {len(model.names)} classes ({', '.join(model.names.values())}), but the dataset "
                f"{self.args.data} has {self.data['nc']} ({', '.join(self.data['names'].values())}); validate it on "
                "data of its own classes, or train a model on this dataset with pretrained=CHECKPOINT."
            )
        own, expected = list(model.names.values()), list(self.data["names"].values())
        if own != expected and not self.args.single_cls:
            LOGGER.warning(
                f"The model's classes are called {', '.join(own)}, those of {self.args.data} {', '.join(expected)}: "
                "they are compared by their numbers. Figures mean nothing where the order differs."
            )
        super().init_metrics(model)

    def postprocess(self, preds: Any) -> list[dict[str, Tensor]]:
        """Detections of each image: boxes x1 y1 x2 y2 in input pixels, scores, classes."""
        found = select_calibrated(
            preds,
            self.temperatures,
            conf=self.args.conf,
            iou=self.args.iou,
            max_det=self.args.max_det,
            suppression=self.args.suppression,
            sigma=self.args.soft_sigma,
            agnostic=self.args.single_cls or self.args.agnostic_nms,
        )
        return [{"bboxes": x[:, :4], "conf": x[:, 4], "cls": x[:, 5], "extra": x[:, 6:]} for x in found]
