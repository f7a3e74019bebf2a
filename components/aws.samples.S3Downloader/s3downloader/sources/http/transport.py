"""What carries requests over HTTP to all servers and back: the one place that knows how.

Nothing else here or in the engines knows of connections, proxies, TLS or threads that wait for a
network: they make a request (`requests.py`) and get the parts of its response.
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
"""How many requests are under way at most, each with a connection and a thread; others wait."""


class Transport:
    """Sends requests over connections that are kept for the next one.

    A server may be silent for `patience` seconds, while it is connected to and until its response
    begins; of the body at least LEAST_BYTES must come in that time.
    """

    def __init__(
        self,
        *,
        patience: float = 30.0,
        requests: int = REQUESTS,
        connections: Connections | None = None,
    ) -> None:
        self.patience = patience
        self._connections = connections or Connections()
        self._requests = requests
        self._slots = asyncio.Semaphore(requests)
        self._threads: ThreadPoolExecutor | None = None

    def close_idle(self) -> None:
        """Close the connections that are kept, and let the threads end that have nothing to do.

        Those of requests under way follow them. The transport can be used again.
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
        """Send a request; hand over the head of its response, then its body in chunks.

        The callbacks are called in a thread, one after the other. A chunk is theirs for the call.
        Where they raise, the request ends and that is raised here, but for StopReading. `share`
        is asked for the bytes of each chunk before more is read.

        Raises TIMEOUT, as SilenceError, NETWORK_UNREACHABLE, also where a body ends before it
        should, RESOURCES_EXHAUSTED, and ENGINE_FAILED where AWS_CA_BUNDLE cannot be read. When it
        is cancelled it hands over what has arrived until then, in the kernel too. When it has
        returned, raised or been cancelled, no callback is called any more.
        """
        async with self._slots:
            exchange = Exchange(
                self._connections,
                request,
                on_headers,
                on_chunk,
                patience=self.patience,
                share=share,
            )
            return await self._run(exchange)

    async def collect(self, request: HttpRequest, limit: int) -> Collector:
        """Return the whole response, of a longer body the first `limit` bytes and some more."""
        response = Collector(limit)
        await self.fetch(request, response.on_headers, response.on_chunk)
        return response

    async def _run(self, exchange: Exchange) -> Completion:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._requests, thread_name_prefix="http")
        exchange.deadline.start()
        running = asyncio.get_running_loop().run_in_executor(self._threads, exchange.run)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(_forget)
            if exchange.abort():
                await uninterrupted(asyncio.wait([running]))
            raise
        finally:
            exchange.deadline.stop()


def _forget(running: asyncio.Future[Completion]) -> None:
    if not running.cancelled():
        running.exception()
