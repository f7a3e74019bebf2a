"""What the one who watches sees: headings, remarks, checks and messages, in the order of time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from .failure import Interrupted
from .messages import brief, decode, is_status

__all__ = ["FROM_DEVICE", "Lines", "Mark", "Screen", "Step", "amount"]

_REFRESH_INTERVAL = 0.1
_PROGRESS_STEP = 10  # per cent of a download between two lines about it


class Mark(NamedTuple):
    """A sign before a line, and rich's style for it."""

    sign: str
    style: str


DONE = Mark("✓", "green")
FAILED = Mark("✗", "red")
TO_DEVICE = Mark("→", "cyan")
FROM_DEVICE = Mark("←", "green")
REFUSED = Mark("←", "red")


class Step(NamedTuple):
    """A part of the demo: a word for it, its title, and why it is worth watching."""

    name: str
    title: str
    why: str


class Screen(ABC):
    """Where the demo is shown; a context manager. `here` is the directory that paths begin at.

    Nothing is raised when the one who watches is gone: `keep_fresh` tells.
    """

    reading_time = 0.0
    """Seconds that a reader is given before each step."""

    def __init__(self, steps: Sequence[Step], here: Path) -> None:
        self._steps = steps
        self._step = -1
        self._here = str(here)
        self._began = time.monotonic()
        self._gone = False

    def begin(self, title: str, text: str) -> None:
        """Show what this is all about."""
        self.heading(title)
        self._line(text)

    def step(self, number: int) -> None:
        """Show that a step begins; the first is number 0."""
        self._step = number
        self._heading(str(number + 1), self._steps[number].title)
        self._line(self._steps[number].why)

    def tell(self, text: str) -> None:
        """Show a remark."""
        self._line(text)

    def heading(self, title: str) -> None:
        """Show that something else than a step begins."""
        self._heading("", title)

    def hint(self, text: str) -> None:
        """Show what can be done now, for as long as it can be done."""
        self._line(text)

    def done(self, text: str) -> None:
        """Show what has been done, or was checked and found right."""
        self._line(text, DONE)

    def end(self) -> None:
        """Show that all steps are done."""
        self._step = len(self._steps)
        self.heading(f"✓ All {self._step} steps went as they should, in {self._elapsed.strip()}")

    def fail(self, sentence: str, log: Sequence[str]) -> None:
        """Show what went wrong, and the end of the component's log."""
        self.heading("It did not go as it should")
        self._line(sentence, FAILED)
        if log:
            self._line("The end of the component's log:")
        for line in log:
            self.verbatim(line)

    def message(self, topic: str, payload: bytes) -> None:
        """Show a message; those about progress move the bars, where there are any."""
        message = decode(payload) or {}
        if is_status(message):
            self._progress(topic, payload, message["downloads"])
        else:
            self._message(topic, payload, _mark(topic, message))

    async def keep_fresh(self) -> NoReturn:
        """Keep moving what moves; raise Interrupted when nobody is there to see it."""
        while not self._gone:
            self._refresh()
            await asyncio.sleep(_REFRESH_INTERVAL)
        raise Interrupted

    @abstractmethod
    def verbatim(self, line: str) -> None:
        """Show a line as it is, unbroken, so that it can be copied."""

    @abstractmethod
    def _heading(self, number: str, title: str) -> None: ...
    @abstractmethod
    def _line(self, text: str, mark: Mark | None = None) -> None: ...
    @abstractmethod
    def _message(self, topic: str, payload: bytes, mark: Mark) -> None: ...
    @abstractmethod
    def _progress(self, topic: str, payload: bytes, downloads: list[dict[str, Any]]) -> None: ...
    @abstractmethod
    def _refresh(self) -> None: ...

    def _brief(self, payload: bytes) -> str:
        return brief(payload, here=self._here)

    @property
    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._began:5.1f} s"

    @contextlib.contextmanager
    def _while_watched(self) -> Iterator[None]:
        try:
            yield
        except OSError:  # the reader of the pipe, or the terminal, is gone
            self._gone = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        return


class Lines(Screen):
    """Plain lines, a message each, for pipes and logs."""

    def __init__(self, steps: Sequence[Step], here: Path) -> None:
        super().__init__(steps, here)
        self._told: dict[str, tuple[str, int]] = {}

    def verbatim(self, line: str) -> None:
        with self._while_watched():
            print(line, flush=True)

    def _heading(self, number: str, title: str) -> None:
        self.verbatim("")
        self.verbatim(f"Step {number} of {len(self._steps)}: {title}" if number else title)

    def _line(self, text: str, mark: Mark | None = None) -> None:
        self.verbatim(f"{self._elapsed} {mark.sign} {text}" if mark else f"  {text}")

    def _message(self, topic: str, payload: bytes, mark: Mark) -> None:
        self.verbatim(f"{self._elapsed} {mark.sign} {topic} {self._brief(payload)}")

    def _progress(self, topic: str, payload: bytes, downloads: list[dict[str, Any]]) -> None:
        for download in downloads:
            name = download["download_id"]
            news = (download["status"], int(download["progress"] / _PROGRESS_STEP))
            if self._told.get(name) != news:
                self._told[name] = news
                self.verbatim(f"{self._elapsed} {FROM_DEVICE.sign} {topic} {summary(download)}")

    def _refresh(self) -> None:
        """What is printed stays."""


def summary(download: dict[str, Any]) -> str:
    """Return in words what a status tells of a download."""
    words = f"{download['download_id']} {download['status']} {download['progress']:.0f} %"
    words += f", {amount(download['bytes_done'])} of {amount(download['bytes_total'])}"
    if download["bytes_per_second"]:
        words += f", {amount(download['bytes_per_second'])}/s, {download['eta_seconds']} s left"
    return words


def amount(count: float) -> str:
    """Return bytes as people say them."""
    return f"{count / 1e6:.0f} MB" if count >= 1e7 else f"{count / 1e6:.1f} MB"


def _mark(topic: str, message: dict[str, Any]) -> Mark:
    if topic.endswith(("/commands", "/get")):
        return TO_DEVICE
    return REFUSED if message.get("success") is False or "error_code" in message else FROM_DEVICE
