"""Registration of own blocks and heads for Ultralytics YAML files: the public API of the plugin.

Ultralytics builds a model from rows ``[from, repeats, module, args]`` and knows the channel rule of its own modules
only. A class registered here can stand in such a row beside stock ones. Nothing of Ultralytics is touched in this file;
`yolospine_ultra.plugin` reads the tables when a model is built.

Example:
    A block of one's own in anybody's YAML, ``- [-1, 1, Gate, [256]]``::

        import torch
        from torch import nn
        from ultralytics import YOLO

        from yolospine_ultra import register_block

        @register_block()
        class Gate(nn.Module):
            def __init__(self, c1, c2):
                super().__init__()
                self.conv, self.gate = nn.Conv2d(c1, c2, 1), nn.Conv2d(c1, c2, 1)

            def forward(self, x):
                return self.conv(x) * torch.sigmoid(self.gate(x))

        YOLO("mine.yaml").train(data="coco8.yaml")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class BlockEntry:
    """A registered block: its class, and whether the row's repeat count is its third argument."""

    cls: type[nn.Module]
    repeats: bool


@dataclass(frozen=True)
class HeadEntry:
    """A registered head: its class, and the dotted name of the `YOLO` subclass that its models become."""

    cls: type[nn.Module]
    facade: str


BLOCKS: dict[str, BlockEntry] = {}
HEADS: dict[str, HeadEntry] = {}


def register_block(*, repeats: bool = False) -> Callable[[T], T]:
    """Make a block usable in a YAML row ``[from, n, Name, [c2, *args]]``.

    The class is built as ``Name(c1, c2, *args)``, or ``Name(c1, c2, n, *args)`` with ``repeats=True``; c1 is read off
    the layer it takes its input from, c2 is scaled by the model's width, n by its depth. Without `repeats`, n > 1 puts
    n copies in a row.

    Raises:
        ValueError: the name is taken by another class.
    """

    def decorate(cls: T) -> T:
        _add(BLOCKS, cls, BlockEntry(cls, repeats))
        return cls

    return decorate


def register_head(*, facade: str = "yolospine_ultra.engine.facade.YOLOspine") -> Callable[[T], T]:
    """Make a detection head usable in the last YAML row ``[[from, ...], 1, Name, [nc, *args]]``.

    The class derives from `ultralytics.nn.modules.Detect`, contains "Detect" in its name (the host guesses the task
    from it), and is built as ``Name(nc, *args, ch=(...))``. A method ``build_criterion(model)`` gives its loss; without
    one the host's detection loss is used.

    Args:
        facade: dotted name of the `ultralytics.YOLO` subclass that a model with this head becomes; it names trainer,
            validator and predictor in its `task_map`.

    Raises:
        ValueError: the name is taken by another class, or does not contain "Detect".
    """

    def decorate(cls: T) -> T:
        if "detect" not in cls.__name__.lower():
            raise ValueError(
                f"register_head: the class name '{cls.__name__}' must contain 'Detect', because Ultralytics guesses "
                "the task of a model from the name of its head."
            )
        _add(HEADS, cls, HeadEntry(cls, facade))
        return cls

    return decorate


def _add(table: dict, cls: type, entry: BlockEntry | HeadEntry) -> None:
    """Enter `cls` by its name; the same class again (a module reloaded) replaces itself."""
    known = BLOCKS.get(cls.__name__) or HEADS.get(cls.__name__)
    if known and (known.cls.__module__, known.cls.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(
            f"The name '{cls.__name__}' is registered already, by {known.cls.__module__}.{known.cls.__qualname__}; "
            "rename one of the two classes."
        )
    table[cls.__name__] = entry
