"""Wrong responses of an object store never complete a download, and remove no published model."""

from __future__ import annotations

import gzip
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from s3downloader.core.aio import timeout
from s3downloader.core.errors import TRANSIENT, ErrorCode
from s3downloader.core.objects import ObjectRef
from s3downloader.core.records import State
from s3downloader.engines.auto import AutoEngine
from s3downloader.engines.ranged.engine import RangedEngine
from s3downloader.engines.s5cmd.engine import S5cmdEngine
from s3downloader.engines.s5cmd.program import S5cmd
from s3downloader.sources.http.transport import Transport
from s3downloader.sources.registry import sources_over
from s3downloader.sources.s3.client import S3Client
from s3downloader.sources.s3.credentials import Credentials
from s3downloader.sources.s3.object_metadata import ObjectMetadata

from ..engines.objects import Served
from ..sources.scripted_server import (
    ReceivedRequest,
    Reply,
    ScriptedServer,
    error_reply,
    login_page,
)
from ..support import PATIENCE, JumpingClock
from .harness import Harness
from .stand_ins import Source

KIB, MIB = 1 << 10, 1 << 20
GOOD = random.Random(1).randbytes(3 * MIB)
NEW = random.Random(2).randbytes(3 * MIB)
KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1"}


class ListedSource(Source):
    """A source whose listing the test decides."""

    def serve(self, key: str, served: Served, etag: str | None = None) -> None:
        self.objects[key] = len(served.content)
        self.etags[key] = served.etag or "" if etag is None else etag


class Device:
    """A daemon with the real engines, on a server whose responses the test decides."""

    def __init__(self, harness: Harness, server: ScriptedServer) -> None:
        self.harness = harness
        self.server = server
        self.source = ListedSource()
        self.clock = harness.clock = JumpingClock()
        self.transport = Transport(time_limit=2.0)
        client = S3Client(server.endpoint, Credentials(KEYS, self.clock), self.transport)
        sources = sources_over(ObjectMetadata(client), self.clock)
        ranged = RangedEngine(client=client, sources=sources, clock=self.clock)
        s5cmd = S5cmdEngine(S5cmd(endpoint_url=server.endpoint), self.clock, sources)
        harness.real = (self.source.sources, AutoEngine(s5cmd=s5cmd, ranged=ranged))
        harness.configuration["ProcessInterval"] = 0.2

    def serve(self, served: Served, etag: str | None = None, key: str = "model") -> None:
        """Serve an object, listed with its own ETag or with another."""
        self.source.serve(key, served, etag)
        self.server.answer = served

    async def download(self, download_id: str, **fields: Any) -> None:
        fields = {"publish": "replace", "part_size": MIB, **fields}
        response = await self.harness.download("model", download_id, **fields)
        assert response["success"], response

    @property
    def published(self) -> bytes:
        return (self.harness.downloads / "model").read_bytes()


@pytest.fixture
async def device(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Device]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)  # for s5cmd
    async with ScriptedServer(Served(b"")) as server:
        device = Device(harness, server)
        yield device
        device.transport.close_idle()


def longer(served: Served) -> Callable[[ReceivedRequest], Reply]:
    def answer(request: ReceivedRequest) -> Reply:
        reply = served(request)
        if request.method == "HEAD":
            return reply
        assert isinstance(reply.body, bytes)
        return replace(reply, body=[reply.body, b"more"], chunked=True)

    return answer


def compressed(served: Served) -> Callable[[ReceivedRequest], Reply]:
    def answer(request: ReceivedRequest) -> Reply:
        reply = served(request)
        if request.method == "HEAD":
            return reply
        assert isinstance(reply.body, bytes)
        headers = {**reply.headers, "Content-Encoding": "gzip"}
        return Reply(reply.status, headers, gzip.compress(reply.body), chunked=True)

    return answer


def another(served: Served) -> Callable[[ReceivedRequest], Reply]:
    def answer(request: ReceivedRequest) -> Reply:
        reply = served(request)
        if request.method == "HEAD":
            return reply
        return replace(reply, headers={**reply.headers, "ETag": '"another"'})

    return answer


