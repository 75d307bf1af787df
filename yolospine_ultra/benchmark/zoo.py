"""The rows of the benchmark, and where each comes from.

A model is one `ModelEntry` in `ROWS` of a file under `benchmark/families`. Three more things may stand in `--models`:
a model file of Ultralytics' form (``mine.yaml``), a row of a package of your own (``my_package.rows:MY_ENTRY``), and a
pattern (``yolo*n``). Written for this project.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from yolospine_ultra.benchmark.family import Family, ModelEntry

FAMILIES = {
    "ultralytics": "yolospine_ultra.benchmark.families.ultralytics_family:FAMILY",
    "polygon_seg": "yolospine_ultra.benchmark.families.polygon_seg:FAMILY",
    "rtdetr": "yolospine_ultra.benchmark.families.rtdetr:FAMILY",
    "segmentation": "yolospine_ultra.benchmark.families.segmentation:FAMILY",
    "cascade_rcnn": "yolospine_ultra.benchmark.families.cascade_rcnn:FAMILY",
    "detectron2": "yolospine_ultra.benchmark.families.detectron2_family:FAMILY",
    "rfdetr": "yolospine_ultra.benchmark.families.rfdetr_family:FAMILY",
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


def common_recipe(batch: int, device: str) -> dict[str, Any]:
    """Training arguments of every model of a sweep, in Ultralytics' names.

    The paper's AdamW with its weight decay and cosine schedule; its learning rate of 1e-4 is meant for 200 epochs, this
    one for the fewer of a sweep. Every batch is an optimiser step. Sagittal slices have a front and a back, and no
    colour: no flips, no hue. What only our trainer has, artefacts and more samples of rare classes, is off, so that no
    model sees more images in an epoch than another.

    Args:
        batch: images a step.
        device: as in `family.Budget`.
    """
    return {
        "optimizer": "AdamW",
        "lr0": 1e-3,
        "lrf": 0.01,
        "cos_lr": True,
        "momentum": 0.9,
        "weight_decay": 0.01,
        "warmup_epochs": 3.0,
        "warmup_bias_lr": 0.0,
        "nbs": batch,
        "cls_pw": 0.0,
        "amp": device != "cpu",
        "deterministic": True,
        "hsv_h": 0.0,
        "hsv_s": 0.0,
        "hsv_v": 0.4,
        "degrees": 0.0,
        "translate": 0.1,
        "scale": 0.5,
        "fliplr": 0.0,
        "mosaic": 1.0,
        "close_mosaic": 10,
        "mri_augment": 0.0,
        "class_centric": 0.0,
    }


@cache
def rows() -> dict[str, ModelEntry]:
    """Every row by name, in the order of the families.

    Raises:
        ValueError: a name that stands twice, or cannot be the name of a folder.
    """
    found: dict[str, ModelEntry] = {}
    for place in FAMILIES.values():
        for entry in import_module(place.partition(":")[0]).ROWS:
            if entry.name in found or not NAME.fullmatch(entry.name):
                raise ValueError(f"model name {entry.name!r} stands twice, or has other characters than A-Z 0-9 . + -")
            found[entry.name] = entry
    return found


def family_of(entry: ModelEntry) -> Family:
    """The family object of a row.

    Raises:
        ValueError: there is no such family.
    """
    return _attribute(FAMILIES.get(entry.family, entry.family), f"family of {entry.name}")


def _attribute(place: str, what: str) -> Any:
    """What "module:attribute" names."""
    module, _, name = place.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{what}: {place!r} cannot be imported ({error}); expected module:attribute.") from error


def select(wanted: Sequence[str]) -> list[ModelEntry]:
    """The rows that `--models` means, each once, in its order.

    Args:
        wanted: names and patterns of rows, model files, "module:attribute" of rows.

    Raises:
        ValueError: a name that means nothing; similar ones are named.
    """
    chosen: dict[str, ModelEntry] = {}
    for name in wanted:
        if name.endswith((".yaml", ".yml")):
            stem = Path(name).stem
            build = {"yaml": name}
            if Path(name).is_file():  # of which another content is another model
                content = Path(name).read_bytes()
                build = {"yaml": str(Path(name).absolute()), "sha256": hashlib.sha256(content).hexdigest()[:16]}
            found = [ModelEntry(stem.replace("_", "-"), "ultralytics", build, note=f"model file {Path(name).name}")]
        elif ":" in name:
            found = [_attribute(name, "model")]
            if not isinstance(found[0], ModelEntry) or not NAME.fullmatch(found[0].name):
                raise ValueError(f"model {name} is no ModelEntry with a name of letters, digits, '.', '+' and '-'.")
        else:
            found = [rows()[n] for n in rows() if fnmatch.fnmatchcase(n, name)]
        if not found:
            raise ValueError(f"model {name!r} is unknown{_similar(name)}; --list names all.")
        for entry in found:
            if chosen.setdefault(entry.name, entry) != entry:
                raise ValueError(f"two different models are called {entry.name}.")
    return list(chosen.values())


def _similar(name: str) -> str:
    """Names like an unknown one, as a part of a sentence."""
    from difflib import get_close_matches

    near = get_close_matches(name, rows(), 3)
    return f", did you mean {' or '.join(near)}?" if near else ""


def missing(entry: ModelEntry) -> str:
    """Why a row cannot run here, with the line that helps; "" where it can."""
    family = family_of(entry)
    absent = [p for p in family.packages if find_spec(p) is None]
    if not absent:
        return ""
    by_pip = f"pip install 'yolospine_ultra[{family.extra}]'" if family.extra else f"pip install {' '.join(absent)}"
    return f"{entry.name} needs {' and '.join(absent)}: {getattr(family, 'install', '') or by_pip}"
