"""What can end the demo before its time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

from s3downloader.core.aio import stop

__all__ = ["Failed", "Interrupted", "unless"]

T = TypeVar("T")


class Failed(Exception):
    """Something did not go as it should; the message is a sentence for the one who watches."""


class Interrupted(Exception):
    """The one who watches has seen enough, or is gone."""


async def unless(*perils: Coroutine[Any, Any, NoReturn], work: Coroutine[Any, Any, T]) -> T:
    """Do `work` and return its result, unless one of `perils` raises before."""
    tasks: list[asyncio.Task[T]] = [asyncio.create_task(each) for each in (work, *perils)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            await stop(task)
