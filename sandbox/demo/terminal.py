"""Shows the demo on a terminal: lines scroll, and the present progress stays below them."""

from __future__ import annotations

import contextlib
import sys
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.highlighter import JSONHighlighter
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from .screen import FROM_DEVICE, Mark, Screen, Step, amount

__all__ = ["Terminal"]

_COLOURS = {"paused": "yellow", "verifying": "green", "publishing": "green", "failed": "red"}
_TOPIC_WIDTH = len("get/accepted")
_as_json = JSONHighlighter()


class Terminal(Screen):
    """A terminal of any width, with the steps and the progress bars in a footer."""

    def __init__(self, steps: Sequence[Step], base: Path, *, reading_time: float) -> None:
        super().__init__(steps, base)
        self.reading_time = reading_time
        self._stack = contextlib.ExitStack()
        self._downloads: list[dict[str, Any]] = []
        self._status: RenderableType = ""
        self._hint = ""
        self._drawn = False
        self._live = Live(
            console=Console(force_terminal=True, highlight=False),
            get_renderable=self._foot,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Screen:
        if sys.stdin.isatty():
            self._stack.enter_context(_without_echo(sys.stdin.fileno()))
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._noticing_closed_output(), self._stack:
            self._live.stop()

    def begin(self, title: str, text: str) -> None:
        """Show what the demo is about, in a box."""
        self._print(Panel(text, title=f"[bold]{title}", title_align="left", border_style="cyan"))

    def verbatim(self, line: str) -> None:
        with self._noticing_closed_output():
            self._live.console.print(Text(line), soft_wrap=True)

    def hint(self, text: str) -> None:
        """Show in the footer what the viewer can do now."""
        self._hint = text
        self._drawn = False

    def _heading(self, number: str, title: str) -> None:
        badge = Text(f" {number} ", style="bold black on cyan") if number else Text()
        words = Text.assemble(badge, f" {title} ", style="bold")
        self._print("", Rule(words, align="left", style="dim cyan"))

    def _line(self, text: str, mark: Mark | None = None) -> None:
        if mark is None:
            self._print(Padding(Text(text, style="italic"), (0, 4)))
            return
        self._print(self._row(mark, Text(text)))

    def _message(self, topic: str, payload: bytes, mark: Mark) -> None:
        self._print(self._message_row(topic, payload, mark))

    def _progress(self, topic: str, payload: bytes, downloads: list[dict[str, Any]]) -> None:
        self._downloads = downloads
        self._status = self._message_row(topic, payload, FROM_DEVICE)
        self._drawn = False

    def _message_row(self, topic: str, payload: bytes, mark: Mark) -> RenderableType:
        name = "/".join(topic.split("/")[-2 if topic.startswith("$aws") else -1 :])
        words = Table.grid(padding=(0, 1))
        words.add_column(width=_TOPIC_WIDTH, style=mark.style)
        words.add_row(name, _as_json(self._brief(payload)))
        return self._row(mark, words)

    def _row(self, mark: Mark, words: RenderableType) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        row.add_column(width=len(self._elapsed), style="dim")
        row.add_column(style=f"bold {mark.style}")
        row.add_row(self._elapsed, mark.sign, words)
        return row

    def _print(self, *renderables: RenderableType) -> None:
        with self._noticing_closed_output():
            self._live.console.print(*renderables, sep="\n")

    def _refresh(self) -> None:
        if self._drawn and self._hint:
            return  # a footer that does not change lets the viewer select and copy lines
        with self._noticing_closed_output():
            self._live.refresh()
        self._drawn = True

    def _foot(self) -> RenderableType:
        now = Text(f" {self._hint}", style="bold") if self._hint else self._tracker()
        bars = [self._bar(download) for download in self._downloads]
        return Group(Rule(style="dim"), now, *bars, self._status)

    def _tracker(self) -> RenderableType:
        words = Text(no_wrap=True)
        for number, step in enumerate(self._steps):
            if number < self._step:
                words.append(f" ✓ {step.name}", style="green")
            elif number == self._step:
                words.append(f" ● {step.name}", style="bold cyan")
            else:
                words.append(f" ○ {step.name}", style="dim")
        row = Table.grid(expand=True)
        row.add_column(ratio=1)
        row.add_column(justify="right", style="dim")
        row.add_row(words, self._elapsed)
        return row

    def _bar(self, download: dict[str, Any]) -> RenderableType:
        status, rate, left = (
            download[key] for key in ("status", "bytes_per_second", "eta_seconds")
        )
        colour = _COLOURS.get(status, "cyan")
        row = Table.grid(expand=True, padding=(0, 1))
        row.add_column()
        row.add_column(width=11, style=colour)
        row.add_column(ratio=1)
        for width in (5, 10, 8, 6):
            row.add_column(width=width, justify="right", no_wrap=True)
        row.add_row(
            Text(f" {download['download_id']}", style="bold"),
            status,
            ProgressBar(total=100, completed=download["progress"], complete_style=colour),
            f"{download['progress']:.0f} %",
            f"{download['bytes_done'] / 1e6:.0f}/{amount(download['bytes_total'])}",
            f"{amount(rate)}/s" if rate else "",
            "" if left is None else f"{left} s",
        )
        return row


@contextlib.contextmanager
def _without_echo(keyboard: int) -> Iterator[None]:
    """Turn off the terminal's echo, so that what is typed does not disturb the output."""
    before = termios.tcgetattr(keyboard)
    changed = [*before]
    changed[3] &= ~termios.ECHO
    termios.tcsetattr(keyboard, termios.TCSADRAIN, changed)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
