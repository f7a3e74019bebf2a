"""The memory bus offline, and the rules of the memory shadow."""

from __future__ import annotations

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.messaging.bus import Message, MessagingError, ShadowConflict, ShadowDocument

from .inbox import Inbox
from .memory import Hub, MemoryBus, MemoryShadow


async def test_nothing_is_published_while_the_hub_is_offline() -> None:
    hub, inbox = Hub(), Inbox()
    async with MemoryBus(hub) as bus:
        await bus.subscribe("t", inbox)
        hub.online = False
        with pytest.raises(MessagingError):
            await bus.publish("t", b"1", qos=1)
        hub.online = True
        await bus.publish("t", b"2", qos=1)
        assert await inbox.count(1) == [b"2"]


async def test_it_is_told_when_the_hub_is_online_again() -> None:
    hub, changes = Hub(), list[bool]()
    bus = MemoryBus(hub)
    bus.watch_link(lambda: changes.append(hub.online))
    async with bus:
        hub.online = True
        assert changes == []
        hub.online = False
        hub.online = True
        assert changes == [True]


async def test_a_lost_bus_gives_the_reason() -> None:
    async with MemoryBus(Hub()) as bus:
        bus.lose(MessagingError("gone"))
        assert (await bus.wait_lost()).message == "gone"


class TestShadow:
    async def test_updates_merge_and_nulls_delete(self) -> None:
        shadow = MemoryShadow()
        assert await shadow.get() == ShadowDocument(version=0)
        await shadow.update(version=0, state={"reported": {"models": {"a": {"x": 1}, "b": {}}}})
        await shadow.update(version=1, state={"reported": {"models": {"a": {"y": 2}, "b": None}}})
        assert await shadow.get() == ShadowDocument(
            version=2, reported={"models": {"a": {"x": 1, "y": 2}}}
        )

    async def test_a_version_conflict_changes_nothing(self) -> None:
        shadow = MemoryShadow()
        shadow.write({"desired": {"a": 1}})
        with pytest.raises(ShadowConflict):
            await shadow.update(version=0, state={"reported": {"a": 1}})
        assert await shadow.get() == ShadowDocument(version=1, desired={"a": 1})

    async def test_the_size_counts_desired_and_reported(self) -> None:
        shadow = MemoryShadow(max_bytes=40)
        await shadow.update(version=0, state={"reported": {"a": "." * 15}, "desired": {"a": 1}})
        with pytest.raises(DownloaderError) as refusal:
            await shadow.update(version=1, state={"desired": {"b": "." * 15}})
        assert refusal.value.code == ErrorCode.REGISTRY_FULL
        assert (await shadow.get()).version == 1

    async def test_someone_elses_update_is_told(self) -> None:
        shadow, inbox = MemoryShadow(), Inbox()
        await shadow.watch(lambda: inbox(Message("shadow", b"")))
        await shadow.update(version=0, state={"reported": {"a": 1}})
        shadow.write({"desired": {"a": 2}})
        await inbox.count(1)
        assert len(inbox.messages) == 1

    async def test_no_service(self) -> None:
        shadow = MemoryShadow()
        shadow.available = False
        with pytest.raises(DownloaderError) as refusal:
            await shadow.get()
        assert refusal.value.code == ErrorCode.SHADOW_UNAVAILABLE
