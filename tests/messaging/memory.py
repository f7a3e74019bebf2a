"""A bus and a shadow in memory, with the rules of AWS IoT."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.messaging.bus import (
    IOT_CORE_MAX_PAYLOAD,
    Message,
    MessageHandler,
    MessagingError,
    ShadowConflict,
    ShadowDocument,
    check_payload,
)
from s3downloader.messaging.topics import Subscriptions

__all__ = ["Hub", "MemoryBus", "MemoryShadow"]


class Hub:
    """Connects the clients of a memory bus.

    While `online` is false, nothing can be published. Topics in `denied` cannot be subscribed to.
    """

    def __init__(self) -> None:
        self._online = True
        self.denied: set[str] = set()
        self.clients: list[Subscriptions] = []
        self.watchers: list[Callable[[], None]] = []

    @property
    def online(self) -> bool:
        """Whether messages can be published."""
        return self._online

    @online.setter
    def online(self, online: bool) -> None:
        returned = online and not self._online
        self._online = online
        for on_up in self.watchers if returned else ():
            on_up()


class MemoryBus:
    """A client of a hub. Implements Bus."""

    def __init__(self, hub: Hub, *, max_payload: int = IOT_CORE_MAX_PAYLOAD) -> None:
        self._hub = hub
        self._max_payload = max_payload
        self._subscriptions = Subscriptions()
        self._lost: asyncio.Queue[MessagingError] = asyncio.Queue()

    async def __aenter__(self) -> MemoryBus:
        self._hub.clients.append(self._subscriptions)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._hub.clients.remove(self._subscriptions)

    async def publish(self, topic: str, payload: bytes, *, qos: int) -> None:
        """Deliver a message to all clients of the hub that subscribed to its topic."""
        check_payload(topic, payload, self._max_payload)
        if not self._hub.online:
            raise MessagingError(f"{topic} was not published: the hub is offline")
        for client in self._hub.clients:
            asyncio.get_running_loop().call_soon(client.deliver, Message(topic, payload))

    async def subscribe(self, topic: str, handler: MessageHandler) -> None:
        """Call `handler` for each message on `topic`, which may have wildcards."""
        if topic in self._hub.denied:
            raise DownloaderError(ErrorCode.ACCESS_DENIED, f"subscribing to {topic} is not allowed")
        self._subscriptions.add(topic, handler)

    def watch_link(self, on_up: Callable[[], None]) -> None:
        """Call `on_up` when the hub is online again."""
        self._hub.watchers.append(on_up)

    def lose(self, reason: MessagingError) -> None:
        """Make `wait_lost` return this reason."""
        self._lost.put_nowait(reason)

    async def wait_lost(self) -> MessagingError:
        """Wait until `lose` is called, and return its reason."""
        return await self._lost.get()


class MemoryShadow:
    """A shadow with the rules of AWS IoT:

    versions, merging, nulls, the size limit.

    While `available` is false, no service answers. `write` is an update by another writer.
    """

    def __init__(self, *, max_bytes: int = 8192) -> None:
        self.available = True
        self._max_bytes = max_bytes
        self._document = ShadowDocument(version=0)
        self._watchers: list[Callable[[], None]] = []

    async def get(self) -> ShadowDocument:
        """Return the complete shadow."""
        self._check_available()
        return self._document

    async def update(self, *, version: int, state: dict[str, Any]) -> int:
        """Merge `state` if the shadow has `version`; return the new version."""
        self._check_available()
        if version != self._document.version:
            raise ShadowConflict(f"the shadow has version {self._document.version}, not {version}")
        return self._merge(state)

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` when someone else has written the shadow."""
        self._watchers.append(on_change)

    def write(self, state: dict[str, Any]) -> int:
        """Merge `state` as another writer would, whatever the version."""
        version = self._merge(state)
        for on_change in self._watchers:
            asyncio.get_running_loop().call_soon(on_change)
        return version

    def _check_available(self) -> None:
        if not self.available:
            raise DownloaderError(ErrorCode.SHADOW_UNAVAILABLE, "no shadow service answers")

    def _merge(self, state: dict[str, Any]) -> int:
        old = {"desired": self._document.desired, "reported": self._document.reported}
        new = _merged(old, state)
        desired, reported = new.get("desired", {}), new.get("reported", {})
        size = len(msgspec.json.encode(desired)) + len(msgspec.json.encode(reported))
        if size > self._max_bytes:
            raise DownloaderError(
                ErrorCode.REGISTRY_FULL,
                f"the shadow would have {size} bytes, {self._max_bytes} are allowed",
            )
        self._document = ShadowDocument(
            version=self._document.version + 1, desired=desired, reported=reported
        )
        return self._document.version


def _merged(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(document)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            old = result.get(key)
            result[key] = _merged(old if isinstance(old, dict) else {}, value)
        else:
            result[key] = value
    return result
