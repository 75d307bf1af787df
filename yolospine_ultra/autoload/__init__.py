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
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

SWITCH = "YOLOSPINE_AUTOLOAD"
TARGET = "ultralytics.models"  # the last of the host's packages to be executed when `ultralytics.YOLO` is looked up


class _Finder:
    """Lets others find `TARGET`, and calls the registration after it has been executed."""

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != TARGET:
            return None
        sys.meta_path.remove(self)  # the others must not come back here
        from importlib.util import find_spec

        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader:
    """The real loader of `TARGET`, followed by the registration."""

    def __init__(self, real: Loader) -> None:
        self.real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__.loader = module.__loader__ = self.real
        self.real.exec_module(module)
        _register()

    def __getattr__(self, name: str) -> object:  # resource readers and the like ask the loader
        return getattr(self.real, name)


def _register() -> None:
    """Import the package, which registers itself; a failure is reported and costs the program nothing else."""
    try:
        import yolospine_ultra  # noqa: F401
    except Exception as e:
        import warnings

        warnings.warn(
            f"yolospine_ultra could not register with Ultralytics, its models are not available: "
            f"{type(e).__name__}: {e} (set {SWITCH}=0 to silence this)",
            RuntimeWarning,
            stacklevel=2,
        )


def install() -> None:
    """Entry point: wait for Ultralytics, or register at once where it is there already. Never raises."""
    try:
        if os.environ.get(SWITCH, "1").lower() in {"0", "false", "off", "no"}:
            return
        if TARGET in sys.modules:
            _register()
        elif not any(type(f).__name__ == _Finder.__name__ and type(f).__module__ == __name__ for f in sys.meta_path):
            sys.meta_path.insert(0, _Finder())
    except Exception:  # whatever is odd about this interpreter, `import torch` goes on
        return
