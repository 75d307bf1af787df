"""Wake-up call: registers the plugin once Ultralytics is imported, so that the stock `yolo` command knows it.

PyTorch calls `install` at the end of `import torch`, through the entry point group `torch.backends`; this module is
installed under the top-level name `_yolospine_autoload`, so that calling it does not import the package. It runs in
every program that uses torch on this machine, hence: standard library only, never an exception, and nothing happens
unless that program imports Ultralytics. ``YOLOSPINE_AUTOLOAD=0`` switches it off.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `typing` costs more to import than all that happens here
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

SWITCH = "YOLOSPINE_AUTOLOAD"


class _YolospineFinder:  # `install` asks for this name: others have finders, too, and this file may be loaded twice
    """Lets others find the modules of `STEPS`, and takes each one's step after it has been executed."""

    def __init__(self) -> None:
        self.waiting = dict(STEPS)

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        step = self.waiting.pop(name, None)  # gone before the others are asked, who would come back here
        if step is None:
            return None
        from importlib.util import find_spec

        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, step)
        if not self.waiting:
            sys.meta_path.remove(self)
        return spec


class _Loader:
    """The real loader of a module, followed by a step."""

    def __init__(self, real: Loader, step: Callable[[], None]) -> None:
        self.real, self.step = real, step

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__.loader = module.__loader__ = self.real
        self.real.exec_module(module)
        _take(self.step)

    def __getattr__(self, name: str) -> object:  # resource readers and the like ask the loader
        return getattr(self.real, name)


def _take(step: Callable[[], None]) -> None:
    """Take a step; a failure is reported and costs the program nothing else."""
    try:
        step()
    except Exception as e:
        import warnings

        warnings.warn(
            f"yolospine_ultra could not register with Ultralytics, its models are not available: "
            f"{type(e).__name__}: {e} (set {SWITCH}=0 to silence this)",
            RuntimeWarning,
            stacklevel=2,
        )


def _arguments() -> None:
    from _yolospine_autoload.arguments import add_to_host

    add_to_host()


def _register() -> None:
    import yolospine_ultra  # noqa: F401


# The command line checks its words after the first and before the second of these is imported; when the second has been
# executed, `ultralytics.YOLO` is complete.
STEPS = {"ultralytics.cfg": _arguments, "ultralytics.models": _register}


def install() -> None:
    """Entry point: wait for Ultralytics, or register at once where it is there already. Never raises."""
    try:
        if os.environ.get(SWITCH, "1").lower() in {"0", "false", "off", "no"}:
            return
        late = [step for name, step in STEPS.items() if name in sys.modules]
        for step in late:
            _take(step)
        own = _YolospineFinder.__qualname__
        if len(late) < len(STEPS) and not any(type(f).__qualname__ == own for f in sys.meta_path):
            sys.meta_path.insert(0, _YolospineFinder())
    except Exception:  # whatever is odd about this interpreter, `import torch` goes on
        return
