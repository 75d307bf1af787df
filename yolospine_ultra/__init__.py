"""yolospine_ultra: two-stage, multi-label, overlap-aware detection for Ultralytics. Importing it registers it."""

from __future__ import annotations

from yolospine_ultra._version import __version__
from yolospine_ultra.plugin import cfg_dir, register
from yolospine_ultra.registry import register_block, register_head

__all__ = ["__version__", "cfg_dir", "register", "register_block", "register_head"]

register()
