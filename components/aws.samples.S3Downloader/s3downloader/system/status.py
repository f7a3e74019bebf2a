"""Reads the status of a path."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["status_of"]


def status_of(path: str | Path) -> os.stat_result | None:
    """Return the status of `path` itself, as lstat(2). None if it does not exist."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
