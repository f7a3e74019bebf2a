"""What the one who watches sees; `Lines` is the plain form of it, for pipes and logs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from .failure import Interrupted
from .messages import brief, decode

__all__ = ["Lines", "Screen", "Step", "megabytes"]

_REFRESH_INTERVAL = 0.1
_PROGRESS_STEP = 10  # per cent of a download between two lines about it


class Step(NamedTuple):
    """A part of the demo: a word for it, its title, and why it is worth watching."""

    name: str
    title: str
    why: str


class Screen(ABC):
    """Shows `steps` as they come, and the messages; a context manager. `here` shortens paths."""

    beat: float
    """Seconds that a reader is given here and there."""

    def __init__(self, steps: Sequence[Step], here: Path) -> None:
        self._steps = steps
        self._here = str(here)
        self._current = -1
        self._began = time.monotonic()
        self._gone = False

    @abstractmethod
    def begin(self, title: str, text: str) -> None:
        """Show what this is all about."""

    def step(self, number: int) -> None:
        """Show that a step begins; the first is number 0."""
        self._current = number
        with self._while_someone_looks():
            self._show_step(number, self._steps[number])

    @abstractmethod
    def tell(self, text: str) -> None:
        """Show a remark."""

    @abstractmethod
    def done(self, what: str, detail: str = "") -> None:
        """Show what has been done, or was checked and found right."""

    @abstractmethod
    def copyable(self, line: str) -> None:
        """Show a command line, unbroken, so that it works when it is copied."""

    @abstractmethod
    def fail(self, sentence: str, log: Sequence[str]) -> None:
        """Show what went wrong, and the end of the component's log."""

    def message(self, topic: str, payload: bytes) -> None:
        """Show a message; those about progress become bars, where there are any."""
        message = decode(payload) or {}
        with self._while_someone_looks():
            if "downloads" in message and topic.endswith("/status"):
                self._show_status(topic, payload, message["downloads"])
            else:
                self._show_message(topic, payload, message)

    async def keep_fresh(self) -> NoReturn:
        """Keep what moves moving; raise Interrupted when nobody can see it any more."""
        while not self._gone:
            await asyncio.sleep(_REFRESH_INTERVAL)
            with self._while_someone_looks():
                self._refresh()
        raise Interrupted("the terminal is gone")

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    @contextlib.contextmanager
    def _while_someone_looks(self) -> Iterator[None]:
        """A reader who has left, of a pipe or a terminal, is no fault."""
        try:
            yield
        except OSError:
            self._gone = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    @abstractmethod
    def _show_step(self, number: int, step: Step) -> None: ...
    @abstractmethod
    def _show_message(self, topic: str, payload: bytes, message: dict[str, Any]) -> None: ...
    @abstractmethod
    def _show_status(self, topic: str, payload: bytes, downloads: list[dict[str, Any]]) -> None: ...

    def _refresh(self) -> None:
        """Draw again what moves."""
        return


