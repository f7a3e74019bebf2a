"""A way to an S3 server that has no checksums, on which its objects have them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import unquote

from awscrt import checksums

from .processes import free_ports
from .servers import S3Server

__all__ = ["Checksummed"]

_CHUNK = 1 << 20
_HEAD_END = b"\r\n\r\n"
_PIPE = 256 << 10


class Checksummed:
    """An HTTP proxy on 127.0.0.1 before `server`; open as a context manager.

    It answers as S3 does: the HEAD of an object that was declared, if it asks for its checksum
    (`x-amz-checksum-mode: ENABLED`), is told `x-amz-checksum-crc64nvme`, the eight bytes from the
    highest on in base64, and `x-amz-checksum-type: FULL_OBJECT`. All else passes as it is, and
    bodies without being copied: from the server by splice(2). Clients must not pipeline.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """

    def __init__(self, server: S3Server) -> None:
        self._server = server
        self._checksums: dict[str, int] = {}
        [self.port] = free_ports(1)
        self._listener: socket.socket | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def declare(self, key: str, crc64nvme: int) -> None:
        """From now on tell this checksum of an object, be it right or wrong."""
        self._checksums[f"/{self._server.bucket}/{key}"] = crc64nvme

    async def learn(self, key: str) -> int:
        """Read an object, declare its checksum, and return that."""
        crc64nvme = await asyncio.to_thread(self._read, key)
        self.declare(key, crc64nvme)
        return crc64nvme

    def _read(self, key: str) -> int:
        crc64nvme = 0
        body = self._server.client().get_object(Bucket=self._server.bucket, Key=key)["Body"]
        with contextlib.closing(body):
            for chunk in body.iter_chunks(_CHUNK):
                crc64nvme = checksums.crc64nvme(chunk, crc64nvme)
        return crc64nvme

    async def __aenter__(self) -> Checksummed:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        await _cancel(*self._connections)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):  # the client left
            client, _ = listener.accept()
            connection = asyncio.create_task(self._connect(client))
            self._connections.add(connection)
            connection.add_done_callback(self._connections.discard)

    async def _connect(self, client: socket.socket) -> None:
        with client, socket.socket() as server, contextlib.suppress(OSError):
            for end in (client, server):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            address = ("127.0.0.1", self._server.port)
            await asyncio.get_running_loop().sock_connect(server, address)
            with _Pipe() as pipe:
                await _Connection(client, server, pipe, self._headers).carry()

    def _headers(self, request: _Head) -> bytes:
        """Return what the answer to a request is to have besides what it has."""
        crc64nvme = self._checksums.get(request.path)
        if crc64nvme is None or request.fields.get("x-amz-checksum-mode") != "ENABLED":
            return b""
        value = base64.b64encode(crc64nvme.to_bytes(8, "big"))
        return b"\r\nx-amz-checksum-crc64nvme: " + value + b"\r\nx-amz-checksum-type: FULL_OBJECT"


class _Head(NamedTuple):
    """The head of a request; names of fields are in small letters, the path is decoded."""

    method: str
    path: str
    fields: dict[str, str]

    @classmethod
    def parse(cls, data: bytes) -> _Head:
        first, *lines = data.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        fields = {name.strip().lower(): value.strip() for name, _, value in pairs}
        return cls(method, unquote(target.partition("?")[0]), fields)

    @property
    def body(self) -> int:
        """The bytes that follow it; one in chunks is taken as the last of its connection."""
        if "transfer-encoding" in self.fields:
            return sys.maxsize
        return int(self.fields.get("content-length", 0))


class _Requests:
    """Tells the heads of requests from their bodies, in a stream that comes in pieces."""

    def __init__(self) -> None:
        self._begun = b""
        self._body = 0

    def feed(self, data: bytes) -> Iterator[tuple[_Head | None, bytes]]:
        """Go through what can be passed on: each head as a whole, bodies as they come."""
        data = self._begun + data
        self._begun = b""
        while data:
            if self._body:
                piece, data = data[: self._body], data[self._body :]
                self._body -= len(piece)
                yield None, piece
                continue
            text, end, rest = data.partition(_HEAD_END)
            if not end:
                self._begun = data
                return
            head, data = _Head.parse(text), rest
            self._body = head.body
            yield head, text + end


class _Pipe:
    """A pipe for splice(2), which moves bytes between it and a socket."""

    def __enter__(self) -> _Pipe:
        self.output, self.input = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(PermissionError):  # a user has only so much: pipe(7)
            fcntl.fcntl(self.input, fcntl.F_SETPIPE_SZ, _PIPE)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.output)
        os.close(self.input)


class _Connection:
    """A client's connection and the server's that belongs to it."""

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        pipe: _Pipe,
        headers: Callable[[_Head], bytes],
    ) -> None:
        self._client = client
        self._server = server
        self._pipe = pipe
        self._headers = headers
        self._loop = asyncio.get_running_loop()
        self._asked: _Head | None = None
        """The HEAD whose answer has not come yet."""

    async def carry(self) -> None:
        """Return when both ends are done; an OSError of either ends both."""
        tasks = [asyncio.create_task(self._requests()), asyncio.create_task(self._answers())]
        try:
            await asyncio.gather(*tasks)
        finally:
            await _cancel(*tasks)

    async def _requests(self) -> None:
        requests = _Requests()
        while data := await self._loop.sock_recv(self._client, _CHUNK):
            for head, piece in requests.feed(data):
                if head is not None and head.method == "HEAD":
                    self._asked = head
                await self._loop.sock_sendall(self._server, piece)
        self._server.shutdown(socket.SHUT_WR)

    async def _answers(self) -> None:
        """Pass answers on; what came before a HEAD was sent belongs to an earlier request."""
        more = True
        while more:
            if self._asked is None:
                more = await self._pass()
            else:
                more = await self._answer(self._asked)
        self._client.shutdown(socket.SHUT_WR)

    async def _pass(self) -> bool:
        """Let some bytes of the server through, if there are any; return whether more may come."""
        try:
            size = os.splice(self._server.fileno(), self._pipe.input, _PIPE)
        except BlockingIOError:
            await _ready(self._loop.add_reader, self._loop.remove_reader, self._server)
            return True
        left = size
        while left:
            try:
                left -= os.splice(self._pipe.output, self._client.fileno(), left)
            except BlockingIOError:
                await _ready(self._loop.add_writer, self._loop.remove_writer, self._client)
        await asyncio.sleep(0)  # others want to have a turn too
        return size > 0

    async def _answer(self, request: _Head) -> bool:
        """Let the answer to a HEAD through, with what is to be told besides."""
        answer = b""
        while _HEAD_END not in answer:
            data = await self._loop.sock_recv(self._server, _CHUNK)
            if not data:
                return False
            answer += data
        self._asked = None
        status, _, rest = answer.partition(b"\r\n")
        found = status.split(b" ", 2)[1] == b"200"
        told = self._headers(request) if found else b""
        await self._loop.sock_sendall(self._client, status + told + b"\r\n" + rest)
        return True


async def _ready(
    add: Callable[..., None], remove: Callable[[socket.socket], bool], end: socket.socket
) -> None:
    """Return when a socket can be read or written, as `add` and `remove` say."""
    ready = asyncio.Event()
    add(end, ready.set)
    try:
        await ready.wait()
    finally:
        remove(end)


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
