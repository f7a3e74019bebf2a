"""Bytes that have arrived are kept when a fetch is cancelled, even those still in the kernel."""

from __future__ import annotations

import array
import asyncio
import fcntl
import random
import re
import ssl
import termios
from pathlib import Path

import pytest

from s3downloader.core.aio import stop
from s3downloader.core.clock import SystemClock
from s3downloader.core.records import FileRecord
from s3downloader.core.throttle import Throttle
from sandbox.servers.certificates import make_certificates
from tests.support import eventually

from .support import Files, Recorder, by_ranges, fetch_with, job

ETAG = "0123456789abcdef0123456789abcdef-1"
BODY = random.Random(1).randbytes(400_000)
FILE = FileRecord(1, "model", "model", len(BODY), ETAG)


class HaltingServer:
    """Answers requests for ranges of BODY, but sends only the bytes that the test releases."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.request_lines: list[int] = []
        self.endpoint = ""
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._client: asyncio.StreamWriter | None = None
        self._at = 0

    async def __aenter__(self) -> HaltingServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.endpoint = f"http{'s' if self._tls else ''}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connection."""
        if self._client:
            self._client.close()
            self._client = None

    async def send(self, count: int) -> None:
        """Send the next bytes, and wait until they are in the client's kernel."""
        await eventually(lambda: self._client)
        assert self._client
        self._client.write(BODY[self._at : self._at + count])
        self._at += count
        await self._client.drain()
        connected = self._client.get_extra_info("socket")
        await eventually(lambda: not _unacknowledged(connected.fileno()))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        found = re.search(r"range: bytes=(\d+)-", head)
        assert found
        self._at = int(found[1])
        self.request_lines.append(self._at)
        writer.write(
            f'HTTP/1.1 206 Partial Content\r\nETag: "{ETAG}"\r\n'
            f"Content-Range: bytes {self._at}-{len(BODY) - 1}/{len(BODY)}\r\n"
            f"Content-Length: {len(BODY) - self._at}\r\n\r\n".encode()
        )
        self._client = writer


def _unacknowledged(descriptor: int) -> int:
    """Return the number of sent bytes that are not acknowledged. Source: SIOCOUTQ in tcp(7)."""
    count = array.array("i", [0])
    if descriptor >= 0:  # otherwise it is closed, because the client has everything
        fcntl.ioctl(descriptor, termios.TIOCOUTQ, count)
    return count[0]


@pytest.mark.parametrize("limit", [None, 10_000])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_bytes_of_a_broken_off_fetch_are_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, limit: int | None
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    tls = None
    if scheme == "https":
        make_certificates(tmp_path)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    staging = tmp_path / "staging"
    async with HaltingServer(tls) as server:
        engine, sink = by_ranges(server.endpoint), Recorder()
        for count in (30_000, 50_000):
            share = Throttle(SystemClock(), lambda: 0).open(limit)
            fetching = asyncio.create_task(
                fetch_with(engine, job(staging, share=share), Files([FILE]), sink)
            )
            await server.send(20_000)
            await server.send(count - 20_000)
            await stop(fetching)
            server.hang_up()
        assert sink.total == 80_000
        fetching = asyncio.create_task(fetch_with(engine, job(staging), Files([FILE]), sink))
        await server.send(len(BODY) - 80_000)
        await fetching
        assert server.request_lines == [0, 30_000, 80_000]
    assert (staging / "files" / "model").read_bytes() == BODY
