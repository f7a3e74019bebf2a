"""Requests for the bytes of objects, each in a thread of its own.

A thread waits in the kernel, which puts what arrives straight into the thread's buffer; from there
it goes to the disk. No byte is copied in between, as client libraries do two or three times.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from http.client import HTTPException, IncompleteRead
from threading import Lock, local
from typing import NamedTuple

import msgspec

from .. import validators
from ..aio import uninterrupted
from ..credentials import Credentials, Keys
from ..errors import DownloaderError, ErrorCode
from ..heads import CHECKSUM_MODE
from ..patience import Deadline, MinimumRate, asks_for_time, shut_down
from ..records import FileRecord
from ..s3http import TRIES, Answer, Begun, Request, S3Http, unanswered
from ..throttle import Share
from .learned import Learned
from .range_answer import (
    Asked,
    Body,
    RangesIgnoredError,
    check_refusal,
    judge,
    surplus,
    too_short,
)

__all__ = ["CHUNK", "WHOLE", "BucketReader", "Taker"]

WHOLE = 256 << 10
"""The bytes of a thread's buffer: objects up to this size are gathered whole, then handed over."""

CHUNK = 96 << 10
"""The bytes that are gathered at most of larger ones: what the caches hold for a few threads."""

_GATHERING = 0.05
"""Seconds for which they are gathered at most: a death costs no more of each connection."""

_MAY_REFUSE_CHECKSUMS = {400, 501}
_of_thread = local()


class Taker(NamedTuple):
    """What takes the bytes of an answer, in the thread that reads it.

    `take` is called with at most CHUNK bytes that are its own for the call. `undo` follows where
    they turn out not to be the object's: all that it took of this answer is void. With `learn` the
    object has up to WHOLE bytes, and its checksum is asked for in the same request: it is called
    with the headers of the answer, then `take` with all that comes.
    """

    take: Callable[[memoryview], None]
    undo: Callable[[], None]
    learn: Callable[[Mapping[str, str]], None] | None = None


class BucketReader:
    """Reads objects of one bucket, pinned to a validator each; tries nothing again by itself."""

    def __init__(
        self,
        bucket: str,
        *,
        http: S3Http,
        credentials: Credentials,
        share: Share,
        threads: ThreadPoolExecutor,
        learned: Learned,
        accelerate: bool,
    ) -> None:
        self._bucket = bucket
        self._http = http
        self._credentials = credentials
        self._share = share
        self._threads = threads
        self._learned = learned
        self._accelerate = accelerate

    async def read(self, file: FileRecord, span: tuple[int, int] | None, taker: Taker) -> float:
        """Hand the bytes of `span`, from its start to before its end, to `taker`, as they come.

        Without a span the whole object is asked for. `file.etag` is the validator that it must
        have, empty for any.

        Returns the seconds until the store began to answer. Raises RangesIgnoredError where the
        store answers with other bytes, SOURCE_CHANGED where the object is another one now,
        NETWORK_UNREACHABLE, TIMEOUT, STALLED, ACCESS_DENIED and the like, and what `take` raises.
        Cancelled, it hands over what has arrived until then, in the kernel too. When it has
        returned, raised or been cancelled, `taker` is not called any more.
        """
        ranges = self._learned.ranges
        is_first = bool(span) and await ranges.turn()
        asked = Asked(f"s3://{self._bucket}/{file.key}", file.etag, file.size, span)
        try:
            if span and ranges.is_ignored:
                raise RangesIgnoredError(asked, "known of the store")
            return await self._ask(asked, self._request(file, span, taker), taker)
        except RangesIgnoredError:
            ranges.ignored()
            raise
        finally:
            if is_first:
                ranges.end_turn()

    def _request(self, file: FileRecord, span: tuple[int, int] | None, taker: Taker) -> Request:
        headers = validators.conditions(file.etag)
        if span:
            headers["range"] = f"bytes={span[0]}-{span[1] - 1}"
        if taker.learn and self._learned.tells_checksums and not span:
            headers |= CHECKSUM_MODE
        return Request(
            method="GET",
            bucket=self._bucket,
            key=file.key,
            headers=headers,
            accelerate=self._accelerate,
        )

    async def _ask(self, asked: Asked, request: Request, taker: Taker) -> float:
        """Make one request, a few times where a refusal teaches how."""
        keys = await self._credentials.get()
        is_plain = False
        for _ in range(TRIES):
            reading = _Reading(self._http, request, asked, keys, self._share, taker, self._learned)
            refusal = await self._run(reading)
            if refusal is None:
                self._learned.tells_checksums &= not is_plain
                return reading.first_byte
            check_refusal(refusal.status, refusal.code, asked)
            renewed = await self._http.learns(request, refusal, keys)
            if renewed is None and _may_refuse_checksums(request, refusal):
                request, renewed, is_plain = _without_checksums(request), keys, True
            if renewed is None:
                break
            keys = renewed
        assert refusal
        raise asks_for_time(refusal.explained(request), refusal.headers)

    async def _run(self, reading: _Reading) -> Answer | None:
        loop = asyncio.get_running_loop()
        reading.deadline.start()
        running = loop.run_in_executor(self._threads, reading.run, loop)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(_forget)
            if reading.abort():
                await uninterrupted(asyncio.wait([running]))
            raise
        finally:
            reading.deadline.stop()


