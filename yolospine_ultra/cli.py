"""The `yolospine` command: Ultralytics' own command line with the plugin registered, also where autoload is off."""

from __future__ import annotations


def main() -> None:
    """Register, then hand over to `ultralytics.cfg.entrypoint`, which reads ``sys.argv``."""
    from ultralytics.cfg import entrypoint

    import yolospine_ultra  # noqa: F401

    entrypoint()
