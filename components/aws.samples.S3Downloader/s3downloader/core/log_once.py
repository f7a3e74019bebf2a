"""Logs a lasting problem once, not at every attempt."""

from __future__ import annotations

import logging

__all__ = ["LogOnce"]


class LogOnce:
    """Logs a report, unless it is the same as the last one."""

    def __init__(self, log: logging.Logger, level: int = logging.WARNING) -> None:
        self._log = log
        self._level = level
        self._last = ""

    def report(self, text: str, *values: object) -> None:
        """Log `text % values`, as the methods of a logger do, unless it is the same as the last."""
        message = text % values if values else text
        if message != self._last:
            self._log.log(self._level, "%s", message)
        self._last = message

    def reset(self) -> None:
        """Mark the problem as over: the next report is logged, even if it is the same."""
        self._last = ""
