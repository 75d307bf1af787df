"""The training recipe of the paper as defaults for our models, and the check of the plugin's own arguments.

Source of the recipe: YOLOspine (Masood and Taj 2026), "Experimental Configuration". Its gradient clipping at 10 is the
host's own; one optimiser step a batch follows from `nbs`, see `with_recipe`.
"""

from __future__ import annotations

from typing import Any

from ultralytics.utils import YAML
from ultralytics.utils.checks import check_yaml

LIMITS = {"mri_augment": 1, "class_centric": 10}  # largest value; the smallest is 0
SUPPRESSIONS = ("gaussian", "linear", "hard")

RECIPE: dict[str, Any] = {
    "optimizer": "AdamW",
    "lr0": 1e-4,
    "cos_lr": True,
    "weight_decay": 1e-2,
    "momentum": 0.9,  # beta1 of AdamW
    "warmup_bias_lr": 0.0,  # the host's 0.1 is meant for SGD
    "amp": True,
    "epochs": 200,
    "batch": 32,
    "imgsz": 384,
    "cls_pw": 0.25,  # class weights w_k, inverse frequency to this power
    # "Augmentation Strategy", without amounts: ours are small. The host's fliplr and hsv_v are on already.
    "degrees": 2.0,  # a disc's box, upright again, grows by a twentieth in height
    "mri_augment": 0.15,  # of each image of a mosaic
    "class_centric": 0.25,
}


def with_recipe(given: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Training arguments: the recipe, under what a checkpoint remembers, a cfg file says, or the user gives.

    The recipe has no gradient accumulation: where the user sets no `nbs`, it follows `batch`, so that every batch is a
    step of the optimiser; where the batch is found automatically, `SpineTrainer.auto_batch` sees to it.

    Args:
        given: the user's arguments.
        model: arguments that the model brings along, `YOLO.overrides`.
    """
    file = YAML.load(check_yaml(given["cfg"])) if given.get("cfg") else {}
    known = {**model, **file, **given}
    recipe = {k: v for k, v in RECIPE.items() if k not in known}
    batch = known.get("batch", RECIPE["batch"])
    if "nbs" not in known and isinstance(batch, int) and batch > 0:
        recipe["nbs"] = batch
    # the host forgets what the model brings along where a file is given
    remembered = (
        {k: v for k, v in model.items() if k in RECIPE and k not in {**file, **given}} if given.get("cfg") else {}
    )
    return {**recipe, **remembered, **given}


def check_arguments(args: Any) -> None:
    """Refuse values of the plugin's own arguments that mean nothing.

    Raises:
        ValueError: names the argument, what was found and what is expected.
    """
    if args.suppression not in SUPPRESSIONS:
        raise ValueError(f"suppression={args.suppression} is unknown; expected one of {', '.join(SUPPRESSIONS)}.")
    for key in ("soft_sigma", "backbone_lr"):
        value = getattr(args, key)
        if not _is_number(value) or not value > 0:
            raise ValueError(f"{key}={value} is not usable; expected a number greater than 0.")
    for key, limit in LIMITS.items():
        value = getattr(args, key)
        if not _is_number(value) or not 0 <= value <= limit:
            raise ValueError(f"{key}={value} is not usable; expected a number from 0 to {limit}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
