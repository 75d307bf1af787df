"""Checkpoints as data: weights in safetensors, everything else in YAML, so that reading one runs no code.

A pickled ``.pt`` names classes to import and can run anything; the portable form holds tensors, numbers and text. It is
a folder with ``model.safetensors`` and ``model.yaml``. Of files that a training was given it keeps the names, and
nothing of where they were: folders may name people and patients.
"""

from __future__ import annotations

import io
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
import yaml
from ultralytics.nn.tasks import DetectionModel, load_checkpoint
from ultralytics.utils import DEFAULT_CFG_DICT

from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.engine.calibration import set_temperatures
from yolospine_ultra.engine.model import PluginDetectionModel

WEIGHTS, DESCRIPTION = "model.safetensors", "model.yaml"
FORMAT = 1
_KEPT = DEFAULT_CFG_DICT.keys() - {"project", "name", "data_root", "source"}  # training arguments; those are folders
_FILES = ("model", "data", "pretrained", "resume", "cfg", "tracker", "distill_model")


def write_portable(checkpoint: str | Path, folder: str | Path) -> Path:
    """Write a checkpoint's model in the portable form.

    Args:
        checkpoint: a ``.pt`` file.
        folder: where to; made if it is not there. Other files in it stay as they are.

    Returns:
        The folder.

    Raises:
        ImportError: safetensors is not installed.
        FileNotFoundError: no such checkpoint.
        FileExistsError: the folder has one of the two files.
        ValueError: it cannot be loaded, or is another kind of model than the form describes.
    """
    save = _safetensors().save
    if not Path(checkpoint).is_file():  # the host would look for it on the network
        raise FileNotFoundError(f"{checkpoint} is not there; expected a checkpoint such as best.pt.")
    folder = Path(folder)
    for name in (WEIGHTS, DESCRIPTION):
        if (folder / name).exists():
            raise FileExistsError(f"{folder} has a {name}; expected a folder without one: remove it or choose another.")
    try:
        model, content = load_checkpoint(checkpoint)
    except (TypeError, AssertionError) as error:
        raise ValueError(f"{checkpoint} cannot be loaded as a checkpoint: {error}") from error
    if type(model) not in (DetectionModel, PluginDetectionModel):
        raise ValueError(f"{checkpoint} is a {type(model).__name__}; the portable form is for a DetectionModel.")
    folder.mkdir(parents=True, exist_ok=True)
    half = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    given = _plain(content.get("train_args", {}))
    description = {
        "format": FORMAT,
        "architecture": {k: _name(v) if k == "yaml_file" else v for k, v in _plain(model.yaml).items()},
        "names": {int(k): str(v) for k, v in model.names.items()},
        "channels": int(model.yaml.get("channels", 3)),
        "train_args": {k: _name(v) if k in _FILES else v for k, v in given.items() if k in _KEPT},
    }
    if getattr(model, "calibration", None):
        description["calibration"] = model.calibration
    (AtomicPath(folder) / WEIGHTS).write_bytes(save(half))
    (AtomicPath(folder) / DESCRIPTION).write_bytes(yaml.safe_dump(description, sort_keys=False).encode())
    return folder


def read_portable(folder: str | Path, checkpoint: str | Path) -> Path:
    """Write the model of a portable folder as a checkpoint that `ultralytics.YOLO` loads.

    Args:
        folder: what `write_portable` made.
        checkpoint: the ``.pt`` file to write.

    Returns:
        The checkpoint's path.

    Raises:
        ImportError: safetensors is not installed.
        FileNotFoundError: one of the two files is missing.
        FileExistsError: the checkpoint is there.
        ValueError: the format is unknown, weights and architecture do not belong together, or temperatures are of other
            classes.
    """
    load = _safetensors().load
    folder, checkpoint = Path(folder), Path(checkpoint)
    if checkpoint.exists():
        raise FileExistsError(f"{checkpoint} exists; expected a name that is free: remove it or choose another.")
    for name in (WEIGHTS, DESCRIPTION):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}; expected a folder that write_portable made.")
    try:
        description = yaml.safe_load((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / DESCRIPTION} is no YAML: {error}") from error
    found = description.get("format") if isinstance(description, dict) else None
    if found != FORMAT:
        raise ValueError(f"{folder / DESCRIPTION} has format {found}; this version reads {FORMAT}.")
    missing = [k for k in ("architecture", "names", "channels", "train_args") if k not in description]
    if missing:
        raise ValueError(f"{folder / DESCRIPTION} has no {', '.join(missing)}; expected what write_portable wrote.")
    names = description["names"]
    model = PluginDetectionModel(description["architecture"], ch=description["channels"], nc=len(names), verbose=False)
    weights, expected = load((folder / WEIGHTS).read_bytes()), model.state_dict()
    wrong = sorted(k for k in weights.keys() ^ expected.keys()) + sorted(
        k for k in weights.keys() & expected.keys() if weights[k].shape != expected[k].shape
    )
    if wrong:
        raise ValueError(f"{folder}: weights and architecture differ in {len(wrong)} tensors, such as {wrong[0]}.")
    model.load_state_dict(weights)
    model.names, model.args, model.task = names, description["train_args"], "detect"
    if "calibration" in description:
        set_temperatures(model, **description["calibration"])
    buffer = io.BytesIO()
    torch.save({"epoch": -1, "model": model.half(), "ema": None, "train_args": description["train_args"]}, buffer)
    AtomicPath(checkpoint).write_bytes(buffer.getvalue())
    return checkpoint


def _safetensors() -> Any:
    """The safetensors package for torch, or an error that names the extra."""
    try:
        import safetensors.torch
    except ImportError as e:
        raise ImportError("The portable form needs safetensors: pip install 'yolospine_ultra[portable]'") from e
    return safetensors.torch


def _name(value: Any) -> Any:
    """The name of a file, without the folders of any system before it; what is no text as it is."""
    return PureWindowsPath(value).name if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """`value` with paths as text and tuples as lists, as YAML's safe types are."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
