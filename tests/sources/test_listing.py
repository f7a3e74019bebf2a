"""Listings that are incomplete, repeat themselves, or do not come from an object store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.objects import ObjectRef
from s3downloader.sources.s3.source import S3Source
from sandbox.servers import ObjectServer

from .conftest import described, source_at
from .scripted_server import (
    ReceivedRequest,
    Reply,
    ScriptedServer,
    error_reply,
    listing_reply,
    login_page,
)

ETAG = '"0123456789abcdef0123456789abcdef"'
MODIFIED = "2026-11-25T13:02:32.000Z"
DATE = "Wed, 25 Nov 2026 13:02:32 GMT"
STORE = {"x-amz-request-id": "4442587F"}
KEYS = [f"m/{number:02}" for number in range(7)]


def entry(key: str, **changes: str | None) -> dict[str, str]:
    """Return the elements of an object in a listing; those that are None are left out."""
    fields: dict[str, str | None] = {
        "Key": key,
        "LastModified": MODIFIED,
        "ETag": ETAG,
        "Size": "3",
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def page(keys: Sequence[str], **how: Any) -> Reply:
    return listing_reply([entry(key) for key in keys], **how)


class Keys:
    """An object store of KEYS, with pages of three, which supports tokens and start-after."""

    def __init__(self) -> None:
        self.queries: list[Mapping[str, str]] = []
        self.change: Callable[[Mapping[str, str], list[str], bool], Reply | None] = lambda *_: None
        """Replaces its replies. It gets the request, the next keys, and whether there are more."""

    def __call__(self, request: ReceivedRequest) -> Reply:
        query = request.query
        self.queries.append(query)
        after = query.get("continuation-token") or query.get("start-after", "")
        follow = [key for key in KEYS if key > after]
        now, more = follow[:3], len(follow) > 3
        if reply := self.change(query, now, more):
            return reply
        return page(now, truncated=more, token=now[-1] if more else "")


@asynccontextmanager
async def lying(answer: Callable[[ReceivedRequest], Reply], **how: Any) -> AsyncIterator[S3Source]:
    async with ScriptedServer(answer) as server:
        yield source_at(server.endpoint, "m/", **{"retry_count": 0, **how})


async def listed(source: S3Source) -> list[ObjectRef]:
    return [found async for found in source.list()]


async def described_by(source: S3Source) -> list[tuple[str, int, str]]:
    return [described(found) for found in await listed(source)]


async def keys_of(source: S3Source) -> list[str]:
    return [found.name for found in await listed(source)]


async def refusal_of(answer: Callable[[ReceivedRequest], Reply], **how: Any) -> DownloaderError:
    async with lying(answer, **how) as source:
        with pytest.raises(DownloaderError) as caught:
            await asyncio.wait_for(listed(source), 20)
    return caught.value


async def test_pages_follow_each_other_by_their_tokens() -> None:
    server = Keys()
    async with lying(server) as source:
        assert await keys_of(source) == KEYS
    assert [query.get("continuation-token") for query in server.queries] == [None, "m/02", "m/05"]
    assert all(query["encoding-type"] == "url" for query in server.queries)
    assert all("start-after" not in query for query in server.queries)


async def test_without_a_token_the_last_key_leads_on() -> None:
    server = Keys()
    server.change = lambda _, now, more: page(now, truncated=more)
    async with lying(server) as source:
        assert await keys_of(source) == KEYS
    assert [query.get("start-after") for query in server.queries] == [None, "m/02", "m/05"]


async def test_where_a_page_does_not_say_that_it_is_the_last_it_is_not() -> None:
    server = Keys()
    server.change = lambda _, now, __: page(now, truncated=None)
    async with lying(server) as source:
        assert await keys_of(source) == KEYS
    assert server.queries[-1]["start-after"] == KEYS[-1]


async def test_the_same_token_again_is_not_followed() -> None:
    def answer(request: ReceivedRequest) -> Reply:
        if request.query.get("continuation-token"):
            return page(KEYS[:3], truncated=True, token="same")
        return (
            Keys()(request)
            if "start-after" in request.query
            else page(KEYS[:3], truncated=True, token="same")
        )

    async with lying(answer) as source:
        assert await keys_of(source) == KEYS


async def test_the_same_page_under_new_tokens_is_not_followed() -> None:
    tokens = iter(range(1_000))

    def answer(request: ReceivedRequest) -> Reply:
        if "start-after" in request.query:
            return Keys()(request)
        return page(KEYS[:3], truncated=True, token=f"t{next(tokens)}")

    async with lying(answer) as source:
        assert await keys_of(source) == KEYS


async def test_an_earlier_page_that_says_it_is_the_last_is_not() -> None:
    def answer(request: ReceivedRequest) -> Reply:
        if "start-after" in request.query:
            return Keys()(request)
        return page(KEYS[:3], truncated="continuation-token" not in request.query, token="t")

    async with lying(answer) as source:
        assert await keys_of(source) == KEYS


async def test_a_token_that_the_store_refuses_is_not_needed() -> None:
    server = Keys()
    server.change = lambda query, *_: (
        error_reply(400, "InvalidArgument", "The continuation token provided is incorrect")
        if "continuation-token" in query
        else None
    )
    async with lying(server) as source:
        assert await keys_of(source) == KEYS


async def test_a_token_that_xml_has_damaged_is_not_followed() -> None:
    server = Keys()
    server.change = lambda query, now, more: page(
        now, truncated=more, token="m/\N{REPLACEMENT CHARACTER}" if more else ""
    )
    async with lying(server) as source:
        assert await keys_of(source) == KEYS


async def test_empty_pages_are_gone_through() -> None:
    def answer(request: ReceivedRequest) -> Reply:
        number = int(request.query.get("continuation-token", "0"))
        if number == 50:
            return page(KEYS)
        return page([], truncated=True, token=str(number + 1))

    async with lying(answer) as source:
        assert await keys_of(source) == KEYS


async def test_a_store_that_lists_in_no_order_goes_by_its_tokens() -> None:
    pages = [["m/5", "m/1"], ["m/4", "m/0"], ["m/2"]]

    def answer(request: ReceivedRequest) -> Reply:
        number = int(request.query.get("continuation-token", "0"))
        more = number + 1 < len(pages)
        return page(pages[number], truncated=more, token=str(number + 1) if more else "")

    async with lying(answer) as source:
        assert await keys_of(source) == [key for keys in pages for key in keys]


def in_no_order_and_without_tokens(request: ReceivedRequest) -> Reply:
    """Continuing after the last key would skip `m/0`."""
    return page(["m/2"]) if "start-after" in request.query else page(["m/5", "m/1"], truncated=True)


def deaf_to_where_it_goes_on(_: ReceivedRequest) -> Reply:
    return page(KEYS[:3], truncated=True)


def nothing_and_more_of_it(_: ReceivedRequest) -> Reply:
    return page([], truncated=True)


class _EmptyPages:
    """Empty pages with a new token each."""

    def __init__(self) -> None:
        self.requests = 0

    def __call__(self, _: ReceivedRequest) -> Reply:
        self.requests += 1
        return page([], truncated=True, token=f"t{self.requests}")


def in_a_circle(request: ReceivedRequest) -> Reply:
    following = {"": "a", "a": "b", "b": "a"}[request.query.get("continuation-token", "")]
    keys = {"": ["m/3"], "a": ["m/2"], "b": ["m/1"]}[request.query.get("continuation-token", "")]
    return page(keys, truncated=True, token=following)


def of_another_prefix(_: ReceivedRequest) -> Reply:
    return page(["m/0", "other/1"])


def an_object_without_a_key(_: ReceivedRequest) -> Reply:
    return listing_reply([{"Size": "3"}])


def cut_in_the_middle(_: ReceivedRequest) -> Reply:
    body = page(KEYS).body
    assert isinstance(body, bytes)
    return Reply(200, {"Content-Type": "application/xml", **STORE}, body[:-60])


def with_raw_control_characters(_: ReceivedRequest) -> Reply:
    return page(["m/a\x01"], encoded=False)


def far_too_large(_: ReceivedRequest) -> Reply:
    return Reply(200, STORE, b"<ListBucketResult>" + b" " * (9 << 20) + b"</ListBucketResult>")


@pytest.mark.parametrize(
    "answer",
    [
        in_no_order_and_without_tokens,
        deaf_to_where_it_goes_on,
        nothing_and_more_of_it,
        in_a_circle,
        of_another_prefix,
        an_object_without_a_key,
        cut_in_the_middle,
        with_raw_control_characters,
        far_too_large,
    ],
)
async def test_a_part_of_a_listing_is_not_taken_for_all(
    answer: Callable[[ReceivedRequest], Reply],
) -> None:
    error = await refusal_of(answer)
    assert error.code is ErrorCode.LISTING_INCOMPLETE
    assert "does not list all of s3://models/m/" in error.message
    assert ";" in error.message


async def test_empty_pages_without_end_are_given_up() -> None:
    server = _EmptyPages()
    assert (await refusal_of(server)).code is ErrorCode.LISTING_INCOMPLETE
    assert 100 <= server.requests <= 110


def no_listing(_: ReceivedRequest) -> Reply:
    return Reply(200, {"Content-Type": "application/xml"}, b"<rss><channel/></rss>")


def nothing_at_all(_: ReceivedRequest) -> Reply:
    return Reply(200)


def no_content(_: ReceivedRequest) -> Reply:
    return Reply(204)


def a_message(_: ReceivedRequest) -> Reply:
    return Reply(200, {"Content-Type": "application/json"}, b'{"login": "needed"}')


def with_entities(_: ReceivedRequest) -> Reply:
    body = b'<!DOCTYPE a [<!ENTITY b "ccc">]><ListBucket>&b;&b;</ListBucket>'
    return Reply(200, {"Content-Type": "application/xml"}, body)


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: login_page(),
        lambda _: login_page(302, Location="https://login.example/"),
        lambda _: login_page(511),
        lambda _: login_page(403),
        no_listing,
        nothing_at_all,
        no_content,
        a_message,
        with_entities,
    ],
)
async def test_what_is_no_listing_is_not_the_store(
    answer: Callable[[ReceivedRequest], Reply],
) -> None:
    error = await refusal_of(answer)
    assert error.code is ErrorCode.NETWORK_UNREACHABLE
    assert "something between the device and the object store responds" in error.message


async def test_an_error_in_the_place_of_a_listing() -> None:
    reply = error_reply(200, "SlowDown", "Please reduce your request rate.")
    error = await refusal_of(lambda _: reply)
    assert error.code is ErrorCode.TIMEOUT
    assert "Please reduce your request rate." in error.message


async def test_entities_are_never_expanded_in_a_listing() -> None:
    def answer(_: ReceivedRequest) -> Reply:
        body = (
            b'<!DOCTYPE a [<!ENTITY b "m/k">]><ListBucketResult><Contents><Key>&b;</Key></Contents>'
            b"</ListBucketResult>"
        )
        return Reply(200, STORE, body)

    error = await refusal_of(answer)
    assert error.code is ErrorCode.LISTING_INCOMPLETE
    assert "document type" in error.message


def heads(**fields: str | None) -> Callable[[ReceivedRequest], Reply]:
    """Return answers that list `m/a` as the test says, and give HEAD an ETag and five bytes."""

    def answer(request: ReceivedRequest) -> Reply:
        if request.lists:
            return listing_reply([entry("m/a", **fields)])
        assert request.key == "m/a"
        return Reply(200, {"ETag": '"of-the-head"', "Content-Length": "5", **STORE})

    return answer


@pytest.mark.parametrize("size", [None, "", "abc", "-3", "1e3", "9" * 30])
async def test_a_size_that_is_not_listed_is_asked_for(size: str | None) -> None:
    async with lying(heads(Size=size)) as source:
        assert await described_by(source) == [("m/a", 5, "of-the-head")]


async def test_without_an_etag_the_date_tells_one_state_from_another() -> None:
    async with lying(heads(ETag=None)) as source:
        assert await described_by(source) == [("m/a", 3, DATE)]


@pytest.mark.parametrize("modified", [None, "yesterday"])
async def test_without_etag_and_date_the_head_tells(modified: str | None) -> None:
    async with lying(heads(ETag=None, LastModified=modified)) as source:
        assert await described_by(source) == [("m/a", 5, "of-the-head")]


async def test_without_anything_the_validator_is_empty() -> None:
    def answer(request: ReceivedRequest) -> Reply:
        if request.lists:
            return listing_reply([{"Key": "m/a", "Size": "5"}])
        return Reply(200, {"Content-Length": "5"})

    async with lying(answer) as source:
        assert await described_by(source) == [("m/a", 5, "")]


async def test_a_head_that_contradicts_the_listing_ends_it() -> None:
    def answer(request: ReceivedRequest) -> Reply:
        if request.lists:
            return listing_reply([entry("m/a", Size=None), entry("m/b")])
        return error_reply(404, "NoSuchKey")

    error = await refusal_of(answer)
    assert error.code is ErrorCode.OBJECT_NOT_FOUND
    assert "s3://models/m/a" in error.message


async def test_folder_markers_are_listed_where_they_have_content() -> None:
    entries = [entry("m/", Size="0"), entry("m/x/", Size="12"), entry("m/x/y")]
    async with lying(lambda _: listing_reply(entries)) as source:
        assert await keys_of(source) == ["m/x/", "m/x/y"]


async def test_a_marker_whose_size_is_asked_for_is_one() -> None:
    def answer(request: ReceivedRequest) -> Reply:
        if request.lists:
            return listing_reply([entry("m/x/", Size=None), entry("m/y/", Size=None)])
        return Reply(200, STORE, b"content" if request.key == "m/y/" else b"")

    async with lying(answer) as source:
        assert await keys_of(source) == ["m/y/"]


async def test_a_silent_store_is_asked_once() -> None:
    never = asyncio.Event()
    async with ScriptedServer(lambda _: Reply(200, {"Content-Length": "1"}, [never])) as server:
        source = source_at(server.endpoint, "m/", time_limit=0.2)
        with pytest.raises(DownloaderError) as caught:
            await listed(source)
        assert caught.value.code is ErrorCode.TIMEOUT
        assert server.request_lines == ["list"]


@pytest.mark.parametrize(
    ("name", "encoded", "key"),
    [
        ("m/a+b%2Bc%20d", True, "m/a b+c d"),
        ("m/a+b%20c", False, "m/a+b%20c"),
        ("m/t%01%0A%00", True, "m/t\x01\n\0"),
        ("m/%E6%97%A5%F0%9F%98%80", True, "m/日😀"),
        ("m/日&<>", False, "m/日&<>"),
    ],
)
async def test_keys_come_as_they_are(name: str, encoded: bool, key: str) -> None:
    async with lying(lambda _: page([name], encoded=encoded)) as source:
        assert await keys_of(source) == [key]


async def test_a_key_that_is_not_utf_8_is_refused() -> None:
    error = await refusal_of(lambda _: page(["m/%FF%FE"]))
    assert error.code is ErrorCode.UNSAFE_KEY
    assert "'m/%FF%FE'" in error.message


async def test_a_page_that_fails_in_passing_is_asked_for_again() -> None:
    replies = iter([page(KEYS), error_reply(503, "SlowDown"), page(KEYS)])
    async with lying(lambda _: next(replies), retry_count=2) as source:
        assert await keys_of(source) == KEYS
        assert await keys_of(source) == KEYS


async def test_a_page_is_one_request_over_one_connection(object_server: ObjectServer) -> None:
    keys = Keys()
    async with ScriptedServer(keys) as server:
        source = source_at(server.endpoint, "m/")
        for _ in range(3):
            assert await keys_of(source) == KEYS
        assert (len(server.requests), server.connections) == (9, 1)


async def test_browsing_a_deaf_store_does_not_go_in_a_circle() -> None:
    async with lying(lambda _: page(KEYS[:3])) as source:
        with pytest.raises(
            DownloaderError, match="does not continue after the key 'm/01'"
        ) as caught:
            await anext(source.list(after="m/01", page=10))
    assert caught.value.code is ErrorCode.LISTING_INCOMPLETE


async def test_the_real_store_is_listed_in_small_pages(object_server: ObjectServer) -> None:
    """SeaweedFS puts a key into its token, and damages control characters in it."""
    keys = ["small/a\x01b", "small/a\x02c", "small/ab", "small/b c+d", "small/e/f", "small/é"]
    for key in keys:
        await object_server.put(key, b"x")
    for size in (1, 2, 3):
        found = await listed(source_at(object_server.endpoint, "small/", page=size))
        assert [each.name for each in found] == keys
