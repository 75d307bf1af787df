"""Which image of a dataset is meant by the name that another file gives it.

Written for this project. Files of predictions, of readers and of seconds call an image by its path, its file name, its
stem, or, as the host's `image_id` does, by the number that its stem is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class ImageNames:
    """The names of a dataset's images, for looking up.

    Args:
        names: of I images, each once, with folders where these tell images apart.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._known: dict[str, list[int]] = {}  # by file name and by stem, kept apart by a prefix
        for i, name in enumerate(self.names):
            path = Path(name)
            stems = {path.stem, str(int(path.stem))} if path.stem.isdecimal() else {path.stem}
            for key in {f"name:{path.name}", *(f"stem:{s}" for s in stems)}:
                self._known.setdefault(key, []).append(i)

    def find(self, name: str) -> list[int]:
        """Indices of the images that a name may mean: none, one, or several.

        A file name is tried before a stem, which may have dots. Folders that both names have must be the same, from
        the last on: `train/a.png` is not `val/a.png`, while `a.png` may be either.
        """
        path = Path(name)
        for key in (f"name:{path.name}", f"stem:{path.name}", f"stem:{path.stem}"):
            found = [i for i in self._known.get(key, ()) if _agree(path, Path(self.names[i]))]
            if found:
                return [i for i in found if self.names[i] == path.as_posix()] or found
        return []


def _agree(one: Path, other: Path) -> bool:
    """Whether the folders that both have are the same."""
    shared = min(len(one.parts), len(other.parts))
    return one.parts[-shared:-1] == other.parts[-shared:-1]
