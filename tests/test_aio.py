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
