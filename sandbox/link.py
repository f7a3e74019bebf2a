"""Simulates a bad network link: slow, delayed, cut, frozen, or with a wrong bit."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from .processes import free_ports

__all__ = ["Link"]

_CHUNK = 128 * 1024  # bytes read at once, at most
_WINDOW = 4  # chunks in transit in one direction of a connection, at most
_STEP = 0.01  # seconds of traffic that are sent at once if the rate is limited
_LATENESS = 0.05  # seconds that a timer may be late; after a longer gap the link counts as idle

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger of socket(7): on, no seconds
_END_ON_CLOSE = struct.pack("ii", 0, 0)

_Flow = asyncio.Queue[tuple[float, bytes]]
"""Chunks in transit: the event loop's time at which each arrives, and its bytes; b"" is the end."""


class Link:
    """A TCP proxy on 127.0.0.1 for the server at `target_port`; an async context manager.

    `rate` is in bytes per second, for all connections together, and separately for each
    direction; None is unlimited. `delay` is the time in seconds that a byte needs in one
    direction. At most 512 KiB of a connection are in transit in one direction. Both may be
    changed at any time.

    It runs on the event loop that opened it, so its clients must not block that loop.
    """

    def __init__(self, target_port: int, *, rate: float | None = None, delay: float = 0.0) -> None:
        self.rate = rate
        self.delay = delay
        self.connections_total = 0
        [self.port] = free_ports(1)
        self._target_port = target_port
        self._up = _Direction(self.freeze)
        self._down = _Direction(self.freeze)
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._listener: socket.socket | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._resetting: asyncio.Task[None] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """The number of open connections; `connections_total` also counts the closed ones."""
        return len(self._connections)

    @property
    def bytes_down(self) -> int:
        """The bytes sent from the server to its clients."""
        return self._down.passed

    @property
    def bytes_up(self) -> int:
        """The bytes sent from the clients to the server."""
        return self._up.passed

    @property
    def bytes_unread(self) -> int:
        """An upper bound of the bytes sent to the clients that these have not read yet.

        It is the sum of the bytes that are not acknowledged, and those in the receive buffers of
        clients on this machine; some bytes may be in both. Source: proc_net_tcp(5).
        """
        held = 0
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            unacknowledged, unread = (int(size, 16) for size in queues.split(":"))
            if int(local.partition(":")[2], 16) == self.port:
                held += unacknowledged
            elif int(remote.partition(":")[2], 16) == self.port:
                held += unread
        return held

    async def carried(self, count: int) -> None:
        """Wait until `bytes_down` is at least `count`."""
        await self._down.reach(count)

    def cut(self) -> None:
        """Refuse new connections, and reset the open ones."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for connection in self._connections:
            connection.cancel()

    def restore(self) -> None:
        """Accept connections again, on the same port."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def freeze(self) -> None:
        """Accept and keep connections, but transfer no bytes."""
        self._thawed.clear()

    def freeze_after(self, count: int, *, up: bool = False) -> None:
        """Freeze when exactly `count` more bytes have been transferred down (or up).

        Bytes of all connections count, HTTP headers included. A transfer that is larger is then
        certainly unfinished, however late the test notices.
        """
        direction = self._up if up else self._down
        direction.freeze_at = direction.passed + count

    @property
    def is_frozen(self) -> bool:
        return not self._thawed.is_set()

    def thaw(self) -> None:
        """Transfer bytes again, those that were held back first; cancel all `freeze_after`."""
        self._up.freeze_at = self._down.freeze_at = None
        self._thawed.set()

    def corrupt_after(self, count: int) -> None:
        """Flip a bit of one byte sent down: of the byte after the next `count` bytes.

        HTTP headers count.
        """
        self._down.flip_at = self._down.passed + count

    def reset_every(self, mean_seconds: float, rng: random.Random) -> None:
        """Reset a random open connection at random times, on average every `mean_seconds`."""
        self._resetting = asyncio.create_task(self._reset_at_random(mean_seconds, rng))

    async def __aenter__(self) -> Link:
        self.restore()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        await _cancel(*self._connections, *filter(None, [self._resetting]))

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):  # the client has left
            client, _ = listener.accept()
            self.connections_total += 1
            connection = asyncio.create_task(self._connect(client))
            self._connections.add(connection)
            connection.add_done_callback(self._connections.discard)
            connection.add_done_callback(lambda _: client.close())

    async def _reset_at_random(self, mean_seconds: float, rng: random.Random) -> None:
        while True:
            await asyncio.sleep(rng.expovariate(1 / mean_seconds))
            if self._connections:
                rng.choice(list(self._connections)).cancel()

    async def _connect(self, client: socket.socket) -> None:
        """Relay a connection until both ends have closed it; reset both if it ends otherwise."""
        with socket.socket() as server, contextlib.suppress(OSError):
            for end in (client, server):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            target = ("127.0.0.1", self._target_port)
            await asyncio.get_running_loop().sock_connect(server, target)
            await self._relay(client, server)
            for end in (client, server):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _END_ON_CLOSE)

    async def _relay(self, client: socket.socket, server: socket.socket) -> None:
        up = _Flow(maxsize=_WINDOW)
        down = _Flow(maxsize=_WINDOW)
        tasks = [
            asyncio.create_task(self._receive(client, up)),
            asyncio.create_task(self._send(up, server, self._up)),
            asyncio.create_task(self._receive(server, down)),
            asyncio.create_task(self._send(down, client, self._down)),
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            await _cancel(*tasks)

    async def _receive(self, source: socket.socket, flow: _Flow) -> None:
        loop = asyncio.get_running_loop()
        data = b"-"
        while data:
            data = await loop.sock_recv(source, _CHUNK)
            await flow.put((loop.time() + self.delay, data))

    async def _send(self, flow: _Flow, sink: socket.socket, direction: _Direction) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await flow.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                break
            while data:
                piece = data if self.rate is None else data[: max(1, int(self.rate * _STEP))]
                await self._wait_turn(len(piece), direction)
                piece = direction.take(piece)
                await loop.sock_sendall(sink, piece)
                data = data[len(piece) :]
        await self._wait_turn(0, direction)
        sink.shutdown(socket.SHUT_WR)

    async def _wait_turn(self, size: int, direction: _Direction) -> None:
        """Wait until the next `size` bytes may be sent."""
        if self.rate is not None:
            due = direction.reserve(size, self.rate)
            await asyncio.sleep(due - asyncio.get_running_loop().time())
        while self.is_frozen:  # another connection may have frozen it again after the thaw
            await self._thawed.wait()


class _Direction:
    """One direction of a link, for all its connections.

    `passed` counts its bytes. It calls `freeze` when `passed` reaches `freeze_at`, and flips a bit
    of the byte at the position `flip_at`.
    """

    def __init__(self, freeze: Callable[[], None]) -> None:
        self.passed = 0
        self.flip_at: int | None = None
        self.freeze_at: int | None = None
        self._freeze = freeze
        self._busy_until = 0.0
        self._moved = asyncio.Event()

    def reserve(self, size: int, rate: float) -> float:
        """Return the event loop's time at which `size` more bytes have been sent at `rate`."""
        now = asyncio.get_running_loop().time()
        idle = now - self._busy_until > _LATENESS
        self._busy_until = (now if idle else self._busy_until) + size / rate
        return self._busy_until

    async def reach(self, count: int) -> None:
        """Wait until `passed` is at least `count`."""
        while self.passed < count:
            self._moved.clear()
            await self._moved.wait()

    def take(self, data: bytes) -> bytes:
        """Count and return the bytes of `data` to send now: all, or those before a freeze."""
        start = self.passed
        if self.freeze_at is not None and self.freeze_at <= start + len(data):
            data = data[: self.freeze_at - start]
            self.freeze_at = None
            self._freeze()
        self.passed += len(data)
        self._moved.set()
        if self.flip_at is None or self.flip_at >= self.passed:
            return data
        at = self.flip_at - start
        self.flip_at = None
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
