"""Sends HTTP requests to all servers.

Only this package knows of connections, proxies, TLS, and threads that wait for a network. Sources
and engines pass a request (`requests.py`) and get the parts of its response.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from ...core.aio import uninterrupted
from ...core.throttle import Share
from .connections import Connections
from .exchange import Exchange, OnChunk, OnHeaders
from .requests import Collector, Completion, HttpRequest

__all__ = ["REQUESTS", "Transport"]

REQUESTS = 512
"""The most requests that run at once. Others wait. Each has a connection and a thread.

Requests whose responses are collected in memory do not count.
"""

_COLLECTED = 16
"""The most requests that run at once, beside those, to collect their responses.

So a command that needs a small response does not wait until large bodies have arrived.
"""


class Transport:
    """Sends requests, and keeps connections for later requests.

    `time_limit` is in seconds. Connecting may take at most that long (and at most ten
    seconds), and the head of the response must arrive within that time. Of the body, MIN_BYTES
    must arrive in each such period of waiting.
    """

    def __init__(
        self,
        *,
        time_limit: float = 30.0,
        requests: int = REQUESTS,
        connections: Connections | None = None,
    ) -> None:
        self.time_limit = time_limit
        self._connections = connections or Connections()
        self._requests = requests
        self._slots = asyncio.Semaphore(requests)
        self._collected_slots = asyncio.Semaphore(_COLLECTED)
        self._threads: ThreadPoolExecutor | None = None

    def close_idle(self) -> None:
        """Close the connections that no request uses, and end idle threads.

        Threads of running requests end after their requests. The transport can be used again.
        """
        if self._threads:
            self._threads.shutdown(wait=False)
            self._threads = None
        self._connections.close_idle()

    async def fetch(
        self,
        request: HttpRequest,
        on_headers: OnHeaders,
        on_chunk: OnChunk,
        share: Share | None = None,
    ) -> Completion:
        """Send a request, and pass the head of its response and then its body to callbacks.

        `on_headers` is called once, then `on_chunk` for each chunk of the body, all in one thread
        and never at the same time. A chunk is valid only during the call. If a callback raises, the
        request ends and the exception is raised here; StopReading only ends the request. `share`
        limits the bandwidth: each chunk is taken from it before more is read.

        When cancelled, it first passes on all bytes that have arrived, including those that the
        kernel still holds. After `fetch` has returned or raised, no callback is called.

        Raises DownloaderError: TIMEOUT as SilenceError; NETWORK_UNREACHABLE, also for a body that
        ends too early; RESOURCES_EXHAUSTED; ENGINE_FAILED if AWS_CA_BUNDLE cannot be read.
        """
        async with self._slots:
            return await self._run(request, on_headers, on_chunk, share)

    async def collect(self, request: HttpRequest, limit: int) -> Collector:
        """Return the complete response, or of a longer body about the first `limit` bytes.

        The result may exceed the limit by one chunk. Raises as `fetch`.
        """
        response = Collector(limit)
        async with self._collected_slots:
            await self._run(request, response.on_headers, response.on_chunk)
        return response

    async def _run(
        self,
        request: HttpRequest,
        on_headers: OnHeaders,
        on_chunk: OnChunk,
        share: Share | None = None,
    ) -> Completion:
        exchange = Exchange(
            self._connections,
            request,
            on_headers,
            on_chunk,
            time_limit=self.time_limit,
            share=share,
        )
        if self._threads is None:
            threads = self._requests + _COLLECTED
            self._threads = ThreadPoolExecutor(threads, thread_name_prefix="http")
        try:
            running = asyncio.get_running_loop().run_in_executor(self._threads, exchange.run)
        except RuntimeError:  # no thread can be started, but the request stands in line for one
            exchange.abort()
            raise
        exchange.deadline.start()
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(_consume_exception)
            if exchange.abort():
                await uninterrupted(asyncio.wait([running]))
            raise
        finally:
            exchange.deadline.stop()


def _consume_exception(running: asyncio.Future[Completion]) -> None:
    if not running.cancelled():
        running.exception()
