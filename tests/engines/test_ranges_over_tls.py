"""The ranged engine over HTTPS: certificates, and a fetch that is cancelled inside TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from s3downloader.core.aio import stop
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import Options
from sandbox.link import Link
from sandbox.servers import ObjectServer
from sandbox.servers.certificates import make_certificates
from tests.support import eventually

from ..connections import Connections
from .support import FastClock, Files, ForgivingRecorder, Plan, Recorder, by_ranges, fetch_with, job

MIB = 1 << 20
SMALL_PARTS = Options(part_size=MIB)


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    sink.close()


@pytest.fixture
async def endpoint(link: Link, tmp_path: Path) -> AsyncIterator[str]:
    """An HTTPS endpoint in front of `link`, with a certificate of the authority in `ca.pem`."""
    make_certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source, sink = await asyncio.open_connection("127.0.0.1", link.port)
        try:
            await asyncio.gather(_pipe(reader, sink), _pipe(source, writer))
        finally:
            sink.close()

    connections = Connections()
    server = await asyncio.start_server(
        lambda reader, writer: connections.serve(carry(reader, writer), writer),
        *("127.0.0.1", 0),
        ssl=context,
    )
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        link.cut()
        await connections.end()


async def test_ranges_go_on_over_tls_after_they_were_broken_off(
    endpoint: str,
    link: Link,
    object_server: ObjectServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    plan = Plan(object_server, "ranges/tls/")
    await plan.put("small", bytes(1_000))
    await plan.add("large", 12 * MIB)
    link.freeze_after(4 * MIB)
    staging = tmp_path / "staging"
    engine = by_ranges(endpoint)
    first = Recorder()
    fetching = asyncio.create_task(
        fetch_with(engine, job(staging, SMALL_PARTS), Files(plan.files), first)
    )
    await eventually(lambda: link.is_frozen)
    await stop(fetching)
    link.thaw()

    done = set(first.numbers)
    rest = [file for file in plan.files if file.number not in done]
    second = Recorder()
    await fetch_with(by_ranges(endpoint), job(staging, SMALL_PARTS), Files(rest), second)
    second.files += first.files
    plan.check(staging, second)
    assert link.bytes_down <= plan.size + 4 * MIB


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    endpoint: str, object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "ranges/untrusted/")
    await plan.put("small", bytes(1_000))
    with pytest.raises(DownloaderError, match="certificate that is not trusted") as caught:
        await fetch_with(
            by_ranges(endpoint, FastClock()),
            job(tmp_path / "staging"),
            Files(plan.files),
            ForgivingRecorder(),
        )
    assert caught.value.code is ErrorCode.NETWORK_UNREACHABLE
