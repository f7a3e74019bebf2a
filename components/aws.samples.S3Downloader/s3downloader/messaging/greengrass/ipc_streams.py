"""Subscriptions over Greengrass IPC, and the handlers that the SDK calls on its own thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from awsiot.eventstreamrpc import LifecycleHandler, Shape, StreamResponseHandler
from awsiot.greengrasscoreipc.client import GreengrassCoreIPCClient

from ...core.log_once import LogOnce
from ..sdk import EventLoopBridge

__all__ = ["Lifecycle", "Stream", "Subscription"]

log = logging.getLogger(__name__)


class Subscription:
    """A subscribe operation, and the function that gets its events on the event loop's thread."""

    def __init__(
        self,
        new_operation: Callable[[GreengrassCoreIPCClient, StreamResponseHandler], Any],
        request: Shape,
        on_event: Callable[[Any], None],
        *,
        resource: str = "",
        optional: bool = False,
    ) -> None:
        """`resource` names it in errors. The component can do without an `optional` one.

        If an optional one is refused, that is only logged, at INFO.
        """
        self.new_operation = new_operation
        self.request = request
        self.on_event = on_event
        self.resource = resource
        self.optional = optional
        self.stream: Stream | None = None
        self.opening = asyncio.Lock()
        self.log_once = LogOnce(log, logging.INFO)


class Stream(StreamResponseHandler):  # type: ignore[misc]  # the SDK is not typed
    """One open stream of a subscription. The SDK calls its handlers on its own thread."""

    def __init__(
        self,
        bridge: EventLoopBridge,
        on_event: Callable[[Any], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._bridge = bridge
        self._on_event = on_event
        self._on_closed = on_closed
        self.operation: Any = None

    def close(self) -> None:
        if self.operation:
            self.operation.close()

    def on_stream_event(self, event: Shape) -> None:
        self._bridge.call(self._on_event, event)

    def on_stream_error(self, error: Exception) -> bool:
        log.warning("the nucleus sent an event that cannot be decoded: %r", error)
        return False

    def on_stream_closed(self) -> None:
        self._bridge.call(self._on_closed)


class Lifecycle(LifecycleHandler):  # type: ignore[misc]  # the SDK is not typed
    """Reports the end of the connection to the event loop."""

    def __init__(self, bridge: EventLoopBridge, on_disconnected: Callable[[], None]) -> None:
        self._bridge = bridge
        self._on_disconnected = on_disconnected

    def on_disconnect(self, reason: Exception | None) -> None:
        self._bridge.call(self._on_disconnected)
