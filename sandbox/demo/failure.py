"""The exceptions that end the demo early."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

from s3downloader.core.aio import stop

__all__ = ["Failed", "Interrupted", "run_monitored"]

T = TypeVar("T")


class Failed(Exception):
    """A step or a check failed; the message is a sentence for the viewer."""


class Interrupted(Exception):
    """The viewer has interrupted the demo, or closed its output."""


async def run_monitored(
    *monitors: Coroutine[Any, Any, NoReturn], work: Coroutine[Any, Any, T]
) -> T:
    """Run `work` and return its result; raise what one of `monitors` raises before that."""
    tasks: list[asyncio.Task[T]] = [asyncio.create_task(each) for each in (work, *monitors)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            await stop(task)
