"""The predictor: the host's, with Soft-NMS, square inputs, scans among its sources, and sizes in mm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from ultralytics.data.augment import LetterBox
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.utils import DEFAULT_CFG, ops

from yolospine_ultra.data.scans import suffix_kind
from yolospine_ultra.data.scans.loader import ScanLoader
from yolospine_ultra.data.scans.sources import find_sources
from yolospine_ultra.data.scans.view import known_to_host
from yolospine_ultra.engine.arguments import check_arguments
from yolospine_ultra.engine.calibration import select_calibrated, wanted_temperatures
from yolospine_ultra.engine.results import SpineResults


class SpinePredictor(DetectionPredictor):
    """The host's detection predictor for models with one of our heads, also exported ones.

    `rect` has no effect: every image is letterboxed to the full input size, so that its detections do not depend on the
    images beside it, and equal those of validation and of exported models.
    """

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: dict | None = None, _callbacks: dict | None = None) -> None:
        super().__init__(cfg, overrides, _callbacks)
        check_arguments(self.args)

    def setup_source(self, source: Any, stride: int | None = None) -> None:
        """As the host's, for scans too: see `yolospine_ultra.data.scans.sources`.

        Raises:
            ScanError: none of the source's scans can be read.
            ImportError: an optional package that a scan needs is missing.
            ValueError: `calibrate=True` and a model without temperatures.
        """
        self.temperatures = wanted_temperatures(self.args.calibrate, self.model)
        found = find_sources(source)
        if found is not None:
            channels = getattr(self.model, "channels", 3)
            source = ScanLoader(found, self.args.batch, self.args.vid_stride, channels)
        super().setup_source(source, stride)

    def pre_transform(self, im: list[np.ndarray]) -> list[np.ndarray]:
        """Images letterboxed to the input size."""
        letterbox = LetterBox(self.imgsz, auto=False, stride=self.model.stride)
        return [letterbox(image=x) for x in im]

    def postprocess(self, preds: Any, img: Tensor, orig_imgs: Any, **kwargs: Any) -> list:
        """Results of a batch of raw predictions; `iou` among the keywords takes precedence, as in the host."""
        found = select_calibrated(
            preds,
            self.temperatures,
            conf=self.args.conf,
            iou=kwargs.pop("iou", self.args.iou),
            max_det=self.args.max_det,
            suppression=self.args.suppression,
            sigma=self.args.soft_sigma,
            classes=[self.args.classes] if isinstance(self.args.classes, int) else self.args.classes,
            agnostic=self.args.agnostic_nms,
        )
        if not isinstance(orig_imgs, list):
            orig_imgs = ops.convert_torch2numpy_batch(orig_imgs)[..., ::-1]
        feats = getattr(self, "_feats", None)  # kept by the host's trackers that match by appearance
        vectors = self.get_obj_feats(feats, [x[:, :4] for x in found], img) if feats is not None else None
        results = self.construct_results(found, img, orig_imgs, **kwargs)
        if vectors is not None:
            for result, vector in zip(results, vectors, strict=True):
                result.feats = vector
        return results

    def construct_results(self, preds: list[Tensor], img: Tensor, orig_imgs: list[np.ndarray]) -> list[SpineResults]:
        """As the host's, with the place of each image that comes from a scan."""
        results = super().construct_results(preds, img, orig_imgs)
        for result, place in zip(results, getattr(self.dataset, "places", ()), strict=False):
            result.place = place  # images that are no scans have none
        return results

    def construct_result(self, pred: Tensor, img: Tensor, orig_img: np.ndarray, img_path: str) -> SpineResults:
        """As the host's, of the class that knows millimetres."""
        result = super().construct_result(pred, img, orig_img, img_path)
        return SpineResults(orig_img, path=img_path, names=result.names, boxes=result.boxes.data)

    def write_results(self, i: int, p: Path, im: Tensor, s: list[str]) -> str:
        """As the host's; a series is saved under its folder's name, NAME.nii.gz as NAME, other names as a whole.

        The whole name is kept where its suffix is no known one.
        """
        place = self.results[i].place
        if place is not None and place.saved_as:
            p = p.with_name(f"{place.saved_as}.dcm")
        elif p.name.lower().endswith(".nii.gz"):
            p = p.with_suffix("")
        elif suffix_kind(p) is None and not known_to_host(p):
            p = p.with_name(f"{p.name}.dcm")
        return super().write_results(i, p, im, s)

    @staticmethod
    def get_obj_feats(feat_maps: list[Tensor], boxes: list[Tensor], img: Tensor) -> list[Tensor | list]:
        """Appearance of each detection for trackers: the finest map at the centre of its box.

        The host looks up the anchor point that a detection came from; refined boxes come from several.

        Args:
            feat_maps: pyramid maps (B, c_l, H_l, W_l), finest first.
            boxes: of each image (n, 4), x1 y1 x2 y2 in input pixels.
            img: input images (B, 3, H, W).
        """
        finest = feat_maps[0]
        scale = finest.shape[-1] / img.shape[-1]
        limit = torch.tensor([finest.shape[3] - 1, finest.shape[2] - 1], device=finest.device)
        vectors: list[Tensor | list] = []
        for i, b in enumerate(boxes):
            x, y = ((b[:, :2] + b[:, 2:]) / 2 * scale).long().clamp(min=0).minimum(limit).unbind(1)
            vectors.append(finest[i, :, y, x].T if len(b) else [])
        return vectors
