"""Passes calls and results from the threads of the AWS SDK to the event loop."""

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

__all__ = ["SDK_ERRORS", "EventLoopBridge", "client_bootstrap"]

T = TypeVar("T")

SDK_ERRORS = (AwsCrtError, RuntimeError, OSError)
"""The exceptions that the SDK raises.

AwsCrtError is for an error code of its C library. RuntimeError is for a call that the library
refuses at once, and for errors of the IPC. OSError is for codes that have a built-in exception, and
includes TimeoutError.
"""


@cache
def client_bootstrap() -> ClientBootstrap:
    """Return the bootstrap that all clients share, with one I/O thread.

    By default the SDK starts one I/O thread for each processor.
    """
    group = EventLoopGroup(num_threads=1)
    return ClientBootstrap(group, DefaultHostResolver(group))


class EventLoopBridge:
    """Lets the SDK's threads call into the event loop that was running when it was made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Schedule `function` on the event loop's thread. Does nothing if the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)

    async def result(self, future: Future[T], *, within: float) -> T:
        """Return the result of the SDK's `future`. Raises TimeoutError after `within` seconds.

        The future is not cancelled, because the SDK completes it from its own thread in any case.
        """
        done = asyncio.Event()
        future.add_done_callback(lambda _: self.call(done.set))
        async with timeout(within):
            await done.wait()
        return future.result()
