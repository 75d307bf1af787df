"""What a dataset must be before a training starts: found, not empty, and within its classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ultralytics.data.utils import img2label_paths

from yolospine_ultra.plugin import cfg_dir

SHOWN = 3  # files that an error names; the count says how many there are


def resolve_data(data: Any) -> Any:
    """`data`, or where it is a bare name that is no file, the plugin's own dataset YAML of that name."""
    name = Path(str(data))
    own = cfg_dir() / "datasets" / name.with_suffix(".yaml").name
    return str(own) if data and len(name.parts) == 1 and not name.exists() and own.is_file() else data


def check_dataset_labels(dataset: Any, data: dict[str, Any]) -> None:
    """Refuse labels of classes that the dataset does not have.

    The host drops such images with a line in the log; a training on what is left would not be what the user asked for.

    Args:
        dataset: the host's dataset, which has read its labels.
        data: the dataset's dictionary, with `nc` and `names`.

    Raises:
        ValueError: names the files, the class found and the classes expected.
    """
    kept = set(img2label_paths(dataset.im_files))
    dropped = [Path(f) for f in dataset.label_files if f not in kept]
    outside = [(f, c) for f in dropped if (c := _highest_class(f)) >= data["nc"]]
    if outside:
        shown = "; ".join(f"{f} has class {c}" for f, c in outside[:SHOWN])
        raise ValueError(
            f"{len(outside)} label files have a class that the dataset does not, which has {data['nc']} classes, "
            f"0 to {data['nc'] - 1}: {shown}. Correct them, or `names` in {data.get('yaml_file', 'the dataset YAML')}."
        )


def _highest_class(file: Path) -> int:
    """Highest class index in a label file, -1 where it has none that can be read."""
    indices = [row.split()[0] for row in file.read_text(errors="replace").splitlines() if row.strip()]
    return max((int(i) for i in indices if i.isdigit()), default=-1)
