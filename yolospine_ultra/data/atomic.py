"""Files that are either whole or not there: written beside their name, then renamed over it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


class AtomicPath(type(Path())):
    """A path whose `write_bytes` cannot leave a half-written file, also when the process is killed."""

    def write_bytes(self, data: bytes) -> int:
        """Write to a sibling, flush it to disk, rename it to this name."""
        # a name of its own, since several processes may write the same file; the last one stays
        sibling = Path(f"{self}.{os.getpid()}-{secrets.token_hex(4)}.part")
        try:
            with open(sibling, "wb") as f:
                written = f.write(data)
                f.flush()
                os.fsync(f.fileno())
            os.replace(sibling, self)
        except BaseException:
            sibling.unlink(missing_ok=True)
            raise
        return written
