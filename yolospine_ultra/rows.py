"""YAML rows of registered modules: how a model with them is built by the host's own parser.

Each row of ours is replaced by a stock stand-in with the same channel rule, `Conv` for a block and `Detect` for a head;
the host's parser does scales, widths, repeats and the save list; then the channels are read off the stand-ins and the
real modules take their place. Only the parser's contract is used, a dict in, a Sequential and a save list out, so it
survives changes inside the parser, and YAMLs without a row of ours go through untouched.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable
from copy import deepcopy
from inspect import signature
from pathlib import Path
from typing import Any

import torchvision
from torch import nn
from ultralytics.nn.tasks import guess_model_scale
from ultralytics.utils import LOGGER, YAML

from yolospine_ultra.registry import BLOCKS, HEADS

Parser = Callable[..., tuple[nn.Sequential, list[int]]]
SCALED_NAME = re.compile(r"^(?P<base>.+)-(?P<scale>[nslmx])$")


class ModelConfigError(ValueError):
    """A model YAML that cannot be built; the message names the row, what was expected and what was found."""


def own_rows(d: dict[str, Any]) -> dict[int, list]:
    """Rows of registered modules in a model dictionary, by their index."""
    return {i: row for i, row in enumerate(d["backbone"] + d["head"]) if row[2] in BLOCKS or row[2] in HEADS}


def head_facade(d: dict[str, Any]) -> str | None:
    """Dotted name of the facade of the dictionary's head, None where the head is not a registered one."""
    entry = HEADS.get(d["head"][-1][2]) if isinstance(d.get("head"), list) and d["head"] else None
    return entry.facade if entry else None


def parse_with_own_rows(parser: Parser, known: dict[str, Any], d: dict, ch: int, verbose: bool = True) -> tuple:
    """Build a model dictionary that may contain registered modules.

    Args:
        parser: the host's `parse_model`.
        known: names the host's parser resolves, its module's globals.
        d: model dictionary, as loaded from YAML.
        ch: input channels.
        verbose: print a line a layer.

    Returns:
        The layers and the save list.

    Raises:
        ModelConfigError: a row names an unknown module, or cannot be built with the channels it is given.
    """
    _check_names(d, known)
    own = own_rows(d)
    if not own:
        return parser(d, ch, verbose)
    stand_in = deepcopy(d)
    if stand_in.get("scales") and not stand_in.get("scale") and stand_in.get("default_scale"):
        stand_in["scale"] = stand_in["default_scale"]
    rows = stand_in["backbone"] + stand_in["head"]
    for i, (_, _, name, args) in own.items():
        if name in BLOCKS and not args:
            raise ModelConfigError(f"Row {i}, '{name}': the first argument, its output channels, is missing.")
        rows[i][2:] = ["Conv", [args[0], 1, 1]] if name in BLOCKS else ["Detect", ["nc"]]
    try:
        layers, save = parser(stand_in, ch, verbose=False)
    except (RuntimeError, IndexError, KeyError, TypeError, ValueError) as e:
        raise ModelConfigError(f"The model YAML cannot be built: {type(e).__name__}: {e}") from e
    for i, row in own.items():
        layers[i] = _replace(layers[i], i, row, d)
    if verbose:
        for m in layers:
            LOGGER.info(f"{m.i:>3}{m.f!s:>20}{m.np:12.0f}  {m.type}")
    return layers, save


def _check_names(d: dict[str, Any], known: dict[str, Any]) -> None:
    """Refuse a row whose module neither the host nor a registration knows, naming near spellings."""
    for i, row in enumerate(d["backbone"] + d["head"]):
        name = row[2]
        if name.startswith("nn."):
            found = hasattr(nn, name[3:])
        elif name.startswith("torchvision.ops."):
            found = hasattr(torchvision.ops, name[16:])
        else:
            found = name in known or name in BLOCKS or name in HEADS
        if not found:
            modules = [k for k, v in known.items() if isinstance(v, type) and issubclass(v, nn.Module)]
            near = difflib.get_close_matches(name, [*modules, *BLOCKS, *HEADS])
            hint = f" Did you mean {' or '.join(near)}?" if near else " Own modules need @register_block, see README."
            raise ModelConfigError(f"Row {i} of the model YAML names an unknown module '{name}'.{hint}")


def _replace(stand_in: nn.Module, i: int, row: list, d: dict[str, Any]) -> nn.Module:
    """The real module for a stand-in, with the attributes that the host's parser would have set."""
    _, _, name, args = row
    args = [_literal(a, d) for a in args]
    if name in HEADS:
        cls = HEADS[name].cls
        channels = tuple(branch[0].conv.in_channels for branch in stand_in.cv2)
        named = {"ch": channels}
        taken = signature(cls)
        if "reg_max" in d and "reg_max" in taken.parameters.keys() - taken.bind_partial(*args).arguments.keys():
            named["reg_max"] = d["reg_max"]  # the model's, as for the host's heads
        build = [lambda: cls(*args, **named)]
    else:
        entry = BLOCKS[name]
        first = stand_in[0] if isinstance(stand_in, nn.Sequential) else stand_in
        n = len(stand_in) if isinstance(stand_in, nn.Sequential) else 1
        c1, c2 = channels = first.conv.in_channels, first.conv.out_channels
        if entry.repeats:
            build = [lambda: entry.cls(c1, c2, n, *args[1:])]
        else:
            build = [lambda c=c: entry.cls(c, c2, *args[1:]) for c in (c1, *[c2] * (n - 1))]
    try:
        modules = [make() for make in build]
    except Exception as e:
        raise ModelConfigError(
            f"Row {i} of the model YAML, {row}, cannot be built with channels {channels}: {type(e).__name__}: {e}"
        ) from e
    module = modules[0] if len(modules) == 1 else nn.Sequential(*modules)
    kind = type(modules[0])
    module.i, module.f, module.type = i, stand_in.f, f"{kind.__module__}.{kind.__qualname__}"
    module.np = sum(p.numel() for p in module.parameters())
    return module


def _literal(arg: Any, d: dict[str, Any]) -> Any:
    """An argument of a row: the names nc and reg_max stand for the dictionary's values, other text for literals."""
    if not isinstance(arg, str):
        return arg
    if arg in {"nc", "reg_max"}:
        return d.get(arg, 16)
    try:
        return ast.literal_eval(arg)
    except (ValueError, SyntaxError):
        return arg


def find_model_yaml(path: str | Path, folder: Path) -> tuple[Path, str] | None:
    """The YAML and the scale that a model name such as ``yolospine-n.yaml`` stands for.

    A name ``BASE-s.yaml`` that is no file means ``BASE.yaml`` at scale s; a bare name is looked up in `folder` as well.
    Only YAMLs with registered modules are answered for; for all others the host's own rules hold.

    Args:
        path: what the user gave as the model.
        folder: the plugin's own model YAMLs.

    Returns:
        The existing file and the scale letter, "" where the name gives none, by this rule or the host's; or None.
    """
    path = Path(path)
    if path.suffix not in {".yaml", ".yml"}:
        return None
    match = SCALED_NAME.match(path.stem)
    candidates = [(path, guess_model_scale(path))]
    if match:
        candidates.append((path.with_name(match["base"] + path.suffix), match["scale"]))
    if path.parent == Path("."):
        candidates += [(folder / p.name, scale) for p, scale in candidates]
    for file, scale in candidates:
        if file.is_file():
            d = YAML.load(file)
            rows = d.get("backbone"), d.get("head")
            if all(isinstance(r, list) for r in rows) and own_rows(d):
                return file, scale
            return None
    return None
