"""The interfaces of messaging: a bus for messages, and a shadow. Adapters implement both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from ..core.errors import DownloaderError, ErrorCode

__all__ = [
    "IOT_CORE_MAX_PAYLOAD",
    "Bus",
    "Message",
    "MessageHandler",
    "MessagingError",
    "Shadow",
    "ShadowConflict",
    "ShadowDocument",
    "check_payload",
]

IOT_CORE_MAX_PAYLOAD = 128 * 1024
"""Maximum payload of a message to AWS IoT Core, in bytes (AWS IoT Core quotas)."""


class Message(NamedTuple):
    """A received message."""

    topic: str
    payload: bytes
    retained: bool = False
    """Whether it was published with the retain flag. False if the transport does not report it."""


MessageHandler = Callable[[Message], asyncio.Future[None] | None]
"""Receives a message. Called on the event loop's thread; must not block.

It may return a future. The message is then acknowledged when that future is done, if the transport
has acknowledgements (MQTT 5.0, section 4.3.2). Without a future it is acknowledged at once.
"""


class MessagingError(DownloaderError):
    """A message or a subscription could not be delivered. A later attempt may succeed."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(ErrorCode.NETWORK_UNREACHABLE, message, **details)


def check_payload(topic: str, payload: bytes, limit: int) -> None:
    """Raise PAYLOAD_TOO_LARGE if `payload` has more than `limit` bytes."""
    if len(payload) > limit:
        raise DownloaderError(
            ErrorCode.PAYLOAD_TOO_LARGE,
            f"a message of {len(payload)} bytes to {topic} exceeds the limit of {limit} bytes",
            topic=topic,
            size=len(payload),
            limit=limit,
        )


class Bus(Protocol):
    """A connection that publishes and subscribes. As an async context manager it is open."""

    async def __aenter__(self) -> Bus:
        """Connect, or start to connect."""

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""

    async def publish(self, topic: str, payload: bytes, *, qos: int) -> None:
        """Publish `payload`. Return when the next hop has it (QoS 1), or when it is sent (QoS 0).

        Raises MessagingError if it was not delivered, PAYLOAD_TOO_LARGE if it never can be.
        """

    async def subscribe(self, topic: str, handler: MessageHandler) -> None:
        """Call `handler` for each message on `topic`, for as long as the bus is open.

        If the subscription is lost, with its connection or without, the bus renews it.
        """

    def watch_link(self, on_up: Callable[[], None]) -> None:
        """Call `on_up` on the event loop's thread each time publishing works again after a failure.

        The call comes at most 5 seconds later, if the transport can detect it.
        """

    async def wait_lost(self) -> MessagingError:
        """Wait until messaging is lost for good, and return the reason."""


class ShadowDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A shadow as its service has it. `version` 0 means that the shadow does not exist."""

    version: int
    desired: dict[str, Any] = {}
    reported: dict[str, Any] = {}


class ShadowConflict(DownloaderError):
    """The shadow no longer has the version that the update was made for."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.SHADOW_UNAVAILABLE, message)


class Shadow(Protocol):
    """One named shadow of one thing.

    Every method raises ShadowConflict on a version conflict, SHADOW_UNAVAILABLE if no service
    responds or the service refuses, and REGISTRY_FULL if the document is too large for the service.
    """

    async def get(self) -> ShadowDocument:
        """Return the shadow. If it does not exist, the version is 0."""

    async def update(self, *, version: int, state: dict[str, Any]) -> int:
        """Merge `state` into the shadow if it has `version`, and return the new version.

        `state` is {"reported": …, "desired": …}. A null removes its key. Version 0 creates the
        shadow.
        """

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` on the event loop's thread each time the shadow may have changed."""
