"""The transport sends requests to any server over HTTP, and returns the responses."""

from __future__ import annotations

import asyncio
import base64
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from s3downloader.core.aio import timeout
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.sources.http.errors import SilenceError
from s3downloader.sources.http.requests import HttpRequest, ResponseHead, StopReading
from s3downloader.sources.http.transport import Transport

from ..support import eventually
from .scripted_server import ReceivedRequest, Reply, ScriptedServer
from .tunnel import Tunnel

BODY = bytes(range(256)) * 1_000


def request_to(server: str, path: str = "/b/k", **how: object) -> HttpRequest:
    url = urlsplit(server)
    request = {
        "method": "GET",
        "scheme": url.scheme,
        "host": url.netloc,
        "path": path,
        "headers": {"host": url.netloc, "x-asked": "yes"},
        "subject": "s3://b/k",
    }
    return HttpRequest(**{**request, **how})  # type: ignore[arg-type]


class Receiver:
    """Keeps the status, headers and body of a response."""

    def __init__(self, on_chunk: Callable[[memoryview], None] | None = None) -> None:
        self.heads: list[ResponseHead] = []
        self.chunks: list[bytes] = []
        self._on_chunk = on_chunk

    def on_headers(self, head: ResponseHead) -> None:
        self.heads.append(head)

    def on_chunk(self, chunk: memoryview) -> None:
        self.chunks.append(bytes(chunk))
        if self._on_chunk:
            self._on_chunk(chunk)

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


@asynccontextmanager
async def serving(
    reply: Reply | Callable[[ReceivedRequest], Reply], **how: float
) -> AsyncIterator[tuple[ScriptedServer, Transport]]:
    transport = Transport(**how)  # type: ignore[arg-type]
    answer = reply if callable(reply) else lambda _: reply
    async with ScriptedServer(answer) as server:
        try:
            yield server, transport
        finally:
            transport.close_idle()


FRAMINGS = {
    "by its length": (Reply(body=BODY), True),
    "in chunks": (Reply(body=[BODY[:1], BODY[1:70_000], BODY[70_000:]], chunked=True), True),
    "by the end of the connection": (
        Reply(headers={"Content-Length": None}, body=BODY, cut=True),
        False,
    ),
}


@pytest.mark.parametrize(("reply", "is_delimited"), FRAMINGS.values(), ids=FRAMINGS)
async def test_a_body_comes_in_chunks(reply: Reply, is_delimited: bool) -> None:
    async with serving(reply) as (server, transport):
        receiver = Receiver()
        request = request_to(server.endpoint, chunk_bytes=10_000)
        completion = await transport.fetch(request, receiver.on_headers, receiver.on_chunk)
        assert server.requests[0].headers["x-asked"] == "yes"
        assert server.requests[0].headers["accept-encoding"] == "identity"
    assert [head.status for head in receiver.heads] == [200]
    assert receiver.body == BODY
    assert max(map(len, receiver.chunks)) == 10_000
    assert completion.is_delimited is is_delimited
    assert completion.first_byte > 0


async def test_a_body_without_length_that_is_reset_is_broken() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + BODY[:20_000])
        await writer.drain()
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        receiver = Receiver()
        with pytest.raises(DownloaderError) as caught:
            await Transport().fetch(
                request_to(f"http://127.0.0.1:{port}"), receiver.on_headers, receiver.on_chunk
            )
    assert caught.value.code is ErrorCode.NETWORK_UNREACHABLE
    assert receiver.body == BODY[:20_000]


CUT = {
    "before its length": Reply(headers={"Content-Length": "300000"}, body=BODY, cut=True),
    "in a chunk": Reply(body=[BODY], chunked=True, cut=True),
    "with a length that is none": Reply(headers={"Content-Length": "many"}, body=BODY, cut=True),
}


@pytest.mark.parametrize("reply", CUT.values(), ids=CUT)
async def test_a_response_that_breaks_off_is_an_error(reply: Reply) -> None:
    async with serving(reply) as (server, transport):
        receiver = Receiver()
        with pytest.raises(DownloaderError) as caught:
            await transport.fetch(
                request_to(server.endpoint), receiver.on_headers, receiver.on_chunk
            )
    assert caught.value.code is ErrorCode.NETWORK_UNREACHABLE
    assert "s3://b/k" in caught.value.message


@pytest.mark.parametrize("begun", [b"begun", BODY[:10_000]], ids=["a drip", "more than a drip"])
async def test_a_silent_server_is_given_up_after_the_time_limit(begun: bytes) -> None:
    never = asyncio.Event()
    async with serving(Reply(body=[begun, never, b"more"]), time_limit=0.3) as (
        server,
        transport,
    ):
        receiver = Receiver()
        with pytest.raises(SilenceError) as caught:
            await transport.fetch(
                request_to(server.endpoint), receiver.on_headers, receiver.on_chunk
            )
    assert caught.value.code is ErrorCode.TIMEOUT
    assert receiver.body == begun, "what came is handed over"


async def test_requests_one_after_the_other_share_a_connection() -> None:
    async with serving(Reply(body=BODY)) as (server, transport):
        for _ in range(5):
            response = await transport.collect(request_to(server.endpoint), 1 << 20)
            assert response.body == BODY
        assert server.connections == 1
        transport.close_idle()
        await transport.collect(request_to(server.endpoint), 1 << 20)
        assert server.connections == 2


