"""The schema, and how a state of an older version becomes one of the present."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files as resources

__all__ = ["MIGRATIONS", "schema"]

_CHECKSUMS = """
ALTER TABLE files ADD COLUMN sha256 TEXT NOT NULL DEFAULT '';
ALTER TABLE files ADD COLUMN checksum TEXT NOT NULL DEFAULT ''
"""

MIGRATIONS: Sequence[str] = (_CHECKSUMS,)
"""Step N brings a state of version N + 1 to version N + 2."""


def schema() -> str:
    """Return the statements that make an empty state of the present version."""
    return resources(__package__).joinpath("schema.sql").read_text()
