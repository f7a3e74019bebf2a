"""Structured concurrency, under one name on every supported Python."""

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
"""What `background` has started and has not ended: the event loop keeps weak references only."""


def background(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start `work` in a task whose end nobody waits for; log an error in it at once.

    The task is kept until it ends. Stop it where its owner ends.
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
    """Run `work` to its end even if the caller is cancelled meanwhile; then be cancelled."""
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

    Once may not be enough: before Python 3.12 `asyncio.wait_for`, which libraries use, can swallow
    a cancellation.
    """
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_AGAIN)


async def batches(items: AsyncIterable[T], size: int = 1_000) -> AsyncIterator[list[T]]:
    """Gather `items` into lists of at most `size`; none of them is empty."""
    batch: list[T] = []
    async for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


async def first_of(*works: Coroutine[Any, Any, object]) -> None:
    """Run all `works`; when the first has ended, cancel the others and wait until they ended.

    Raises what the first raised.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await uninterrupted(_stop_all(tasks))


async def run_all(*works: Coroutine[Any, Any, object]) -> None:
    """Run all `works`, if any, to their end; when one raises, stop the others and raise that."""
    if not works:
        return
    tasks = [asyncio.ensure_future(work) for work in works]
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
                    task.exception()  # one is told, and asyncio is not to complain of the others


async def unless(work: Coroutine[Any, Any, T], loss: Coroutine[Any, Any, object]) -> T:
    """Run `work` in this task; when `loss` raises meanwhile, cancel `work` and raise that.

    Cancelled by others, it ends as `work` does.
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
