"""Subscriptions over Greengrass IPC, and what the SDK calls back on its own thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from awsiot.eventstreamrpc import LifecycleHandler, Shape, StreamResponseHandler
from awsiot.greengrasscoreipc.client import GreengrassCoreIPCClient

from ...core.log_once import LogOnce
from ..sdk import EventLoopDoor

__all__ = ["Lifecycle", "Stream", "Subscription"]

log = logging.getLogger(__name__)


class Subscription:
    """An operation that keeps sending events, and who gets them, on the event loop's thread."""

    def __init__(
        self,
        new_operation: Callable[[GreengrassCoreIPCClient, StreamResponseHandler], Any],
        request: Shape,
        on_event: Callable[[Any], None],
        *,
        resource: str = "",
        optional: bool = False,
    ) -> None:
        """`resource` names it in errors. An `optional` one is no trouble where it is refused."""
        self.new_operation = new_operation
        self.request = request
        self.on_event = on_event
        self.resource = resource
        self.optional = optional
        self.stream: Stream | None = None
        self.opening = asyncio.Lock()
        self.trouble = LogOnce(log, logging.INFO)


class Stream(StreamResponseHandler):  # type: ignore[misc]  # the SDK is not typed
    """One opening of a subscription. The SDK calls the handlers on its own thread."""

    def __init__(
        self, door: EventLoopDoor, on_event: Callable[[Any], None], on_closed: Callable[[], None]
    ) -> None:
        self._door = door
        self._on_event = on_event
        self._on_closed = on_closed
        self.operation: Any = None

    def close(self) -> None:
        if self.operation:
            self.operation.close()

    def on_stream_event(self, event: Shape) -> None:
        self._door.call(self._on_event, event)

    def on_stream_error(self, error: Exception) -> bool:
        log.warning("the nucleus sent an event that cannot be read: %r", error)
        return False

    def on_stream_closed(self) -> None:
        self._door.call(self._on_closed)


class Lifecycle(LifecycleHandler):  # type: ignore[misc]  # the SDK is not typed
    def __init__(self, door: EventLoopDoor, on_disconnected: Callable[[], None]) -> None:
        self._door = door
        self._on_disconnected = on_disconnected

    def on_disconnect(self, reason: Exception | None) -> None:
        self._door.call(self._on_disconnected)
