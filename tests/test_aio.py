"""Work side by side ends as a whole, and tells of one failure."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from s3downloader.aio import together


async def test_of_several_that_fail_at_once_one_is_told_and_the_others_are_not_complained_of() -> (
    None
):
    complaints: list[dict[str, Any]] = []
    gc.collect()  # what others left is not told here
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    try:
        gate = asyncio.Event()

        async def fail() -> None:
            await gate.wait()
            raise OSError("the disk is gone")

        asyncio.get_running_loop().call_soon(gate.set)
        with pytest.raises(OSError, match="the disk is gone"):
            await together(fail(), fail(), fail())
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
        await together(wait(), fail(), wait())
    assert stopped == [True, True]


async def test_who_is_impatient_while_the_others_are_stopped_leaves_none_running() -> None:
    stopped = []
    leave = asyncio.Event()

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await leave.wait()
            stopped.append(True)

    running = asyncio.create_task(together(linger(), linger(), linger()))
    for _ in range(3):
        for _ in range(10):  # turns of the event loop, in which each task gets as far as it can
            await asyncio.sleep(0)
        running.cancel()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert stopped == [True, True, True]
