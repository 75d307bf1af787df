"""The predictor: the host's, with Soft-NMS and square inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from ultralytics.data.augment import LetterBox
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.utils import DEFAULT_CFG, ops

from yolospine_ultra.engine.arguments import check_arguments
from yolospine_ultra.postprocess.detections import select_detections


class SpinePredictor(DetectionPredictor):
    """The host's detection predictor for models with one of our heads, also exported ones.

    `rect` has no effect: every image is letterboxed to the full input size, so that its detections do not depend on the
    images beside it, and equal those of validation and of exported models.
    """

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: dict | None = None, _callbacks: dict | None = None) -> None:
        super().__init__(cfg, overrides, _callbacks)
        check_arguments(self.args)

    def pre_transform(self, im: list[np.ndarray]) -> list[np.ndarray]:
        """Images letterboxed to the input size."""
        letterbox = LetterBox(self.imgsz, auto=False, stride=self.model.stride)
        return [letterbox(image=x) for x in im]

    def postprocess(self, preds: Any, img: Tensor, orig_imgs: Any, **kwargs: Any) -> list:
        """Results of a batch of raw predictions; `iou` among the keywords takes precedence, as in the host."""
        found, _ = select_detections(
            preds,
            conf=self.args.conf,
            iou=kwargs.pop("iou", self.args.iou),
            max_det=self.args.max_det,
            suppression=self.args.suppression,
            sigma=self.args.soft_sigma,
            classes=self.args.classes,
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
