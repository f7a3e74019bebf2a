"""What the daemon needs of messaging, whichever way messages travel."""

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
"""Bytes in one message that AWS IoT Core carries."""


class Message(NamedTuple):
    """A message as it was delivered."""

    topic: str
    payload: bytes
    retained: bool = False
    """Whether it was published with the retain flag, as far as the transport tells."""


MessageHandler = Callable[[Message], asyncio.Future[None] | None]
"""Takes a message. Called on the event loop's thread; must not block.

What it returns, if anything, is done once the message is safe: only then is it acknowledged, on a
transport that has acknowledgements (MQTT 5.0, section 4.3.2).
"""


class MessagingError(DownloaderError):
    """A publish or a subscription did not go through; trying again later may help."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(ErrorCode.NETWORK_UNREACHABLE, message, **details)


def check_payload(topic: str, payload: bytes, limit: int) -> None:
    """Raise PAYLOAD_TOO_LARGE for a message of more than `limit` bytes."""
    if len(payload) > limit:
        raise DownloaderError(
            ErrorCode.PAYLOAD_TOO_LARGE,
            f"a message of {len(payload)} bytes to {topic} is over the limit of {limit} bytes",
            topic=topic,
            size=len(payload),
            limit=limit,
        )


class Bus(Protocol):
    """A connection that publishes and subscribes. An async context manager opens and closes it."""

    async def __aenter__(self) -> Bus:
        """Connect, or begin to."""

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""

    async def publish(self, topic: str, payload: bytes, *, qos: int) -> None:
        """Deliver `payload`; returns once the next hop has it (QoS 1) or it is sent (QoS 0).

        Raises MessagingError when it did not arrive, PAYLOAD_TOO_LARGE when it never can.
        """

    async def subscribe(self, topic: str, handler: MessageHandler) -> None:
        """Call `handler` for each message on `topic`, for as long as the bus is open.

        The subscription outlives lost connections: the bus finds that it died and renews it.
        """

    def watch_link(self, on_up: Callable[[], None]) -> None:
        """Call `on_up`, on the event loop's thread, when messages go out again after they did not.

        At most 5 seconds after that, as far as the transport lets it be known.
        """

    async def wait_lost(self) -> MessagingError:
        """Return once messaging is lost for good, with the reason; otherwise wait forever."""


class ShadowDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A shadow as its service knows it; `version` 0 means that there is none yet."""

    version: int
    desired: dict[str, Any] = {}
    reported: dict[str, Any] = {}


class ShadowConflict(DownloaderError):
    """The shadow has moved on from the version that the update was made for."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.SHADOW_UNAVAILABLE, message)


class Shadow(Protocol):
    """One named shadow of one thing.

    Every method raises ShadowConflict on a version conflict, SHADOW_UNAVAILABLE when no service
    answers or it refuses, REGISTRY_FULL when the service finds the document too large.
    """

    async def get(self) -> ShadowDocument:
        """Read the whole shadow."""

    async def update(self, *, version: int, state: dict[str, Any]) -> int:
        """Merge `state` ({"reported": …, "desired": …}) if the shadow has `version`.

        A null leaf removes its key. Version 0 creates the shadow. Returns the new version.
        """

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` on the event loop's thread whenever the shadow may have changed."""
