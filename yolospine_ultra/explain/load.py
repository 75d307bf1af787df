"""From a file of weights to the model that is explained.

Written for this project. Weights are those that `ultralytics.YOLO` loads, or that a segmentation network of the
benchmark left in `last.pt`, which holds no code.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules import OBB, Detect, RTDETRDecoder
from ultralytics.utils.checks import check_imgsz

from yolospine_ultra.benchmark.detectors import load_detector
from yolospine_ultra.benchmark.families.network import one_device
from yolospine_ultra.benchmark.families.segmentation import FAMILY, SegmentationDetector
from yolospine_ultra.benchmark.family import Budget, CellData, ModelEntry
from yolospine_ultra.explain.model import ExplainedModel
from yolospine_ultra.explain.rtdetr import RTDETRModel
from yolospine_ultra.explain.segmentation import SegmentationModel
from yolospine_ultra.explain.spine import SpineModel
from yolospine_ultra.explain.yolo import YoloModel
from yolospine_ultra.nn.dde import DDEDetect

IMGSZ = 640  # of a model that does not say


def wrap(
    module: nn.Module, names: Sequence[str], imgsz: int, channels: int = 3, nms_free: bool = False, **named: Any
) -> ExplainedModel:
    """A network in memory as a model to explain.

    Args:
        module: a detection model of the host, or a `SegmentationDetector`; it stays as it is.
        names, imgsz, channels: as in `ExplainedModel`.
        nms_free: as in `YoloModel`.
        named: `device` and `layer` of `ExplainedModel`.

    Raises:
        ValueError: no family knows such a network, `nms_free` does not fit it, or there is no such layer.
    """
    head = module if isinstance(module, SegmentationDetector) else getattr(module, "model", [None])[-1]
    kinds = (
        (SegmentationDetector, SegmentationModel),
        (DDEDetect, SpineModel),
        (RTDETRDecoder, RTDETRModel),
        (Detect, YoloModel),
    )
    kind = next((kind for cls, kind in kinds if isinstance(head, cls)), None)
    if kind is None or isinstance(head, OBB):
        raise ValueError(
            f"a model with {type(head).__name__} at its end cannot be explained; expected a YOLO detector, RT-DETR, "
            "YOLOspine, or a segmentation network of the benchmark."
        )
    if nms_free and kind is not YoloModel:
        raise ValueError("nms_free is for YOLOv10 and YOLO26; leave it out.")
    extra = {"nms_free": nms_free} if kind is YoloModel else {}
    return kind(module, names, imgsz, channels, **extra, **named)


def load_explained(
    file: Path,
    device: str = "cpu",
    imgsz: int | None = None,
    classes: Sequence[str] | None = None,
    nms_free: bool = False,
    layer: str | None = None,
) -> ExplainedModel:
    """A model to explain from its weights.

    Args:
        file: weights.
        device: "cpu", "0", "cuda:0", "mps".
        imgsz: side of the input in pixels, None for what the model was trained with.
        classes: what its classes must be, None for any.
        nms_free, layer: as in `wrap`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be loaded, has other classes, or `wrap` refuses it.
    """
    if not file.exists():
        raise FileNotFoundError(f"{file} is not there; expected weights of a detector.")
    saved = _segmentation(file)
    named = {"device": str(one_device(device)), "layer": layer}
    if saved is not None:
        return _load_segmentation(file, saved, imgsz, classes, nms_free, named)
    facade = load_detector(file, device, imgsz, classes).facade
    size = check_imgsz(imgsz or facade.overrides.get("imgsz", IMGSZ), stride=32)
    size = size[0] if isinstance(size, list) else size
    channels = facade.model.yaml.get("channels", 3)
    return wrap(facade.model, list(facade.names.values()), size, channels, nms_free, **named)


def _segmentation(file: Path) -> dict[str, Any] | None:
    """What a file of `benchmark.families.weights` says of a segmentation network, None for any other file."""
    if file.is_dir():
        return None
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError):
        return None  # not without running code: weights of the host, or none at all
    return saved if isinstance(saved, dict) and "network" in (saved.get("build") or {}) else None


def _load_segmentation(
    file: Path,
    saved: dict[str, Any],
    imgsz: int | None,
    classes: Sequence[str] | None,
    nms_free: bool,
    named: dict[str, Any],
) -> ExplainedModel:
    """See `load_explained`."""
    names, size, channels = saved["names"], saved["imgsz"], saved["channels"]
    if imgsz not in (None, size):
        raise ValueError(f"{file} was trained at {size} px and takes no other size; leave imgsz out.")
    if classes is not None and names != list(classes):
        raise ValueError(f"{file} has the classes {', '.join(names)}, but the data has {', '.join(classes)}.")
    entry = ModelEntry("explained", "segmentation", saved["build"])
    data = CellData(Path(), (), (), dict(enumerate(names)), channels)
    budget = Budget(0, size, 1, "cpu", 0, threads=torch.get_num_threads())
    detector = FAMILY.load(entry, file, data, budget)
    return wrap(detector.module, names, size, channels, nms_free, **named)
