"""Listing and heading real buckets."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from s3downloader.core.clock import SystemClock
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.sources.s3.source import ObjectInfo, S3Source
from sandbox.link import Link
from sandbox.processes import Process
from sandbox.servers import ApiServer, ObjectServer

from ..support import assert_backs_off
from .conftest import source_at

BUCKET = "models"
ODD_PREFIXES = ["plain/", "st*r?/", "[a-z]/", "(+)^$/", "it's a/", "back\\/", "%2F/", "ünï/", "//"]
ODD_NAMES = ["a", "a b", "..", "x/../y", "x//y", "/z", "st*r", "qu?stion", "日本語", "%20", "t\t"]


async def listed(source: S3Source, prefix: str, bucket: str = BUCKET) -> list[ObjectInfo]:
    return [info async for info in source.list(bucket, prefix)]


async def test_a_listing_has_sizes_and_etags(source: S3Source, object_server: ObjectServer) -> None:
    contents = {"list/empty": b"", "list/config.json": b"{}", "list/deep/er/model": b"weights"}
    for key, data in contents.items():
        await object_server.put(key, data)
    await object_server.put("listless", b"not below list/")
    object_server.client().put_object(Bucket=BUCKET, Key="list/folder/")
    assert {info.key: info for info in await listed(source, "list/")} == {
        key: ObjectInfo(key, len(data), hashlib.md5(data, usedforsecurity=False).hexdigest())
        for key, data in contents.items()
    }


async def test_an_empty_prefix_is_the_whole_bucket(
    source: S3Source, object_server: ObjectServer
) -> None:
    await object_server.put("whole/one", b"1")
    await object_server.put("another", b"2")
    assert {"whole/one", "another"} <= {info.key for info in await listed(source, "")}


async def test_a_prefix_with_nothing_below_it_lists_nothing(source: S3Source) -> None:
    assert await listed(source, "nothing/here/") == []


@pytest.mark.parametrize("prefix", ODD_PREFIXES)
async def test_odd_keys_are_listed_as_they_are(
    odd_source: S3Source, api_server: ApiServer, prefix: str
) -> None:
    keys = {prefix + name for name in ODD_NAMES}
    for key in keys:
        await api_server.put(key, b"")
    await api_server.put("stXrX/decoy", b"what a wildcard would match")
    assert {info.key for info in await listed(odd_source, prefix)} == keys
    page, more = await odd_source.browse(BUCKET, prefix, None, 1000)
    assert ({info.key for info in page}, more) == (keys, False)


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_odd_keys_have_heads(odd_source: S3Source, api_server: ApiServer, name: str) -> None:
    await api_server.put(f"head/{name}", name.encode())
    info = await odd_source.head(BUCKET, f"head/{name}")
    assert info == ObjectInfo(
        f"head/{name}",
        len(name.encode()),
        hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(),
    )


async def test_browsing_goes_page_by_page(source: S3Source, object_server: ObjectServer) -> None:
    for number in range(7):
        await object_server.put(f"pages/{number}", b"")
    object_server.client().put_object(Bucket=BUCKET, Key="pages/2-folder/")
    pages, last, more = [], None, True
    while more:
        page, more = await source.browse(BUCKET, "pages/", last, 3)
        pages.append([info.key[-1] for info in page])
        last = page[-1].key
    assert pages == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


ASKED: dict[str, Callable[[S3Source, str, str], Awaitable[object]]] = {
    "list": lambda source, bucket, key: listed(source, key, bucket),
    "head": lambda source, bucket, key: source.head(bucket, key),
    "browse": lambda source, bucket, key: source.browse(bucket, key, None, 10),
}
every_way = pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)


async def code_of(asking: Awaitable[object]) -> ErrorCode:
    with pytest.raises(DownloaderError) as caught:
        await asking
    assert BUCKET in caught.value.message
    return caught.value.code


@every_way
async def test_an_absent_bucket(
    source: S3Source, ask: Callable[[S3Source, str, str], Awaitable[object]]
) -> None:
    assert await code_of(ask(source, "no-such-models", "a")) is ErrorCode.BUCKET_NOT_FOUND


async def test_an_absent_object(source: S3Source) -> None:
    assert await code_of(source.head(BUCKET, "absent")) is ErrorCode.OBJECT_NOT_FOUND


@every_way
async def test_wrong_credentials(
    source: S3Source,
    ask: Callable[[S3Source, str, str], Awaitable[object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert await code_of(ask(source, BUCKET, "a")) is ErrorCode.ACCESS_DENIED


@every_way
async def test_no_credentials(
    source: S3Source,
    ask: Callable[[S3Source, str, str], Awaitable[object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(DownloaderError, match="set the AWS variables") as caught:
        await ask(source, BUCKET, "a")
    assert caught.value.code is ErrorCode.CREDENTIALS_UNAVAILABLE


@every_way
async def test_an_absent_network_is_noticed_within_seconds(
    ask: Callable[[S3Source, str, str], Awaitable[object]],
) -> None:
    clock = FastClock()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens there
        source = source_at(f"http://127.0.0.1:{taken.getsockname()[1]}", clock=clock)
        assert await code_of(ask(source, BUCKET, "a")) is ErrorCode.NETWORK_UNREACHABLE
    assert len(clock.sleeps) == 3
    assert_backs_off(clock.sleeps, 0.25, 2.0)


class FastClock(SystemClock):
    """A clock on which sleeping takes no time."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)


async def test_a_silent_store_is_not_waited_for(link: Link) -> None:
    source = source_at(link.endpoint, patience=0.2)
    link.freeze()
    assert await code_of(source.head(BUCKET, "a")) is ErrorCode.TIMEOUT


async def test_objects_from_the_future_are_not_left_out(tmp_path: Path) -> None:
    async with FutureServer(tmp_path) as server:
        await server.put("future/model", b"weights")
        assert [info.key for info in await listed(source_at(server.endpoint), "future/")] == [
            "future/model"
        ]


class FutureServer(ApiServer):
    """moto with a clock that is an hour ahead, as it is for a device whose clock is behind."""

    _PROGRAM = """
import datetime, http.server, time
import moto.s3.models, moto.server

now = moto.s3.models.utcnow
moto.s3.models.utcnow = lambda: now() + datetime.timedelta(hours=1)
tell = http.server.BaseHTTPRequestHandler.date_time_string
http.server.BaseHTTPRequestHandler.date_time_string = lambda self: tell(self, time.time() + 3600)
moto.server.main(["-H", "127.0.0.1", "-p", "{port}"])
"""

    async def _launch(self) -> Process:
        return await Process.start(
            [sys.executable, "-c", self._PROGRAM.format(port=self.port)],
            log=self._log,
            ready=self._serves,
            env={"PATH": os.environ["PATH"]},
        )
