"""Messages that are too large for the bus are shortened."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.messaging.bus import check_payload
from s3downloader.messaging.fitting import publish_fitting

from .memory import Hub, MemoryBus

EVENT: dict[str, Any] = {
    "event": "download_error",
    "download_id": "d",
    "command_id": "c",
    "success": False,
    "status": "failed",
    "timestamp": 1.5,
    "error_code": "disk_full",
    "error": "because " * 2_000,
}


class Narrowing(MemoryBus):
    """A bus whose limit decreases with each message that is too large."""

    def __init__(self, *limits: int) -> None:
        super().__init__(Hub())
        self.limits = list(limits)
        self.taken: list[bytes] = []

    async def publish(self, topic: str, payload: bytes, *, qos: int) -> None:
        limit = self.limits.pop(0) if len(self.limits) > 1 else self.limits[0]
        check_payload(topic, payload, limit)
        self.taken.append(payload)


@pytest.mark.parametrize("limits", [(7_000,), (7_000, 5_000, 5_000), (9_000, 7_000, 2_000)])
async def test_it_is_published_in_a_form_that_fits(limits: tuple[int, ...]) -> None:
    bus = Narrowing(*limits)
    await publish_fitting(bus, "t", msgspec.json.encode(EVENT), qos=1)
    [payload] = bus.taken
    assert len(payload) <= limits[-1]
    event = msgspec.json.decode(payload)
    assert {name: event[name] for name in ("event", "download_id", "error_code")} == {
        name: EVENT[name] for name in ("event", "download_id", "error_code")
    }
    assert event["error"].endswith("because ")


async def test_what_cannot_be_made_smaller_is_refused() -> None:
    bus = Narrowing(2_000)
    with pytest.raises(DownloaderError) as refusal:
        await publish_fitting(bus, "t", b"x" * 3_000, qos=1)
    assert refusal.value.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert bus.taken == []
