"""All kinds of messaging behave alike."""

from __future__ import annotations

import asyncio

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.messaging.bus import Message
from tests.support import eventually

from .conftest import Pair
from .inbox import Inbox


@pytest.mark.parametrize("qos", [0, 1])
async def test_messages_travel_both_ways(pair: Pair, prefix: str, qos: int) -> None:
    here, there = Inbox(), Inbox()
    await pair.bus.subscribe(f"{prefix}/commands", here)
    await pair.peer.subscribe(f"{prefix}/responses", there)

    await pair.peer.publish(f"{prefix}/commands", b"do", qos=qos)
    await pair.bus.publish(f"{prefix}/responses", b"done", qos=qos)

    await here.count(1)
    await there.count(1)
    assert here.messages == [(f"{prefix}/commands", b"do")]
    assert there.messages == [(f"{prefix}/responses", b"done")]


async def test_a_handler_may_say_later_that_a_message_is_safe(pair: Pair, prefix: str) -> None:
    received: list[Message] = []
    later: list[asyncio.Future[None]] = []

    def keep(message: Message) -> asyncio.Future[None]:
        received.append(message)
        later.append(asyncio.get_running_loop().create_future())
        return later[-1]

    await pair.bus.subscribe(f"{prefix}/commands", keep)
    for payload in (b"1", b"2"):
        await pair.peer.publish(f"{prefix}/commands", payload, qos=1)
    await eventually(lambda: len(received) == 2)
    for safe in reversed(later):
        safe.set_result(None)
    await pair.peer.publish(f"{prefix}/commands", b"3", qos=1)
    await eventually(lambda: len(received) == 3)
    assert received == [Message(f"{prefix}/commands", b"%d" % n, retained=False) for n in (1, 2, 3)]


async def test_messages_keep_their_order(pair: Pair, prefix: str) -> None:
    inbox = Inbox()
    await pair.peer.subscribe(f"{prefix}/t", inbox)
    sent = [b"%d" % number for number in range(50)]
    for payload in sent:
        await pair.bus.publish(f"{prefix}/t", payload, qos=1)
    assert await inbox.count(50) == sent


async def test_a_burst_arrives_whole_and_once(pair: Pair, prefix: str) -> None:
    here, there = Inbox(), Inbox()
    await pair.bus.subscribe(f"{prefix}/here", here)
    await pair.peer.subscribe(f"{prefix}/there", there)
    sent = [b"%d" % number + b"." * 1000 for number in range(100)]
    await asyncio.gather(
        *(pair.bus.publish(f"{prefix}/there", payload, qos=1) for payload in sent),
        *(pair.peer.publish(f"{prefix}/here", payload, qos=1) for payload in sent),
    )
    assert sorted(await there.count(100)) == sorted(sent)
    assert sorted(await here.count(100)) == sorted(sent)


@pytest.mark.parametrize("payload", [bytes(range(256)), b"", "größe ✓".encode()])
async def test_payloads_are_bytes(pair: Pair, prefix: str, payload: bytes) -> None:
    here, there = Inbox(), Inbox()
    await pair.bus.subscribe(f"{prefix}/here", here)
    await pair.peer.subscribe(f"{prefix}/there", there)
    await pair.bus.publish(f"{prefix}/there", payload, qos=1)
    await pair.peer.publish(f"{prefix}/here", payload, qos=1)
    assert await there.count(1) == [payload]
    assert await here.count(1) == [payload]


async def test_the_largest_message_arrives(pair: Pair, prefix: str) -> None:
    here, there = Inbox(), Inbox()
    await pair.bus.subscribe(f"{prefix}/here", here)
    await pair.peer.subscribe(f"{prefix}/there", there)
    await pair.bus.publish(f"{prefix}/there", bytes(pair.max_sent), qos=1)
    await pair.peer.publish(f"{prefix}/here", bytes(pair.max_received), qos=1)
    assert await there.count(1) == [bytes(pair.max_sent)]
    assert await here.count(1) == [bytes(pair.max_received)]


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_larger_message_is_refused_and_disturbs_nothing(
    pair: Pair, prefix: str, qos: int
) -> None:
    inbox = Inbox()
    await pair.peer.subscribe(f"{prefix}/t", inbox)
    with pytest.raises(DownloaderError, match=f"{prefix}/t") as refusal:
        await pair.bus.publish(f"{prefix}/t", bytes(pair.max_sent + 1), qos=qos)
    assert refusal.value.code == ErrorCode.PAYLOAD_TOO_LARGE
    assert refusal.value.details["limit"] == pair.max_sent
    await pair.bus.publish(f"{prefix}/t", b"small", qos=qos)
    assert await inbox.count(1) == [b"small"]


async def test_wildcards_select_levels(pair: Pair, prefix: str) -> None:
    one, many = Inbox(), Inbox()
    await pair.bus.subscribe(f"{prefix}/one/+/c", one)
    await pair.bus.subscribe(f"{prefix}/many/#", many)
    for topic in ("one/a/c", "one/a/b/c", "many", "many/a/b"):
        await pair.peer.publish(f"{prefix}/{topic}", topic.encode(), qos=1)
    await pair.peer.publish(f"{prefix}/one/last/c", b"last", qos=1)
    await one.holds(b"last")
    await many.holds(b"many/a/b")
    assert one.payloads == [b"one/a/c", b"last"]
    assert many.payloads == [b"many", b"many/a/b"]
