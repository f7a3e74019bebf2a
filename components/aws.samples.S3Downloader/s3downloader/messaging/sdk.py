"""Where the threads of the AWS SDK meet the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from typing import TypeVar

from awscrt.exceptions import AwsCrtError
from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup

from ..core.aio import timeout

__all__ = ["SDK_ERRORS", "EventLoopDoor", "client_bootstrap"]

T = TypeVar("T")

SDK_ERRORS = (AwsCrtError, RuntimeError, OSError)
"""What the SDK raises: its own error for a code of its C library, RuntimeError where the library
refuses a call at once and for what goes wrong in the IPC, a built-in one where it knows a fitting
one. TimeoutError is an OSError."""


@cache
def client_bootstrap() -> ClientBootstrap:
    """Return the SDK's one I/O thread; by default the SDK starts one for each processor."""
    group = EventLoopGroup(num_threads=1)
    return ClientBootstrap(group, DefaultHostResolver(group))


class EventLoopDoor:
    """The one way for the SDK's threads into the running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Have `function` called on the event loop's thread, unless the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)

    async def result(self, future: Future[T], *, within: float) -> T:
        """Return what the SDK completes `future` with; TimeoutError after `within` seconds.

        The future is never cancelled: the SDK completes it from its own thread in any case.
        """
        done = asyncio.Event()
        future.add_done_callback(lambda _: self.call(done.set))
        async with timeout(within):
            await done.wait()
        return future.result()
