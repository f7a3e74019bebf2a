"""Messages that make the nucleus close the connection."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
import pytest

from s3downloader.contract import encode
from s3downloader.contract.responses import DiskUsage, Status
from s3downloader.core.aio import timeout
from s3downloader.core.errors import ErrorCode
from s3downloader.messaging.bus import MessagingError
from s3downloader.messaging.fitting import publish_fitting
from s3downloader.messaging.greengrass.message_sizes import MAX_PAYLOAD, MessageSizes

from ..support import PATIENCE, eventually
from .buses import open_bus, publish_persistently
from .conftest import COMPONENT, StartNucleus
from .inbox import Inbox


async def test_what_cuts_the_connection_is_found_and_the_limit_lowered(
    start_nucleus: StartNucleus, prefix: str
) -> None:
    lowered: list[tuple[int, int]] = []
    sizes = MessageSizes(lambda: 100_000, lambda *arguments: lowered.append(arguments))
    async with start_nucleus("lite"), open_bus(sizes=sizes) as bus:
        small = [publish_persistently(bus, prefix, bytes(size)) for size in (10, 900, 2_500)]
        large = publish_persistently(bus, prefix, bytes(30_000))
        *_, refusal = await asyncio.gather(*small, large)
        assert refusal is not None
        assert refusal.code is ErrorCode.PAYLOAD_TOO_LARGE
        assert refusal.details["limit"] == sizes.limit == MAX_PAYLOAD
        assert lowered == [(30_000, MAX_PAYLOAD)]
        assert await publish_persistently(bus, prefix, bytes(sizes.limit)) is None


async def test_a_nucleus_with_less_room_is_found_out_step_by_step(
    start_nucleus: StartNucleus, prefix: str
) -> None:
    sizes = MessageSizes(lambda: MAX_PAYLOAD)
    async with (
        start_nucleus("lite", max_request=5_000) as nucleus,
        open_bus(sizes=sizes) as bus,
    ):
        size = MAX_PAYLOAD
        while await publish_persistently(bus, prefix, bytes(size)):
            assert sizes.limit < size
            size = sizes.limit
        assert nucleus.connected(COMPONENT)
        assert 2_500 < size < 3_600


async def test_one_lost_connection_convicts_no_message(
    start_nucleus: StartNucleus, prefix: str
) -> None:
    sizes = MessageSizes()
    async with start_nucleus("lite") as nucleus, open_bus(sizes=sizes) as bus:
        for _ in range(3):
            nucleus.faults.ack_delay = 60
            publishing = asyncio.create_task(bus.publish(prefix, bytes(6_000), qos=1))
            await eventually(lambda: nucleus.iot_core.unacked)
            await nucleus.drop_connection(COMPONENT)
            with pytest.raises(MessagingError):
                await publishing
            nucleus.faults.ack_delay = 0
            assert await publish_persistently(bus, prefix, bytes(6_000)) is None
        assert sizes.limit == MAX_PAYLOAD


async def test_a_status_that_cuts_the_connection_follows_cut_down(
    start_nucleus: StartNucleus, prefix: str
) -> None:
    inbox, sizes = Inbox(), MessageSizes(lambda: 100_000)
    usage = DiskUsage(path="/" + "x" * 30_000, total=1, used=1, free=0, percent_used=100.0)
    status = Status(
        device_id="d", timestamp=1.0, active_downloads=0, downloads=[], disk_space=usage
    )
    payload = encode(status, 100_000)
    async with start_nucleus("lite", max_receive=10_000), open_bus(sizes=sizes) as bus:
        await bus.subscribe(prefix, inbox)
        async with timeout(PATIENCE):
            while not inbox.messages:
                with suppress(MessagingError):
                    await publish_fitting(bus, prefix, payload, qos=0)
                await asyncio.sleep(0.02)
        assert len(inbox.payloads[0]) <= MAX_PAYLOAD
        assert msgspec.json.decode(inbox.payloads[0])["truncated"] is True
