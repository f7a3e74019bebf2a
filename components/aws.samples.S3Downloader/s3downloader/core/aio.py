"""Task groups, timeouts and other helpers for asyncio tasks, the same on every supported Python."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable
from typing import Any, TypeVar

if sys.version_info >= (3, 11):
    from asyncio import TaskGroup, timeout
else:
    from taskgroup import TaskGroup, timeout

__all__ = [
    "TaskGroup",
    "background",
    "batches",
    "first_of",
    "run_all",
    "stop",
    "timeout",
    "uninterrupted",
    "unless",
]

log = logging.getLogger(__name__)
T = TypeVar("T")

_CANCEL_AGAIN = 5.0
_background: set[asyncio.Task[Any]] = set()
"""Tasks of `background` that have not ended. The event loop keeps only weak references to tasks."""


def background(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start `work` in a task that nobody awaits. If it raises, log the exception at once.

    The task is kept until it ends. Its owner stops it.
    """
    task = asyncio.create_task(work)
    _background.add(task)
    task.add_done_callback(_log_failure)
    return task


def _log_failure(task: asyncio.Task[Any]) -> None:
    _background.discard(task)
    if not task.cancelled() and (error := task.exception()):
        name = getattr(task.get_coro(), "__qualname__", task.get_name())
        log.error("the task %s failed", name, exc_info=error)


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end, even if the caller is cancelled. Then raise the cancellation."""
    task = asyncio.ensure_future(work)
    interruption: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as cancelled:
            interruption = cancelled
        except Exception:
            break
    if interruption is not None:
        _log_failure(task)
        raise interruption
    return task.result()


async def stop(task: asyncio.Task[Any] | None) -> None:
    """Cancel `task` and wait until it has ended.

    The cancellation is repeated every 5 seconds: before Python 3.12, `asyncio.wait_for`, which
    libraries use, can swallow one.
    """
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_AGAIN)


async def batches(items: AsyncIterable[T], size: int = 1_000) -> AsyncIterator[list[T]]:
    """Yield `items` in lists of at most `size`. No list is empty."""
    batch: list[T] = []
    async for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


async def first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run all `coroutines` until one has ended. Cancel the others, and wait until they have ended.

    Raises the exception of the one that ended first, if it raised one.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await uninterrupted(_stop_all(tasks))


async def run_all(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run all `coroutines` to their end. If one raises, stop the others and raise its exception."""
    if not coroutines:
        return
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        try:
            await uninterrupted(_stop_all(tasks))
        finally:
            for task in tasks:
                if not task.cancelled():
                    task.exception()  # asyncio logs an exception that is never retrieved


async def unless(work: Coroutine[Any, Any, T], loss: Coroutine[Any, Any, object]) -> T:
    """Run `work` in this task. If `loss` raises meanwhile, cancel `work` and raise that exception.

    If the task is cancelled for another reason, `work` receives the cancellation.
    """
    task = asyncio.current_task()
    assert task
    watching = asyncio.ensure_future(loss)

    def cancel_work(_: object) -> None:
        if not watching.cancelled() and watching.exception():
            task.cancel()

    watching.add_done_callback(cancel_work)
    try:
        return await work
    except asyncio.CancelledError:
        if watching.done():
            watching.result()
        raise
    finally:
        await stop(watching)


async def _stop_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        await stop(task)
