"""A message handler that keeps messages."""

from __future__ import annotations

from s3downloader.messaging.bus import Message
from tests.support import eventually

__all__ = ["Inbox"]


class Inbox:
    """Keeps the messages with which it is called, in order."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []

    def __call__(self, message: Message) -> None:
        self.messages.append((message.topic, message.payload))

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload in self.messages]

    async def holds(self, payload: bytes) -> None:
        """Wait for a message with this payload."""
        await eventually(lambda: payload in self.payloads)

    async def count(self, number: int) -> list[bytes]:
        """Wait for so many messages; return the payloads of all."""
        await eventually(lambda: len(self.messages) >= number)
        return self.payloads
