"""Files that are either whole or not there: written beside their name, then renamed over it."""

from __future__ import annotations

import os
from pathlib import Path


class AtomicPath(type(Path())):
    """A path whose `write_bytes` cannot leave a half-written file, also when the process is killed."""

    def write_bytes(self, data: bytes) -> int:
        """Write to a sibling, flush it to disk, rename it to this name."""
        sibling = Path(f"{self}.part")
        with open(sibling, "wb") as f:
            written = f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(sibling, self)
        return written
