"""Concurrent work ends together, and reports one failure."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from s3downloader.core.aio import background, first_of, run_all, stop, uninterrupted, unless

from ..support import eventually


async def test_of_several_failures_at_once_one_is_raised_quietly() -> None:
    complaints: list[dict[str, Any]] = []
    gc.collect()  # exceptions of other tests do not count here
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    try:
        gate = asyncio.Event()

        async def fail() -> None:
            await gate.wait()
            raise OSError("the disk is gone")

        asyncio.get_running_loop().call_soon(gate.set)
        with pytest.raises(OSError, match="the disk is gone"):
            await run_all(fail(), fail(), fail())
        gc.collect()
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
    assert complaints == []


async def test_the_others_are_stopped_when_one_fails() -> None:
    stopped = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(True)

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        await run_all(wait(), fail(), wait())
    assert stopped == [True, True]


async def test_cancelling_again_while_others_stop_leaves_none_running() -> None:
    stopped = []
    leave = asyncio.Event()

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await leave.wait()
            stopped.append(True)

    running = asyncio.create_task(run_all(linger(), linger(), linger()))
    for _ in range(3):
        for _ in range(
            10
        ):  # iterations of the event loop, in which each task gets as far as it can
            await asyncio.sleep(0)
        running.cancel()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert stopped == [True, True, True]


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def until_cancelled(ended: list[str], fault: Exception | None = None) -> None:
    try:
        await never()
    finally:
        ended.append("ended")
        if fault:
            raise fault


async def lose(reason: str) -> None:
    await asyncio.sleep(0)
    raise ValueError(reason)


async def test_work_that_loses_its_ground_ends_and_says_why() -> None:
    ended: list[str] = []
    with pytest.raises(ValueError, match="lost"):
        await unless(until_cancelled(ended), lose("lost"))
    assert ended == ["ended"]


async def test_work_that_loses_nothing_returns_its_result() -> None:
    async def work() -> int:
        return 5

    assert await unless(work(), never()) == 5


async def test_work_that_raises_stops_the_watch() -> None:
    watched: list[str] = []
    with pytest.raises(ValueError, match="own"):
        await unless(lose("own"), until_cancelled(watched))
    assert watched == ["ended"]


@pytest.mark.parametrize("fault", [None, OSError("disk")])
async def test_work_that_is_stopped_ends_as_it_ends_itself(fault: OSError | None) -> None:
    ended: list[str] = []
    task = asyncio.create_task(unless(until_cancelled(ended, fault), never()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(OSError if fault else asyncio.CancelledError):
        await task
    assert ended == ["ended"]


async def test_a_failure_in_background_is_logged_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = background(lose("ground"))
    await asyncio.wait([task])
    [record] = await eventually(lambda: caplog.records)
    assert record.message == "the task lose failed"
    assert record.exc_info
    assert record.exc_info[1] is task.exception()


async def test_background_work_lives_without_a_reference() -> None:
    task = weakref.ref(background(never()))  # nothing else refers to its future
    await asyncio.sleep(0)
    gc.collect()
    assert task() is not None
    await stop(task())


async def test_a_stopped_background_task_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    await stop(background(never()))
    await asyncio.sleep(0)
    assert caplog.records == []


async def test_a_failure_of_work_whose_caller_left_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caller = asyncio.create_task(uninterrupted(lose("disk")))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert caplog.messages == ["the task lose failed"]


async def test_of_two_the_first_that_fails_is_raised() -> None:
    with pytest.raises(ValueError, match="first"):
        await first_of(lose("first"), never())
