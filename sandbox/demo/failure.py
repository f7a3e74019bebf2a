"""What can end a demo before its time."""

from __future__ import annotations

__all__ = ["Failed", "Interrupted"]


class Failed(Exception):
    """Something did not go as it should; the message is a sentence for the one who watches."""


class Interrupted(Exception):
    """The one who watches has seen enough, or is gone."""
