"""What a dataset must be before a training starts: found, not empty, and within its classes."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from ultralytics.utils import USER_CONFIG_DIR, YAML
from ultralytics.utils.checks import check_file

from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.data.scan_dataset import label_paths
from yolospine_ultra.plugin import cfg_dir

SHOWN = 3  # files that an error names; the count says how many there are


def resolve_data(data: Any, root: str | Path | None = None) -> Any:
    """The dataset that the arguments `data` and `data_root` mean.

    Args:
        data: what the host takes; a bare name that is no file is also looked up among the plugin's own datasets.
        root: folder to take the place of the YAML's `path`. The YAML with that path is kept in the user's
            configuration folder, so that a checkpoint that remembers it can be validated later.

    Returns:
        `data`, or the path of a YAML.

    Raises:
        FileNotFoundError: `root` is no folder.
        ValueError: `root` is given without a YAML, or with one whose splits lie elsewhere.
    """
    name = Path(str(data))
    own = cfg_dir() / "datasets" / f"{name.stem}.yaml"
    if data and name.name and len(name.parts) == 1 and not name.exists() and own.is_file():
        data = str(own)
    if not root:
        return data
    if not Path(root).is_dir():
        raise FileNotFoundError(
            f"data_root={root} is not a folder; expected the folder that holds the dataset's images."
        )
    if Path(str(data)).suffix not in {".yaml", ".yml"}:
        raise ValueError(f"data_root needs a dataset YAML in data, but data={data}.")
    content = YAML.load(check_file(data)) | {"path": str(Path(root).resolve())}
    for split in ("train", "val", "test"):
        places = content.get(split) or []
        for place in map(Path, [places] if isinstance(places, str) else places):
            if place.is_absolute() and not place.is_relative_to(content["path"]):
                raise ValueError(f"{split}={place} in {data} is absolute, so that data_root={root} cannot move it.")
    content.pop("download", None)  # a folder that the user names is never filled by a download
    text = yaml.safe_dump(content, sort_keys=False)
    folder = USER_CONFIG_DIR / "yolospine"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{Path(str(data)).stem.split('@')[0]}@{hashlib.sha256(text.encode()).hexdigest()[:12]}.yaml"
    AtomicPath(file).write_bytes(text.encode())
    return str(file)


def check_dataset_labels(dataset: Any, data: dict[str, Any]) -> None:
    """Refuse labels of classes that the dataset does not have.

    The host drops such images with a line in the log; a training on what is left would not be what the user asked for.

    Args:
        dataset: the host's dataset, which has read its labels.
        data: the dataset's dictionary, with `nc` and `names`.

    Raises:
        ValueError: names the files, the class found and the classes expected.
    """
    if dataset.single_cls:  # every class is the one
        return
    kept = set(label_paths(dataset.im_files))
    dropped = [Path(f) for f in dataset.label_files if f not in kept and Path(f).is_file()]
    outside = [(f, c) for f in dropped if (c := _highest_class(f)) >= data["nc"]]
    if outside:
        shown = "; ".join(f"{f} has class {c}" for f, c in outside[:SHOWN])
        raise ValueError(
            f"{len(outside)} label files have a class that the dataset does not, which has {data['nc']} classes, "
            f"0 to {data['nc'] - 1}: {shown}. Correct them, or `names` in {data.get('yaml_file', 'the dataset YAML')}."
        )


def _highest_class(file: Path) -> int:
    """Highest class index in a label file, -1 where it has none that can be read; as the host, it takes 7.0 for 7."""
    highest = -1
    for row in file.read_text(errors="replace").splitlines():
        with suppress(ValueError, IndexError):
            index = float(row.split()[0])
            highest = max(highest, int(index) if index.is_integer() else -1)
    return highest