async def test_a_connection_that_was_closed_while_idle_is_replaced() -> None:
    async with serving(Reply(body=b"x")) as (server, transport):
        await transport.collect(request_to(server.endpoint), 9)
        await server.drop_connections()
        await transport.collect(request_to(server.endpoint), 9)
        assert (server.connections, len(server.requests)) == (2, 2)


async def test_requests_beyond_the_limit_wait() -> None:
    go = asyncio.Event()
    async with serving(Reply(body=[b"x", go, b"y"]), requests=3) as (server, transport):
        receiver, request = Receiver(), request_to(server.endpoint)
        asking = [
            asyncio.create_task(transport.fetch(request, receiver.on_headers, receiver.on_chunk))
            for _ in range(10)
        ]
        await eventually(lambda: server.connections == 3)
        go.set()
        await asyncio.gather(*asking)
        assert (server.connections, len(server.requests)) == (3, 10)


async def test_what_is_collected_waits_for_no_large_body() -> None:
    go = asyncio.Event()
    slow, quick = Reply(body=[b"x", go, b"y"]), Reply(body=b"z")
    async with serving(lambda request: slow if request.key == "large" else quick, requests=1) as (
        server,
        transport,
    ):
        receiver, request = Receiver(), request_to(server.endpoint, "/b/large")
        fetching = asyncio.create_task(
            transport.fetch(request, receiver.on_headers, receiver.on_chunk)
        )
        await eventually(lambda: server.requests)
        async with timeout(30):
            response = await transport.collect(request_to(server.endpoint), 9)
        assert response.body == b"z"
        assert not fetching.done()
        go.set()
        await fetching


async def test_a_request_without_a_thread_is_never_sent() -> None:
    go = asyncio.Event()
    async with serving(Reply(body=[b"x", go, b"y"])) as (server, transport):
        first = asyncio.create_task(transport.collect(request_to(server.endpoint), 9))
        await eventually(lambda: server.requests)
        receiver = Receiver()
        size = threading.stack_size(1 << 46)  # more than any device has, so no thread starts
        try:
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await transport.fetch(
                    request_to(server.endpoint), receiver.on_headers, receiver.on_chunk
                )
        finally:
            threading.stack_size(size)
        go.set()
        await first
        await transport.collect(request_to(server.endpoint), 9)  # by the thread of the first
        assert len(server.requests) == 2
        assert not receiver.heads


async def test_what_arrived_before_a_cancellation_is_handed_over() -> None:
    never = asyncio.Event()
    async with serving(Reply(body=[BODY, never, b"more"])) as (server, transport):
        receiver = Receiver()
        request = request_to(server.endpoint, chunk_bytes=1 << 20)
        fetching = asyncio.create_task(
            transport.fetch(request, receiver.on_headers, receiver.on_chunk)
        )
        await eventually(lambda: receiver.heads)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        came = len(receiver.body)
        assert receiver.body == BODY[:came]
        await transport.collect(request_to(server.endpoint, method="HEAD"), 9)
        assert server.connections == 2, "the connection is not used any more"
        assert len(receiver.body) == came


@pytest.mark.parametrize("at", ["head", "body"])
async def test_what_a_callback_raises_ends_the_request(at: str) -> None:
    def refuse(*_: object) -> None:
        raise TimeoutError("the disk")  # which does not count as silence of the server

    async with serving(Reply(body=BODY)) as (server, transport):
        receiver = Receiver(refuse)
        on_headers = refuse if at == "head" else receiver.on_headers
        with pytest.raises(TimeoutError, match="the disk"):
            await transport.fetch(request_to(server.endpoint), on_headers, receiver.on_chunk)
        await transport.collect(request_to(server.endpoint), 1 << 20)
        assert server.connections == 2


async def test_reading_may_stop_before_the_end() -> None:
    def enough(_: memoryview) -> None:
        raise StopReading

    async with serving(Reply(body=BODY)) as (server, transport):
        receiver = Receiver(enough)
        request = request_to(server.endpoint, chunk_bytes=1_000)
        completion = await transport.fetch(request, receiver.on_headers, receiver.on_chunk)
        assert receiver.body == BODY[:1_000]
        assert not completion.is_delimited
        response = await transport.collect(request, 2_500)
        assert bytes(response.body) == BODY[:3_000]
        assert server.connections == 2


PROXIES: Mapping[str, tuple[str, str]] = {
    "by its URL": ("http://{}", ""),
    "by its address": ("{}", ""),
    "with a password": ("http://us%20er:p%40ss@{}", "us er:p@ss"),
}


@pytest.mark.parametrize(("proxy", "user"), PROXIES.values(), ids=PROXIES)
async def test_the_environment_s_proxy_is_used(
    proxy: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        serving(Reply(body=BODY)) as (server, transport),
        Tunnel(urlsplit(server.endpoint).netloc) as tunnel,
    ):
        monkeypatch.setenv("http_proxy", proxy.format(tunnel.address))
        for _ in range(2):
            response = await transport.collect(request_to("http://models.store:9000"), 1 << 20)
            assert response.body == BODY
        assert tunnel.targets == ["models.store:9000"]
        expected = f"Basic {base64.b64encode(user.encode()).decode()}" if user else ""
        assert tunnel.authorizations == [expected]


async def test_a_host_that_no_proxy_names_is_reached_directly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    async with serving(Reply(body=BODY)) as (server, transport):
        response = await transport.collect(request_to(server.endpoint), 1 << 20)
        assert response.body == BODY
