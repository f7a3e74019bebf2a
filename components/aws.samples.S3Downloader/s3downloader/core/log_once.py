"""Logging of troubles that last."""

from __future__ import annotations

import logging

__all__ = ["LogOnce"]


class LogOnce:
    """Logs a trouble once, however often it is met before it is over."""

    def __init__(self, log: logging.Logger, level: int = logging.WARNING) -> None:
        self._log = log
        self._level = level
        self._last = ""

    def report(self, text: str, *values: object) -> None:
        """Log `text % values`, as the methods of a logger do, unless it is the same as the last."""
        said = text % values if values else text
        if said != self._last:
            self._log.log(self._level, "%s", said)
        self._last = said

    def reset(self) -> None:
        """Let the next trouble be logged, also if it is the same."""
        self._last = ""