class _Reading:
    """One request, in its thread."""

    def __init__(
        self,
        http: S3Http,
        request: Request,
        asked: Asked,
        keys: Keys,
        share: Share,
        taker: Taker,
        learned: Learned,
    ) -> None:
        self.first_byte = 0.0
        self.deadline = Deadline(http.patience)
        self._http = http
        self._request = request
        self._asked = asked
        self._keys = keys
        self._share = share
        self._taker = taker
        self._learned = learned
        self._rate = MinimumRate(http.patience)
        self._waited = 0.0
        self._lock = Lock()  # for what follows
        self._is_aborted = False
        self._socket: socket.socket | None = None
        self._paying: Future[None] | None = None

    def run(self, loop: asyncio.AbstractEventLoop) -> Answer | None:
        """Read what was asked for; return the store's refusal, if it refuses."""
        begun = self._begin()
        if begun.status not in (200, 206):
            return self._refusal(begun)
        try:
            body = judge(begun.status, begun.headers, self._asked)
            if begun.status == 206:
                loop.call_soon_threadsafe(self._learned.ranges.heeded)
            if self._taker.learn:
                self._taker.learn(begun.headers)
            self._receive(begun, body, loop)
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
            shut_down(self._socket)
            return True

    def _begin(self) -> Begun:
        began = time.monotonic()
        try:
            begun = self._http.begin(self._request, self._keys, self._watch)
        except (OSError, HTTPException) as error:
            raise self._explained(error) from error
        self.deadline.begun()
        self.first_byte = time.monotonic() - began
        return begun

    def _refusal(self, begun: Begun) -> Answer:
        self._let_go()
        try:
            return begun.answer(0, self._http.patience)
        except (OSError, HTTPException) as error:
            raise self._explained(error) from error

    def _watch(self, connected: socket.socket | None) -> None:
        with self._lock:
            if self._is_aborted:
                raise CancelledError
            self._socket = connected
        self.deadline.watch(connected)

    def _let_go(self) -> None:
        """The connection may be another request's in a moment."""
        with self._lock:
            self._socket = None

    def _receive(self, begun: Begun, body: Body, loop: asyncio.AbstractEventLoop) -> None:
        """Hand over the bytes of a body, the last of them once it has ended with them."""
        left = body.length
        buffer = _buffer() if self._taker.learn else _buffer()[:CHUNK]
        try:
            while left and (chunk := self._gather(begun, buffer[:left])):
                left -= len(chunk)
                if not left:
                    self._check_end(begun, body)
                self._taker.take(chunk)
                if left:
                    self._check_rate(len(chunk))
                self._pay(loop, len(chunk))
            if not body.length:
                self._check_end(begun, body)
        except BaseException:
            self._undo_part_of(begun, body)
            raise
        if left:
            self._undo_part_of(begun, body)
            self._fall_short(begun, left)

    def _check_rate(self, size: int) -> None:
        try:
            self._rate.came(size, self._waited)
        except TimeoutError as error:
            raise self._explained(error) from error

    def _check_end(self, begun: Begun, body: Body) -> None:
        if not body.is_framed and self._gather(begun, memoryview(bytearray(1))):
            self._taker.undo()
            raise surplus(self._asked)

    def _undo_part_of(self, begun: Begun, body: Body) -> None:
        """Let a part of a body count only where the answer told of which bytes it is."""
        if not body.is_placed or begun.has_ended:
            self._taker.undo()

    def _fall_short(self, begun: Begun, missing: int) -> None:
        if begun.has_ended:
            raise too_short(self._asked, missing)
        if not self._is_aborted:
            raise self._explained(IncompleteRead(b"", missing))

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
        self._waited = time.monotonic() - since
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
        if self.deadline.is_over:
            return self._stalled("no whole head of an answer")
        if isinstance(error, TimeoutError):
            return self._stalled("next to nothing")
        return unanswered(error, self._request)

    def _stalled(self, came: str) -> DownloaderError:
        return DownloaderError(
            ErrorCode.STALLED,
            f"{came} arrived for {self._http.patience:g} s while {self._request.subject} was"
            " fetched; check the network",
        )


def _may_refuse_checksums(request: Request, refusal: Answer) -> bool:
    """Tell whether a store may refuse a request as it does not know CHECKSUM_MODE."""
    asks = bool(request.headers.keys() & CHECKSUM_MODE)
    if not asks or refusal.status not in _MAY_REFUSE_CHECKSUMS:
        return False
    return refusal.explained(request).code is not ErrorCode.CREDENTIALS_UNAVAILABLE


def _without_checksums(request: Request) -> Request:
    headers = {name: v for name, v in request.headers.items() if name not in CHECKSUM_MODE}
    return msgspec.structs.replace(request, headers=headers)


def _buffer() -> memoryview:
    """Return the buffer of this thread, WHOLE bytes long."""
    if not hasattr(_of_thread, "buffer"):
        _of_thread.buffer = memoryview(bytearray(WHOLE))
    buffer: memoryview = _of_thread.buffer
    return buffer


def _forget(running: asyncio.Future[Answer | None]) -> None:
    if not running.cancelled():
        running.exception()
