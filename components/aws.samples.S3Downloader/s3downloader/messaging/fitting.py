"""Publishes a message in a smaller form if the bus refuses it as too large."""

from __future__ import annotations

from ..contract import refit
from ..core.errors import DownloaderError, ErrorCode
from .bus import Bus

__all__ = ["publish_fitting"]


async def publish_fitting(bus: Bus, topic: str, payload: bytes, *, qos: int) -> None:
    """Publish an encoded message, shortened if it exceeds the bus's limit.

    The limit may have been lowered since the message was encoded. Raises MessagingError, and
    PAYLOAD_TOO_LARGE if the message cannot be shortened to the limit.
    """
    while True:
        try:
            await bus.publish(topic, payload, qos=qos)
            return
        except DownloaderError as error:
            if error.code is not ErrorCode.PAYLOAD_TOO_LARGE or "limit" not in error.details:
                raise
            smaller = refit(payload, error.details["limit"])
            if len(smaller) >= len(payload):
                raise
            payload = smaller
