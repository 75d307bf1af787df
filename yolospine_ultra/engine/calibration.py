"""Temperatures that a checkpoint carries, and detections under them: ``yolo predict model=best.pt calibrate=True``.

Written for this project; what a temperature is, and how it is fitted, is in `yolospine_ultra.evaluate.calibration`.

They are an attribute of the model inside the checkpoint. So `YOLO(...)` loads them and `model.save` writes them, while
whatever makes new weights, training on or resuming, makes a new model without them, as it must: they hold for the
weights that they were fitted with. Exported files do not have them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.tasks import torch_safe_load
from ultralytics.utils.torch_utils import unwrap_model

from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.engine.model import PluginDetectionModel
from yolospine_ultra.postprocess.detections import select_detections


def store_temperatures(weights: str | Path, names: Sequence[str], temperatures: Sequence[float]) -> None:
    """Write temperatures into a checkpoint of one of our models; others that it has are replaced.

    Args:
        weights: ``.pt`` file. A pickle: it is loaded as `YOLO(...)` would.
        names: class names that the temperatures are of.
        temperatures: one a class, above 0.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no checkpoint of a model of this package, or its classes are others.
    """
    file = Path(weights)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; expected a checkpoint such as best.pt.")
    try:
        checkpoint, _ = torch_safe_load(file)
    except (TypeError, AssertionError) as error:
        raise ValueError(f"{file} cannot be loaded as a checkpoint: {error}") from error
    models = [checkpoint[k] for k in ("ema", "model") if isinstance(checkpoint.get(k), nn.Module)]
    if not models or not all(isinstance(m, PluginDetectionModel) for m in models):
        raise ValueError(f"{file} is no model of this package; the host's own predictor applies no temperatures.")
    for model in models:
        set_temperatures(model, names, temperatures)
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    AtomicPath(file).write_bytes(buffer.getvalue())


def set_temperatures(model: PluginDetectionModel, names: Sequence[str], temperatures: Sequence[float]) -> None:
    """Give temperatures to a model; others that it has are replaced.

    Args:
        model: of the same classes.
        names: class names that the temperatures are of.
        temperatures: one a class, above 0.

    Raises:
        ValueError: the model's classes are others.
    """
    _check_names(list(names), model)
    model.calibration = {"names": list(names), "temperatures": [float(t) for t in temperatures]}


def wanted_temperatures(calibrate: bool, model: nn.Module) -> list[float] | None:
    """The temperatures to predict with.

    Args:
        calibrate: the argument of `predict` and `val`.
        model: the network, or the host's back end around it.

    Returns:
        One a class, None without `calibrate`.

    Raises:
        ValueError: `calibrate` is neither True nor False, the model has no temperatures, or they are of other classes.
    """
    if not isinstance(calibrate, bool):
        raise ValueError(f"calibrate={calibrate} is not usable; expected True or False.")
    if not calibrate:
        return None
    model = unwrap_model(model)
    network = getattr(model, "model", None) if isinstance(model, AutoBackend) else model
    stored = getattr(network, "calibration", None)
    if stored is None:
        raise ValueError(
            "calibrate=True, but the model has no temperatures; fit them with scripts/calibrate.py --weights best.pt "
            "(exported models have none: predict with the checkpoint)."
        )
    _check_names(stored["names"], network)
    return stored["temperatures"]


def _check_names(names: list[str], model: Any) -> None:
    """Refuse temperatures of other classes than the model's."""
    own = list(model.names.values())
    if names != own:
        raise ValueError(f"the temperatures are of {', '.join(names)}, but the model has {', '.join(own)}.")


def select_calibrated(
    prediction: Any, temperatures: Sequence[float] | None, *, conf: float, max_det: int, **options: Any
) -> list[Tensor]:
    """`select_detections`, its scores s turned into sigmoid(logit(s) / T_c) where there are temperatures.

    Suppression sees the scores as they are, `conf` and `max_det` those that are given out, so that a class has the
    detections, in the order, that it has without temperatures, and `conf` cuts them at another place.

    Args:
        prediction, options: as of `select_detections`.
        temperatures: one a class, None for none.
        conf: score that a calibrated detection must exceed.
        max_det: most detections an image.

    Returns:
        Detections of each image, (n, 6): x1 y1 x2 y2, calibrated score, class; score descending.
    """
    if temperatures is None:
        return select_detections(prediction, conf=conf, max_det=max_det, **options)[0]
    t = torch.tensor(temperatures, dtype=torch.float64)
    limits = (torch.tensor(conf, dtype=torch.float64).logit() * t).sigmoid()
    # the class with the lowest limit decides; what the others must exceed is checked below
    found, _ = select_detections(prediction, conf=float(limits.min()), max_det=torch.iinfo(torch.int64).max, **options)
    made = []
    for image in found:
        score = (image[:, 4].cpu().double().logit() / t[image[:, 5].long().cpu()]).sigmoid()  # no device lacks this
        order = score.argsort(descending=True, stable=True)
        order = order[score[order] > conf][:max_det].to(image.device)
        calibrated = image[order]
        calibrated[:, 4] = score.to(image)[order]
        made.append(calibrated)
    return made
