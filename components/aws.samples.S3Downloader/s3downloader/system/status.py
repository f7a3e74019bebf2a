"""What stands at a path."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["status_of"]


def status_of(path: str | Path) -> os.stat_result | None:
    """Return the status of what `path` itself names, by lstat(2); None where nothing is there."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
