"""Shows the demo: headings, remarks, checks and messages, in the order in which they happen."""

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
_PROGRESS_STEP = 10  # percent of a download between two lines about it


class Mark(NamedTuple):
    """The sign before a line, and its style in the syntax of the package rich."""

    sign: str
    style: str


DONE = Mark("✓", "green")
FAILED = Mark("✗", "red")
TO_DEVICE = Mark("→", "cyan")
FROM_DEVICE = Mark("←", "green")
REFUSED = Mark("←", "red")


class Step(NamedTuple):
    """A part of the demo: its short name, its title, and what it shows."""

    name: str
    title: str
    text: str


class Screen(ABC):
    """The output of the demo; a context manager. In paths, `base` is replaced by `…`.

    A method that prints does not raise if the output has been closed; `keep_refreshed` does.
    """

    reading_time = 0.0
    """Seconds that the demo waits before each step, for the viewer to read."""

    def __init__(self, steps: Sequence[Step], base: Path) -> None:
        self._steps = steps
        self._step = -1
        self._base = str(base)
        self._began = time.monotonic()
        self._is_closed = False

    def begin(self, title: str, text: str) -> None:
        """Show what the demo is about."""
        self.heading(title)
        self._line(text)

    def step(self, number: int) -> None:
        """Show the title of a step; the first is number 0."""
        self._step = number
        self._heading(str(number + 1), self._steps[number].title)
        self._line(self._steps[number].text)

    def remark(self, text: str) -> None:
        """Show a remark."""
        self._line(text)

    def heading(self, title: str) -> None:
        """Show a heading that is not the title of a step."""
        self._heading("", title)

    def hint(self, text: str) -> None:
        """Show what the viewer can do now."""
        self._line(text)

    def done(self, text: str) -> None:
        """Show what has been done, or what a check has confirmed."""
        self._line(text, DONE)

    def end(self) -> None:
        """Show that all steps have succeeded."""
        self._step = len(self._steps)
        self.heading(f"✓ All {self._step} steps succeeded, in {self._elapsed.strip()}")

    def fail(self, sentence: str, log: Sequence[str]) -> None:
        """Show what went wrong, and the end of the component's log."""
        self.heading("The demo failed")
        self._line(sentence, FAILED)
        if log:
            self._line("The end of the component's log:")
        for line in log:
            self.verbatim(line)

    def message(self, topic: str, payload: bytes) -> None:
        """Show a message. A periodic status updates the progress instead."""
        message = decode(payload) or {}
        if is_status(message):
            self._progress(topic, payload, message["downloads"])
        else:
            self._message(topic, payload, _mark(topic, message))

    async def keep_refreshed(self) -> NoReturn:
        """Refresh the output every 0.1 s; raise Interrupted once it has been closed."""
        while not self._is_closed:
            self._refresh()
            await asyncio.sleep(_REFRESH_INTERVAL)
        raise Interrupted

    @abstractmethod
    def verbatim(self, line: str) -> None:
        """Show a line unchanged and unwrapped, so that it can be copied."""

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
        return brief(payload, base=self._base)

    @property
    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._began:5.1f} s"

    @contextlib.contextmanager
    def _noticing_closed_output(self) -> Iterator[None]:
        try:
            yield
        except OSError:  # the terminal, or the other end of the pipe, has been closed
            self._is_closed = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        return


class Lines(Screen):
    """Prints plain lines, one for each message, for pipes and logs."""

    def __init__(self, steps: Sequence[Step], base: Path) -> None:
        super().__init__(steps, base)
        self._shown: dict[str, tuple[str, int]] = {}
        """By download ID, the state and the tenths of progress that the last line showed."""

    def verbatim(self, line: str) -> None:
        with self._noticing_closed_output():
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
            new = (download["status"], int(download["progress"] / _PROGRESS_STEP))
            if self._shown.get(name) != new:
                self._shown[name] = new
                self.verbatim(f"{self._elapsed} {FROM_DEVICE.sign} {topic} {summary(download)}")

    def _refresh(self) -> None:
        """Do nothing: printed lines do not change."""


def summary(download: dict[str, Any]) -> str:
    """Return a line on a download, from its entry in a status."""
    words = f"{download['download_id']} {download['status']} {download['progress']:.0f} %"
    words += f", {amount(download['bytes_done'])} of {amount(download['bytes_total'])}"
    if download["bytes_per_second"]:
        words += f", {amount(download['bytes_per_second'])}/s, {download['eta_seconds']} s left"
    return words


def amount(count: float) -> str:
    """Return a number of bytes in megabytes, such as `288 MB` or `1.5 MB`."""
    return f"{count / 1e6:.0f} MB" if count >= 1e7 else f"{count / 1e6:.1f} MB"


def _mark(topic: str, message: dict[str, Any]) -> Mark:
    if topic.endswith(("/commands", "/get")):
        return TO_DEVICE
    return REFUSED if message.get("success") is False or "error_code" in message else FROM_DEVICE
