"""Wrong or incomplete responses to listings damage no model.

Source and engine are the real ones. The test decides the server's responses.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from s3downloader.core.records import State
from s3downloader.engines.ranged.engine import RangedEngine
from s3downloader.sources.registry import sources_over
from s3downloader.sources.s3.client import S3Client
from s3downloader.sources.s3.credentials import Credentials
from s3downloader.sources.s3.object_metadata import ObjectMetadata

from ..sources.scripted_server import (
    CorrectAnswers,
    ReceivedRequest,
    Reply,
    ScriptedServer,
    error_reply,
    listing_reply,
    login_page,
)
from ..support import JumpingClock
from .harness import Harness

GOOD = {"config": b"{}", "weights": b"good" * 100}


@pytest.fixture
def clock(harness: Harness) -> JumpingClock:
    """The machine's clock, which the test can set forward."""
    clock = JumpingClock()
    harness.clock = clock
    return clock


@pytest.fixture
def honest() -> CorrectAnswers:
    return CorrectAnswers({f"v1/{name}": data for name, data in GOOD.items()})


@pytest.fixture
async def server(
    harness: Harness, clock: JumpingClock, honest: CorrectAnswers, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ScriptedServer]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "first")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ScriptedServer(honest))
        client = S3Client(server.endpoint, Credentials(os.environ, clock))
        stack.callback(client.transport.close_idle)
        sources = sources_over(ObjectMetadata(client), clock)
        ranged = RangedEngine(client=client, sources=sources, clock=clock)
        harness.real = (sources, ranged)
        harness.configuration["ProcessInterval"] = 0.2
        yield server


async def publish_good(harness: Harness) -> None:
    await harness.download("v1/", "good", "m", publish="replace")
    await harness.completed("good")
    assert harness.files("m") == set(GOOD)


def check_good(harness: Harness) -> None:
    assert {name: (harness.downloads / "m" / name).read_bytes() for name in GOOD} == GOOD


WAYS = {
    "a page": login_page,
    "a page like a file": lambda: login_page(200, ETag='"5f3a-54"'),
    "a redirect": lambda: login_page(302, Location="https://login.example/"),
    "a refusal": lambda: login_page(403),
    "a network that wants a login": lambda: login_page(511),
}


@pytest.mark.parametrize("key", ["v2/", "v2/weights"])
@pytest.mark.parametrize("lie", WAYS.values(), ids=WAYS)
async def test_a_login_page_is_waited_out_and_never_published(
    harness: Harness,
    server: ScriptedServer,
    honest: CorrectAnswers,
    clock: JumpingClock,
    lie: Callable[[], Reply],
    key: str,
) -> None:
    honest.objects |= {"v2/config": b"new", "v2/weights": b"new" * 1_000}
    async with harness.running():
        await publish_good(harness)
        server.answer = lambda _: lie()
        await harness.download(key, "x", "m" if key.endswith("/") else "", publish="replace")
        await harness.becomes(State.WAITING, "x")
        assert harness.status_of("x")["error_code"] == "network_unreachable"
        check_good(harness)
        server.answer = honest
        clock.jump(60)
        await harness.completed("x")
    if key.endswith("/"):
        assert (harness.downloads / "m" / "config").read_bytes() == b"new"
    else:
        assert (harness.downloads / "weights").read_bytes() == b"new" * 1_000


async def test_a_head_without_a_length_publishes_no_empty_file(
    harness: Harness, server: ScriptedServer, honest: CorrectAnswers
) -> None:
    def answer(request: ReceivedRequest) -> Reply:
        reply = honest(request)
        if request.method == "HEAD":
            return Reply(reply.status, {**reply.headers, "Content-Length": None})
        return reply

    server.answer = answer
    async with harness.running():
        await harness.download("v1/weights", "x")
        await harness.completed("x")
    assert (harness.downloads / "weights").read_bytes() == GOOD["weights"]


async def test_a_size_that_the_store_never_tells_is_refused(
    harness: Harness, server: ScriptedServer, honest: CorrectAnswers
) -> None:
    def answer(request: ReceivedRequest) -> Reply:
        reply = honest(request)
        if request.method == "HEAD":
            return Reply(200, {**reply.headers, "Content-Length": None})
        return Reply(200, {**reply.headers, "Content-Range": None}, GOOD["weights"], chunked=True)

    server.answer = answer
    async with harness.running():
        await harness.download("v1/weights", "x")
        error = await harness.wait_for_event("download_error", "x")
        assert error["error_code"] == "size_unknown"
    assert harness.files() == set()


