"""Ranges of objects, each read by one request in a thread of its own.

A thread waits in the kernel, which puts what arrives straight into the thread's buffer; from there
it goes to the disk. No byte is copied in between, as client libraries do two or three times.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from http.client import HTTPException
from threading import Lock, local

from ..aio import uninterrupted
from ..credentials import Credentials, Keys
from ..errors import DownloaderError, ErrorCode
from ..heads import CHECKSUM_MODE
from ..s3http import Answer, Begun, Request, S3Http, unanswered
from ..throttle import Share

__all__ = ["CHUNK", "WHOLE", "BucketReader"]

WHOLE = 256 << 10
"""The bytes of a thread's buffer: objects up to this size are gathered whole, then handed over."""

CHUNK = 96 << 10
"""The bytes that are gathered at most of larger ones: what the caches hold for a few threads."""

_GATHERING = 0.05
"""Seconds for which they are gathered at most: a death costs no more of each connection."""

_LEARNING = 3
_of_thread = local()


class BucketReader:
    """Reads ranges of the objects of one bucket, each pinned to an ETag; never tries one again."""

    def __init__(
        self,
        bucket: str,
        *,
        http: S3Http,
        credentials: Credentials,
        share: Share,
        threads: ThreadPoolExecutor,
        accelerate: bool,
    ) -> None:
        self._bucket = bucket
        self._http = http
        self._credentials = credentials
        self._share = share
        self._threads = threads
        self._accelerate = accelerate

    async def read(
        self,
        key: str,
        etag: str,
        span: tuple[int, int],
        take: Callable[[memoryview], None],
        *,
        learn: Callable[[Mapping[str, str]], None] | None = None,
    ) -> float:
        """Hand the bytes of `span`, from its start to before its end, to `take`, as they come.

        `take` is called in the thread, with at most CHUNK bytes that are its own for the call. With
        `learn` the span is a whole object of up to WHOLE bytes, whose checksum is asked for in the
        same request: it is called with the headers of the answer, then `take` with all that comes.

        Returns the seconds until the store began to answer. Raises SOURCE_CHANGED where the object
        has another ETag now, NETWORK_UNREACHABLE, TIMEOUT, STALLED, ACCESS_DENIED and the like, and
        what `take` raises. Cancelled, it hands over what has arrived until then, in the kernel too.
        When it has returned, raised or been cancelled, `take` is not called any more.
        """
        start, end = span
        what = CHECKSUM_MODE if learn else {"range": f"bytes={start}-{end - 1}"}
        request = Request(
            method="GET",
            bucket=self._bucket,
            key=key,
            headers={**what, "if-match": f'"{etag}"'},
            accelerate=self._accelerate,
        )
        for tries in range(1, _LEARNING + 1):
            keys = await self._credentials.get()
            reading = _Reading(self._http, request, start, keys, self._share, take, learn)
            refusal = await self._run(reading, etag, end - start)
            if refusal is None:
                return reading.first_byte
            if not self._http.learns(request, refusal, keys) or tries == _LEARNING:
                raise refusal.explained(request)
        raise AssertionError("unreachable")

    async def _run(self, reading: _Reading, etag: str, size: int) -> Answer | None:
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, reading.run, loop, etag, size)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(_forget)
            if reading.abort():
                await uninterrupted(asyncio.wait([running]))
            raise


