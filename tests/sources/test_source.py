"""Real buckets are listed, and their objects looked up."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from s3downloader.core.clock import SystemClock
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.objects import ObjectRef
from s3downloader.sources.s3.source import S3Source
from sandbox.link import Link
from sandbox.processes import Process
from sandbox.servers import ApiServer, ObjectServer

from ..support import assert_backs_off
from .conftest import Buckets, buckets_at, described, source_at

BUCKET = "models"
ODD_PREFIXES = ["plain/", "st*r?/", "[a-z]/", "(+)^$/", "it's a/", "back\\/", "%2F/", "ünï/", "//"]
ODD_NAMES = ["a", "a b", "..", "x/../y", "x//y", "/z", "st*r", "qu?stion", "日本語", "%20", "t\t"]


async def listed(source: S3Source) -> list[ObjectRef]:
    return [found async for found in source.list()]


async def names_in(source: S3Source) -> set[str]:
    return {found.name for found in await listed(source)}


async def test_a_listing_has_sizes_validators_and_dates(
    buckets: Buckets, object_server: ObjectServer
) -> None:
    before = time.time()
    contents = {"list/empty": b"", "list/config.json": b"{}", "list/deep/er/model": b"weights"}
    for key, data in contents.items():
        await object_server.put(key, data)
    await object_server.put("listless", b"not below list/")
    object_server.client().put_object(Bucket=BUCKET, Key="list/folder/")
    source = buckets(BUCKET, "list/")
    found = await listed(source)
    assert {described(each) for each in found} == {
        (key, len(data), hashlib.md5(data, usedforsecurity=False).hexdigest())
        for key, data in contents.items()
    }
    for each in found:
        assert each.modified is not None
        assert int(before) - 1 <= each.modified <= time.time() + 1
        assert (await source.stat(each.name)).modified == int(each.modified)


async def test_an_empty_prefix_is_the_whole_bucket(
    buckets: Buckets, object_server: ObjectServer
) -> None:
    await object_server.put("whole/one", b"1")
    await object_server.put("another", b"2")
    assert {"whole/one", "another"} <= await names_in(buckets(BUCKET))


async def test_a_prefix_with_nothing_below_it_lists_nothing(buckets: Buckets) -> None:
    assert await listed(buckets(BUCKET, "nothing/here/")) == []


@pytest.mark.parametrize("prefix", ODD_PREFIXES)
async def test_odd_keys_are_listed_as_they_are(
    odd_buckets: Buckets, api_server: ApiServer, prefix: str
) -> None:
    keys = {prefix + name for name in ODD_NAMES}
    for key in keys:
        await api_server.put(key, b"")
    await api_server.put("stXrX/decoy", b"what a wildcard would match")
    assert await names_in(odd_buckets(BUCKET, prefix)) == keys


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_odd_keys_have_heads(odd_buckets: Buckets, api_server: ApiServer, name: str) -> None:
    await api_server.put(f"head/{name}", name.encode())
    assert described(await odd_buckets(BUCKET).stat(f"head/{name}")) == (
        f"head/{name}",
        len(name.encode()),
        hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(),
    )


async def test_a_listing_goes_on_after_a_name(
    buckets: Buckets, object_server: ObjectServer
) -> None:
    for number in range(7):
        await object_server.put(f"pages/{number}", b"")
    object_server.client().put_object(Bucket=BUCKET, Key="pages/2-folder/")
    source = buckets(BUCKET, "pages/")
    for after in ("", "pages/2", "pages/5", "pages/6"):
        for page in (None, 3):
            found = [each.name async for each in source.list(after=after, page=page)]
            assert found == [f"pages/{n}" for n in range(7) if f"pages/{n}" > after]


Ask = Callable[[S3Source], Awaitable[object]]
ASKED: dict[str, Ask] = {"list": listed, "stat": lambda source: source.stat("a")}
every_way = pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)


async def code_of(asking: Awaitable[object]) -> ErrorCode:
    with pytest.raises(DownloaderError) as caught:
        await asking
    assert BUCKET in caught.value.message
    return caught.value.code


@every_way
async def test_an_absent_bucket(buckets: Buckets, ask: Ask) -> None:
    assert await code_of(ask(buckets("no-such-models", "a"))) is ErrorCode.BUCKET_NOT_FOUND


async def test_an_absent_object(buckets: Buckets) -> None:
    assert await code_of(buckets(BUCKET).stat("absent")) is ErrorCode.OBJECT_NOT_FOUND


@every_way
async def test_wrong_credentials(
    buckets: Buckets, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert await code_of(ask(buckets(BUCKET, "a"))) is ErrorCode.ACCESS_DENIED


@every_way
async def test_no_credentials(buckets: Buckets, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(DownloaderError, match="set the AWS variables") as caught:
        await ask(buckets(BUCKET, "a"))
    assert caught.value.code is ErrorCode.CREDENTIALS_UNAVAILABLE


@every_way
async def test_an_absent_network_is_noticed_within_seconds(
    ask: Ask,
) -> None:
    clock = FastClock()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # where nobody listens
        buckets = buckets_at(f"http://127.0.0.1:{taken.getsockname()[1]}", clock=clock)
        assert await code_of(ask(buckets(BUCKET, "a"))) is ErrorCode.NETWORK_UNREACHABLE
    assert len(clock.sleeps) == 3
    assert_backs_off(clock.sleeps, 0.25, 2.0)


class FastClock(SystemClock):
    """A clock on which sleeps take no time."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)


async def test_a_silent_store_is_not_waited_for(link: Link) -> None:
    source = source_at(link.endpoint, time_limit=0.2)
    link.freeze()
    assert await code_of(source.stat("a")) is ErrorCode.TIMEOUT


async def test_objects_from_the_future_are_not_left_out(tmp_path: Path) -> None:
    async with FutureServer(tmp_path) as server:
        await server.put("future/model", b"weights")
        assert await names_in(source_at(server.endpoint, "future/")) == {"future/model"}


class FutureServer(ApiServer):
    """moto with a clock that is an hour ahead, as for a device whose clock is behind."""

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
