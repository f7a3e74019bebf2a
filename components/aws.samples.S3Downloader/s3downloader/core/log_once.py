"""Logging of troubles that last."""

from __future__ import annotations

import logging

__all__ = ["LogOnce"]


class LogOnce:
    """Logs a trouble once, however often it is met before it is over."""

    def __init__(self, logger: logging.Logger, level: int = logging.WARNING) -> None:
        self._logger = logger
        self._level = level
        self._last = ""

    def report(self, text: str) -> None:
        """Log it, unless it is the same as the last."""
        if text != self._last:
            self._logger.log(self._level, "%s", text)
        self._last = text

    def reset(self) -> None:
        """Let the next trouble be logged, also if it is the same."""
        self._last = ""
