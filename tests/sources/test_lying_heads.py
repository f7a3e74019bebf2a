"""Responses to HEAD that are incomplete, or do not come from an object store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from s3downloader.core.checksums import Expected
from s3downloader.core.clock import SystemClock
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.objects import ObjectRef
from s3downloader.sources.s3.client import S3Client
from s3downloader.sources.s3.credentials import Credentials
from s3downloader.sources.s3.object_metadata import ObjectMetadata
from s3downloader.sources.s3.source import S3Source
from sandbox.servers import ObjectServer

from .conftest import described, source_at
from .scripted_server import (
    ReceivedRequest,
    Reply,
    ScriptedServer,
    error_reply,
    login_page,
)

KEYS = {"AWS_ACCESS_KEY_ID": "first", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-west-1"}
MD5 = "0123456789abcdef0123456789abcdef"
DATE = "Wed, 25 Nov 2026 13:02:32 GMT"
STORE = {"x-amz-request-id": "4442587F"}
OBJECT = {"ETag": f'"{MD5}"', "Last-Modified": DATE, **STORE}
LISTED = ObjectRef("k", 3, MD5)


@asynccontextmanager
async def lying(
    answer: Callable[[ReceivedRequest], Reply],
) -> AsyncIterator[tuple[S3Source, ScriptedServer]]:
    async with ScriptedServer(answer) as server:
        yield source_at(server.endpoint, retry_count=0), server


async def headed(answer: Callable[[ReceivedRequest], Reply]) -> tuple[str, int, str]:
    async with lying(answer) as (source, _):
        return described(await source.stat("k"))


async def refusal_of(answer: Callable[[ReceivedRequest], Reply]) -> DownloaderError:
    with pytest.raises(DownloaderError) as caught:
        await headed(answer)
    return caught.value


def measured(head: Mapping[str, str | None], get: Reply) -> Callable[[ReceivedRequest], Reply]:
    """Return answers with these headers for HEAD, and `get` for GET of the first byte."""

    def answer(request: ReceivedRequest) -> Reply:
        if request.method == "HEAD":
            return Reply(200, {**OBJECT, **head})
        assert request.span == (0, 1)
        return get

    return answer


FIRST_BYTE = Reply(206, {**OBJECT, "Content-Range": "bytes 0-0/84"}, b"x")


@pytest.mark.parametrize("length", [None, "", "abc", "-1", "84, 84", "9" * 30])
async def test_a_size_that_the_head_does_not_tell_is_asked_for(length: str | None) -> None:
    assert await headed(measured({"Content-Length": length}, FIRST_BYTE)) == ("k", 84, MD5)


async def test_a_head_that_says_empty_and_has_the_md5_of_something() -> None:
    assert await headed(measured({"Content-Length": "0"}, FIRST_BYTE)) == ("k", 84, MD5)


@pytest.mark.parametrize("etag", ["d41d8cd98f00b204e9800998ecf8427e", "x-0", ""])
async def test_an_object_is_empty_where_the_store_says_so(etag: str) -> None:
    async with lying(lambda _: Reply(200, {**OBJECT, "ETag": f'"{etag}"'})) as (source, server):
        assert (await source.stat("k")).size == 0
        assert server.request_lines == ["HEAD k"]


@pytest.mark.parametrize(
    ("get", "size"),
    [
        (Reply(200, OBJECT, b"x" * 84), 84),
        (Reply(200, OBJECT, b"x" * (1 << 20)), 1 << 20),
        (Reply(200, OBJECT), 0),
        (Reply(416, {**OBJECT, "Content-Range": "bytes */0"}), 0),
        (error_reply(416, "InvalidRange", ActualObjectSize="0"), 0),
    ],
)
async def test_a_store_that_knows_no_ranges_tells_the_size_too(get: Reply, size: int) -> None:
    answer = measured({"Content-Length": None}, get)
    assert await headed(answer) == ("k", size, MD5)


@pytest.mark.parametrize(
    "get",
    [
        Reply(206, {**OBJECT, "Content-Range": "bytes 0-0/*"}, b"x"),
        Reply(206, {**OBJECT, "Content-Range": "bytes 0-0/abc"}, b"x"),
        Reply(206, OBJECT, b"x"),
        Reply(200, OBJECT, b"x" * 84, chunked=True),
        Reply(416, OBJECT),
    ],
)
async def test_a_size_that_nobody_tells_is_not_guessed(get: Reply) -> None:
    error = await refusal_of(measured({"Content-Length": None}, get))
    assert error.code is ErrorCode.SIZE_UNKNOWN
    assert "does not say how many bytes s3://models/k has" in error.message


async def test_a_chunked_body_without_end_is_not_read() -> None:
    answer = measured({"Content-Length": None}, Reply(200, OBJECT, [b"x" * (1 << 20)] * 100, True))
    assert (await refusal_of(answer)).code is ErrorCode.SIZE_UNKNOWN


@pytest.mark.parametrize("status", [200, 204, 302, 307, 403, 404, 511])
async def test_a_login_page_is_no_object(status: int) -> None:
    error = await refusal_of(lambda _: login_page(status, Location="https://login.example/"))
    assert error.code is ErrorCode.NETWORK_UNREACHABLE
    assert (
        "something between the device and the object store responds for s3://models/k"
        in error.message
    )


async def test_a_page_in_the_place_of_a_size() -> None:
    answer = measured({"Content-Length": None}, login_page())
    assert (await refusal_of(answer)).code is ErrorCode.NETWORK_UNREACHABLE


async def test_an_object_that_is_a_page_is_one(object_server: ObjectServer) -> None:
    page = b"<!DOCTYPE html><html>A model card</html>"
    await object_server.put("card.html", page, ContentType="text/html")
    source = source_at(object_server.endpoint, "card.html")
    found = await source.stat("card.html")
    assert found.size == len(page)
    assert await source.read_small(found) == page
    [listed] = [each async for each in source.list()]
    assert described(listed) == described(found)


async def test_the_kind_of_a_store_with_nothing_but_dates() -> None:
    assert await headed(lambda _: Reply(200, {"Last-Modified": DATE}, b"abc")) == ("k", 3, DATE)


async def test_one_request_over_one_connection_tells_an_object() -> None:
    async with lying(lambda _: Reply(200, OBJECT, b"abc")) as (source, server):
        for _ in range(5):
            assert described(await source.stat("k")) == ("k", 3, MD5)
        assert (server.request_lines, server.connections) == (["HEAD k"] * 5, 1)


@pytest.mark.parametrize(
    ("bucket_status", "code"),
    [
        (200, ErrorCode.OBJECT_NOT_FOUND),
        (403, ErrorCode.OBJECT_NOT_FOUND),
        (404, ErrorCode.BUCKET_NOT_FOUND),
    ],
)
async def test_a_refusal_without_a_name_is_of_the_key_or_of_the_bucket(
    bucket_status: int, code: ErrorCode
) -> None:
    error = await refusal_of(lambda request: Reply(404 if request.key else bucket_status, STORE))
    assert error.code is code


async def test_a_refusal_with_a_name_needs_no_other_request() -> None:
    async with lying(lambda _: error_reply(404, "NoSuchKey")) as (source, server):
        with pytest.raises(DownloaderError) as caught:
            await source.stat("k")
        assert caught.value.code is ErrorCode.OBJECT_NOT_FOUND
        assert server.request_lines == ["HEAD k", "GET k"]


@pytest.mark.parametrize("status", [301, 307])
async def test_a_redirect_without_a_code_names_its_goal(status: int) -> None:
    to = {"Location": "http://eu.store.example/models/k?secret=1"}
    error = await refusal_of(lambda _: Reply(status, to))
    assert error.code is ErrorCode.NETWORK_UNREACHABLE
    assert "pointing to http://eu.store.example/models/k)" in error.message


async def test_a_get_with_a_length_that_is_none_is_not_waited_for() -> None:
    async with lying(lambda _: Reply(200, {**OBJECT, "Content-Length": "abc"}, b"abc")) as (s, _):
        with pytest.raises(DownloaderError) as caught:
            await s.read_small(LISTED)
    assert caught.value.code is ErrorCode.NETWORK_UNREACHABLE


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(200, OBJECT, b"ab"), ErrorCode.SOURCE_CHANGED),
        (Reply(200, OBJECT, b"abcd"), ErrorCode.SOURCE_CHANGED),
        (Reply(200, OBJECT, b"abcd", chunked=True), ErrorCode.SOURCE_CHANGED),
        (Reply(200, OBJECT, b"a" * (1 << 20), chunked=True), ErrorCode.SOURCE_CHANGED),
        (Reply(200, {**OBJECT, "Content-Length": "3"}, b"ab", cut=True), "network_unreachable"),
        (Reply(200, OBJECT, b"ab", chunked=True, cut=True), "network_unreachable"),
        (Reply(200, {**STORE, "Last-Modified": DATE}, b"abc"), ErrorCode.SOURCE_CHANGED),
        (Reply(200, {**OBJECT, "ETag": '"other"'}, b"abc"), ErrorCode.SOURCE_CHANGED),
        (login_page(), ErrorCode.NETWORK_UNREACHABLE),
        (login_page(200, ETag='"5f3a-54"'), ErrorCode.NETWORK_UNREACHABLE),
        (Reply(200, {}, b"abc"), ErrorCode.SOURCE_CHANGED),
        (Reply(206, OBJECT, b"abc"), None),
        (Reply(200, {**OBJECT, "ETag": f'W/"{MD5}"'}, b"abc"), None),
        (Reply(200, OBJECT, b"abc", chunked=True), None),
    ],
)
async def test_a_small_object_is_the_one_that_was_listed(
    reply: Reply, code: ErrorCode | str | None
) -> None:
    async with lying(lambda _: reply) as (source, _):
        if code is None:
            assert await source.read_small(LISTED) == b"abc"
            return
        with pytest.raises(DownloaderError) as caught:
            await source.read_small(LISTED)
        assert caught.value.code is ErrorCode(code)


@asynccontextmanager
async def heads_of(
    answer: Callable[[ReceivedRequest], Reply],
) -> AsyncIterator[tuple[ObjectMetadata, ScriptedServer]]:
    async with ScriptedServer(answer) as server:
        client = S3Client(server.endpoint, Credentials(KEYS, SystemClock()))
        yield ObjectMetadata(client), server
        client.transport.close_idle()


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "InvalidArgument"), (501, "NotImplemented"), (403, "SignatureDoesNotMatch"), (400, "")],
)
async def test_a_store_that_knows_no_checksums_is_asked_once(status: int, code: str) -> None:
    def answer(request: ReceivedRequest) -> Reply:
        if "x-amz-checksum-mode" in request.headers:
            return error_reply(status, code)
        return Reply(200, OBJECT, b"abc")

    async with heads_of(answer) as (heads, server):
        assert heads.checksum_mode.headers
        for key in ("k", "l"):
            assert await heads.expected("models", ObjectRef(key, 3, MD5)) == Expected(
                algorithm="MD5", value=MD5
            )
        assert server.request_lines == ["HEAD k", "GET k", "HEAD k", "HEAD l"]
        assert not heads.checksum_mode.headers


async def test_a_refusal_of_another_cause_is_not_put_down_to_checksums() -> None:
    async with heads_of(lambda _: error_reply(403, "AccessDenied", "No.")) as (heads, _):
        with pytest.raises(DownloaderError, match=r"AccessDenied: No\.") as caught:
            await heads.expected("models", LISTED)
        assert caught.value.code is ErrorCode.ACCESS_DENIED
        assert heads.checksum_mode.headers


async def test_expired_credentials_are_not_put_down_to_checksums() -> None:
    async with heads_of(lambda _: error_reply(400, "ExpiredToken")) as (heads, server):
        with pytest.raises(DownloaderError) as caught:
            await heads.expected("models", LISTED)
        assert caught.value.code is ErrorCode.CREDENTIALS_UNAVAILABLE
        assert all("x-amz-checksum-mode" in request.headers for request in server.requests)


async def test_what_is_not_supported_is_not_called_busy() -> None:
    async with heads_of(lambda _: error_reply(501, "NotImplemented", "No.")) as (heads, _):
        with pytest.raises(DownloaderError) as caught:
            await heads.expected("models", LISTED)
        assert caught.value.code is ErrorCode.ENGINE_FAILED


@pytest.mark.parametrize(
    ("etag", "agrees"),
    [(MD5, True), (f"W/{MD5}", True), (DATE, True), ("", True), ("x", False), (DATE[1:], False)],
)
async def test_the_checksum_is_of_the_object_that_was_listed(etag: str, agrees: bool) -> None:
    async with heads_of(lambda _: Reply(200, OBJECT, b"abc")) as (heads, _):
        if agrees:
            assert await heads.expected("models", ObjectRef("k", 3, etag))
            return
        with pytest.raises(DownloaderError) as caught:
            await heads.expected("models", ObjectRef("k", 3, etag))
        assert caught.value.code is ErrorCode.SOURCE_CHANGED


@pytest.mark.parametrize("length", [None, "abc", "-1"])
async def test_a_head_without_a_proper_length_still_tells_a_checksum(length: str | None) -> None:
    head = {**OBJECT, "Content-Length": length, "x-amz-checksum-crc32": "AAAAAA=="}
    async with heads_of(lambda _: Reply(200, head)) as (heads, _):
        expected = await heads.expected("models", LISTED)
        assert expected == Expected(algorithm="CRC32", value="AAAAAA==")


COMPOSITE = {**OBJECT, "ETag": '"x-2"', "x-amz-checksum-crc32": "AAAAAA==-2"}


def attributes(*sizes: int, **elements: str) -> Reply:
    """Return a page of the attributes of an object in parts."""
    document = "".join(f"<{name}>{value}</{name}>" for name, value in elements.items())
    document += "".join(f"<Part><Size>{size}</Size></Part>" for size in sizes)
    body = f"<GetObjectAttributesResponse><ObjectParts>{document}</ObjectParts>"
    return Reply(200, STORE, f"{body}</GetObjectAttributesResponse>".encode())


async def test_pages_of_parts_advance_or_end() -> None:
    def answer(request: ReceivedRequest) -> Reply:
        if "attributes" in request.query:
            return attributes(1, IsTruncated="true", NextPartNumberMarker="1")
        return Reply(200, COMPOSITE, b"abc")

    async with heads_of(answer) as (heads, server):
        assert await heads.expected("models", ObjectRef("k", 3, "x-2")) is None
        assert [a for a in server.request_lines if a.startswith("GET")] == ["GET k", "GET k"]


@pytest.mark.parametrize("when", ["attributes", "partNumber"])
async def test_a_login_page_among_the_parts_is_no_lack_of_a_checksum(when: str) -> None:
    def answer(request: ReceivedRequest) -> Reply:
        if when in request.query:
            return login_page()
        if "attributes" in request.query:
            return error_reply(403, "AccessDenied")
        return Reply(200, COMPOSITE, b"abc")

    async with heads_of(answer) as (heads, _):
        with pytest.raises(DownloaderError) as caught:
            await heads.expected("models", ObjectRef("k", 3, "x-2"))
        assert caught.value.code is ErrorCode.NETWORK_UNREACHABLE
