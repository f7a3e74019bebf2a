"""Messages that messaging finds too large, in a form that fits."""

from __future__ import annotations

from ..contract import refit
from ..core.errors import DownloaderError, ErrorCode
from .bus import Bus

__all__ = ["publish_fitting"]


async def publish_fitting(bus: Bus, topic: str, payload: bytes, *, qos: int) -> None:
    """Publish an encoded message, cut down to the bus's limit where that is lower than it was.

    Raises MessagingError, and PAYLOAD_TOO_LARGE for what cannot be cut down so far.
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
