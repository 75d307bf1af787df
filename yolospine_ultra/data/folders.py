"""Folders that are either whole or not there: written beside their name, then renamed to it; nothing is overwritten."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """Write a folder that appears under its name only when the block has ended well.

    Args:
        out: destination; must not exist, or be an empty folder.

    Yields:
        A folder beside it to write into. It is renamed to `out` at the end, and removed where the block raises. Where
        `out` is a link, what it points to is written.

    Raises:
        FileExistsError: `out` is a file, a folder with something in it or a mount point; or somebody has taken the name
            by the end, and the finished folder keeps the one it has.
    """
    out = Path(out).absolute()
    out = out.resolve() if out.is_symlink() else out
    if os.path.ismount(out):
        raise FileExistsError(f"{out} is a mount point, which cannot be replaced; choose a new one, such as {out}/new.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not an empty folder; remove it or choose another one.")
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    try:
        if out.is_dir():
            out.rmdir()  # empty, or this raises: someone else has filled it meanwhile
        partial.rename(out)
    except OSError as error:
        raise FileExistsError(
            f"{out} cannot be written ({error.strerror}); the finished folder is kept in {partial}."
        ) from None