class _Reading:
    """One request, in its thread."""

    def __init__(
        self,
        http: S3Http,
        request: Request,
        start: int,
        keys: Keys,
        share: Share,
        take: Callable[[memoryview], None],
        learn: Callable[[Mapping[str, str]], None] | None,
    ) -> None:
        self.first_byte = 0.0
        self._http = http
        self._request = request
        self._start = start
        self._keys = keys
        self._share = share
        self._take = take
        self._learn = learn
        self._lock = Lock()  # for what follows
        self._is_aborted = False
        self._socket: socket.socket | None = None
        self._paying: Future[None] | None = None

    def run(self, loop: asyncio.AbstractEventLoop, etag: str, size: int) -> Answer | None:
        """Read the range; return the store's refusal, if it refuses."""
        begun = self._begin()
        if begun.status not in (200, 206):
            return self._refusal(begun)
        try:
            self._check(begun, etag, size)
            if self._learn:
                self._learn(begun.headers)
            buffer = _buffer() if self._learn else _buffer()[:CHUNK]
            while size and (chunk := self._gather(begun, buffer[:size])):
                self._take(chunk)
                size -= len(chunk)
                self._pay(loop, len(chunk))
        finally:
            self._let_go()
            begun.end(keep=not self._is_aborted)
        return None

    def abort(self) -> bool:
        """Let nothing more arrive, and wake the thread from whatever it waits for.

        Returns whether it has a connection, and so takes what has arrived, if anything has.
        """
        with self._lock:
            self._is_aborted = True
            if self._paying:
                self._paying.cancel()
            if not self._socket:
                return False
            with contextlib.suppress(OSError):  # it is closed already
                # Below TLS, whose own shutdown would touch what the thread uses. What has arrived
                # can still be read, and no read waits any more.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            return True

    def _begin(self) -> Begun:
        began = time.monotonic()
        try:
            begun = self._http.begin(self._request, self._keys, self._watch)
        except (OSError, HTTPException) as error:
            raise self._explained(error) from error
        self.first_byte = time.monotonic() - began
        return begun

    def _refusal(self, begun: Begun) -> Answer:
        self._let_go()
        try:
            return begun.answer(0)
        except (OSError, HTTPException) as error:
            raise self._explained(error) from error

    def _watch(self, connected: socket.socket | None) -> None:
        with self._lock:
            if self._is_aborted:
                raise CancelledError
            self._socket = connected

    def _let_go(self) -> None:
        """The connection may be another request's in a moment."""
        with self._lock:
            self._socket = None

    def _check(self, begun: Begun, etag: str, size: int) -> None:
        if begun.headers.get("etag", "").strip('"') != etag:
            raise DownloaderError(
                ErrorCode.SOURCE_CHANGED,
                f"{self._request.subject} was replaced while it was fetched; what is there of it"
                " is given up",
            )
        start = self._start if begun.status == 206 else 0
        told = begun.headers.get("content-range", f"bytes {start}-")
        length = int(begun.headers.get("content-length", size))
        if start != self._start or not told.startswith(f"bytes {start}-") or length > size:
            raise DownloaderError(
                ErrorCode.ENGINE_FAILED,
                f"the store answers requests for a range of {self._request.subject} with something"
                " else; fetch it with engine s5cmd",
            )

    def _gather(self, begun: Begun, buffer: memoryview) -> memoryview:
        """Fill the buffer, or as much of it as comes in a while; nothing is the end."""
        count, since = 0, time.monotonic()
        try:
            while count < len(buffer):
                got = begun.read_some(buffer[count:])
                count += got
                if not got or time.monotonic() - since > _GATHERING:
                    break
        except (OSError, HTTPException, ValueError) as error:
            if not count:
                raise self._explained(error) from error
        return buffer[:count]

    def _pay(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        """Wait until the bandwidth allows to read on."""
        if not self._share.limited:
            return
        with self._lock:
            if self._is_aborted:
                return
            self._paying = asyncio.run_coroutine_threadsafe(self._share.take(size), loop)
        try:
            self._paying.result()
        except CancelledError:
            return

    def _explained(self, error: Exception) -> DownloaderError:
        if isinstance(error, TimeoutError):
            return DownloaderError(
                ErrorCode.STALLED,
                f"nothing arrived for {self._http.patience:g} s while {self._request.subject} was"
                " fetched; check the network",
            )
        return unanswered(error, self._request)


def _buffer() -> memoryview:
    """Return the buffer of this thread, WHOLE bytes long."""
    if not hasattr(_of_thread, "buffer"):
        _of_thread.buffer = memoryview(bytearray(WHOLE))
    buffer: memoryview = _of_thread.buffer
    return buffer


def _forget(running: asyncio.Future[Answer | None]) -> None:
    if not running.cancelled():
        running.exception()