async def test_a_part_of_a_listing_never_replaces_the_model(
    harness: Harness, server: ScriptedServer, honest: CorrectAnswers
) -> None:
    async with harness.running():
        await publish_good(harness)
        only = [{"Key": "v1/config", "Size": "2", "ETag": f'"{honest.etag("v1/config")}"'}]
        server.answer = lambda request: (
            listing_reply(only, truncated=True) if request.lists else honest(request)
        )
        await harness.download("v1/", "x", "m", publish="replace")
        error = await harness.wait_for_event("download_error", "x")
        assert error["error_code"] == "listing_incomplete"
        assert "does not list all of s3://models/v1/" in error["error"]
    check_good(harness)


async def test_a_listing_without_etags_is_listed_and_fetched(
    harness: Harness, server: ScriptedServer, honest: CorrectAnswers
) -> None:
    def answer(request: ReceivedRequest) -> Reply:
        if not request.lists:
            return honest(request)
        sizes = {key: str(len(data)) for key, data in honest.objects.items()}
        return listing_reply([{"Key": key, "Size": size} for key, size in sizes.items()])

    server.answer = answer
    async with harness.running():
        shown = await harness.ask("list", list_type="s3", bucket="models", key="v1/")
        assert [o["key"] for o in shown["objects"]] == ["v1/config", "v1/weights"]
        await harness.download("v1/", "x", "m")
        await harness.completed("x")
    check_good(harness)


async def test_what_cannot_become_a_file_is_told_once(
    harness: Harness, server: ScriptedServer, honest: CorrectAnswers
) -> None:
    honest.objects |= {"v1/": b"", "v1/a/": b"content", "v1/b/": b"more", "v1/c/": b""}
    async with harness.running():
        await harness.download("v1/", "x", "m")
        await harness.completed("x")
        await harness.until(lambda: harness.notices)
    [notice] = harness.notices
    assert (notice["level"], notice["error_code"]) == ("warning", "unsafe_key")
    assert "s3://models/v1/a/ and 1 other cannot become a file" in notice["message"]
    assert notice["error_details"] == {"key": "v1/a/", "objects": 2}
    assert harness.files("m") == set(GOOD)


async def test_nothing_but_what_cannot_become_a_file(
    harness: Harness, server: ScriptedServer, honest: CorrectAnswers
) -> None:
    honest.objects = {"v1/a/": b"content"}
    async with harness.running():
        await harness.download("v1/", "x", "m")
        error = await harness.wait_for_event("download_error", "x")
        assert error["error_code"] == "no_objects_matched"
        assert "except 1 with a key that ends in /" in error["error"]


@pytest.mark.parametrize("key", ["v1/", "v1/t\x01"])
async def test_a_control_character_in_a_key_is_named(
    harness: Harness, server: ScriptedServer, honest: CorrectAnswers, key: str
) -> None:
    honest.objects["v1/t\x01"] = b"content"
    async with harness.running():
        await harness.download(key, "x", "m")
        error = await harness.wait_for_event("download_error", "x")
        assert error["error_code"] == "unsafe_key"
        assert r"'v1/t\x01' cannot become a file" in error["error"]
        assert "control character" in error["error"]


async def test_the_words_of_a_refusal_reach_the_operator(
    harness: Harness, server: ScriptedServer, honest: CorrectAnswers
) -> None:
    words = "Cannot download file, download bandwidth cap exceeded. See the Caps & Alerts page."
    server.answer = lambda _: error_reply(403, "AccessDenied", words)
    async with harness.running():
        await harness.download("v1/weights", "x")
        error = await harness.wait_for_event("download_error", "x")
        assert error["error_code"] == "access_denied"
        assert f"AccessDenied: {words}" in error["error"]
        listed = await harness.ask("list", list_type="s3", bucket="models", key="v1/")
        assert f"AccessDenied: {words}" in listed["error"]


async def test_planning_one_object_costs_one_request_each_time(
    harness: Harness, server: ScriptedServer
) -> None:
    async with harness.running():
        await harness.download("v1/config", "x")
        await harness.completed("x")
    assert server.request_lines == ["HEAD v1/config", "GET v1/config", "HEAD v1/config"]
    assert server.connections <= 3  # a pause during a fetch finds no idle connection