def portal(served: Served) -> Callable[[ReceivedRequest], Reply]:
    return lambda request: served(request) if request.method == "HEAD" else login_page()


Lie = Callable[[Served], Callable[[ReceivedRequest], Reply]]
LIES: list[tuple[Lie, str, str]] = [
    (longer, "failed", "size_mismatch"),
    (compressed, "failed", "encoding_changed"),
    (another, "failed", "source_changed"),
    (portal, "waiting", "network_unreachable"),
]


@pytest.mark.parametrize(("lie", "status", "code"), LIES, ids=[lie.__name__ for lie, *_ in LIES])
async def test_a_lie_leaves_the_good_model_where_it_is(
    device: Device, lie: Lie, status: str, code: str
) -> None:
    harness = device.harness
    new = Served(NEW, etag="new")
    async with harness.running():
        device.serve(Served(GOOD, etag="good"))
        await device.download("good")
        await harness.completed("good")
        device.serve(new)
        device.server.answer = lie(new)
        await device.download("bad")
        await harness.until(lambda: harness.status_of("bad")["status"] == status)
        assert harness.status_of("bad")["error_code"] == code
        assert "download_completed" not in harness.events("bad")
        assert device.published == GOOD
        device.server.answer = new
        if status == "waiting":
            device.clock.jump(60)
        else:
            await harness.ask("resume", download_id="bad")
        await harness.completed("bad")
    assert device.published == NEW


@pytest.mark.parametrize(("lie", "status", "code"), LIES, ids=[lie.__name__ for lie, *_ in LIES])
async def test_details_tell_why_a_file_has_not_arrived(
    device: Device, lie: Lie, status: str, code: str
) -> None:
    harness = device.harness
    new = Served(NEW, etag="new")
    device.serve(new)
    async with harness.running():
        device.server.answer = lie(new)
        await device.download("x")
        await harness.until(lambda: harness.status_of("x")["status"] == status)
        [file] = (await harness.ask("details", download_id="x"))["files"]
        assert (file["done"], file["error_code"]) == (False, code)
        assert "s3://models/model" in file["error"]
        assert file["attempts"] > 0
        device.server.answer = new
        if status == "waiting":
            device.clock.jump(60)
        else:
            await harness.ask("resume", download_id="x")
        await harness.completed("x")
        [file] = (await harness.ask("details", download_id="x"))["files"]
    assert file["done"]
    assert not {"error", "error_code", "next_attempt"} & file.keys()


async def test_no_attempt_is_announced_while_nobody_makes_one(device: Device) -> None:
    harness = device.harness
    new = Served(NEW, etag="new")
    device.serve(new)
    busy = error_reply(503, "SlowDown")
    headers = {**busy.headers, "Retry-After": "60"}
    device.server.answer = lambda request: (
        new(request) if request.method == "HEAD" else replace(busy, headers=headers)
    )

    async def details() -> dict[str, Any]:
        [file] = (await harness.ask("details", download_id="x"))["files"]
        return cast(dict[str, Any], file)

    async with harness.running():
        await device.download("x")
        async with timeout(PATIENCE):
            await harness.until(lambda: harness.status_of("x")["status"] == "downloading")
            while "next_attempt" not in await details():
                continue
        await harness.ask("pause", download_id="x")
        file = await details()
        assert file["error_code"] == "timeout"
        assert "next_attempt" not in file


async def test_an_object_without_an_etag_that_is_replaced_is_not_mixed(device: Device) -> None:
    harness = device.harness
    old = Served(GOOD, etag=None)
    new = Served(NEW, etag=None, modified="Wed, 25 Nov 2026 11:00:00 GMT")

    def replaced(request: ReceivedRequest) -> Reply:
        """Answer without checking conditions."""
        served = old if len(device.server.requests) < 4 else new
        if served is new:
            device.source.serve("model", new, new.modified)
        return served(replace(request, headers={**request.headers, "if-unmodified-since": ""}))

    async with harness.running():
        device.serve(old, etag=old.modified)
        device.server.answer = replaced
        await device.download("moving")
        await harness.completed("moving")
    assert device.published == NEW


@pytest.mark.parametrize("etag", ["listed", "W/own", ""])
async def test_what_is_listed_with_another_etag_for_good_arrives(device: Device, etag: str) -> None:
    async with device.harness.running():
        device.serve(Served(NEW, etag="own"), etag=etag)
        await device.download("odd")
        await device.harness.completed("odd")
    assert device.published == NEW
    assert not device.harness.notices


class ChangingSource(ListedSource):
    """A source whose object is replaced just before the third listing."""

    def __init__(self, change: Callable[[], None]) -> None:
        super().__init__()
        self._change = change

    async def stat(self, name: str) -> ObjectRef:
        if self.tries == 2:
            self._change()
        return await super().stat(name)


async def test_a_change_is_seen_where_listed_etags_are_not_the_objects(
    device: Device,
) -> None:
    """Requests are pinned to the object's own validator; changes are found by listings."""
    harness = device.harness

    def change() -> None:
        device.serve(Served(NEW, etag="own-2"), etag="listed-2")

    device.source = ChangingSource(change)
    assert harness.real
    harness.real = (device.source.sources, harness.real[1])
    async with harness.running():
        device.serve(Served(GOOD, etag="own-1"), etag="listed-1")
        await device.download("odd")
        await harness.completed("odd")
        await harness.until(lambda: harness.notices)
    assert device.published == NEW
    assert [notice["error_code"] for notice in harness.notices] == ["source_changed"]


async def test_a_store_without_ranges_sends_at_most_twice_the_object(device: Device) -> None:
    served = Served(GOOD)
    sent = 0

    def whole(request: ReceivedRequest) -> Reply:
        nonlocal sent
        sent += len(GOOD) if request.method == "GET" else 0
        return served.whole(request)

    async with device.harness.running():
        device.serve(served)
        device.server.answer = whole
        await device.download("whole")
        await device.harness.completed("whole")
    assert device.published == GOOD
    assert sent <= 2 * len(GOOD)


async def test_expired_keys_that_stay_so_are_tried_seldom(device: Device) -> None:
    harness = device.harness
    harness.transient = TRANSIENT | {ErrorCode.CREDENTIALS_UNAVAILABLE}
    async with harness.running():
        device.serve(Served(GOOD))
        device.server.answer = lambda _: error_reply(400, "ExpiredToken")
        await device.download("expired")
        for _ in range(3):
            await harness.becomes(State.WAITING, "expired")
            assert harness.status_of("expired")["error_code"] == "credentials_unavailable"
            device.clock.jump(60)
            await harness.becomes(State.DOWNLOADING, "expired")
        await harness.becomes(State.WAITING, "expired")
        assert len(device.server.requests) <= 4 * 4, "two tries, each with a second request"
        device.server.answer = Served(GOOD)
        device.clock.jump(60)
        await harness.completed("expired")
    assert device.published == GOOD


def rangeless(served: Served) -> Callable[[ReceivedRequest], Reply]:
    return served.whole


S5CMD_LIES = [
    (longer, "engine_failed"),
    (portal, "size_mismatch"),
    (rangeless, "engine_failed"),
]


@pytest.mark.parametrize(("lie", "code"), S5CMD_LIES, ids=[lie.__name__ for lie, _ in S5CMD_LIES])
async def test_s5cmd_publishes_no_lie_either(device: Device, lie: Lie, code: str) -> None:
    served = Served(bytes(101 * MIB))
    async with device.harness.running():
        device.serve(served)
        device.server.answer = lie(served)
        await device.download("s5cmd", engine="s5cmd", retry_count=1)
        error = await device.harness.wait_for_event("download_error", "s5cmd")
    assert error["error_code"] == code
    assert not (device.harness.downloads / "model").exists()


async def test_s5cmd_is_not_given_what_nothing_holds_together(device: Device) -> None:
    """Its requests are not pinned, so a replaced object would not be noticed."""
    served = Served(bytes(101 * MIB), etag=None, modified=None)
    async with device.harness.running():
        device.serve(served)
        await device.download("s5cmd", engine="s5cmd")
        error = await device.harness.wait_for_event("download_error", "s5cmd")
    assert error["error_code"] == "engine_failed"
    assert "engine auto" in error["error"]
