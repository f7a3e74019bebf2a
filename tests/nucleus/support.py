"""A component that connects to the nucleus with the real IPC client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import awsiot.greengrasscoreipc
from awsiot.eventstreamrpc import LifecycleHandler
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

from tests.support import PATIENCE

__all__ = ["Component", "Subscription", "policies"]


def policies(
    service: str, operations: list[str], resources: list[str]
) -> dict[str, dict[str, Any]]:
    """Return an `accessControl` with one policy."""
    names = [f"aws.greengrass#{name}" for name in operations]
    return {service: {"policy-1": {"operations": names, "resources": resources}}}


class Component(LifecycleHandler):  # type: ignore[misc]  # awsiot is not annotated
    """A client of awsiotsdk; an async context manager, which connects it.

    `lost` is set when the connection has ended.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._loop = asyncio.get_running_loop()
        self.lost = asyncio.Event()

    async def __aenter__(self) -> Component:
        client = await asyncio.to_thread(
            awsiot.greengrasscoreipc.connect,
            ipc_socket=self._environment["AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"],
            authtoken=self._environment["SVCUID"],
            lifecycle_handler=self,
            timeout=PATIENCE,
        )
        self._client = GreengrassCoreIPCClientV2(client=client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._client.close)

    def on_disconnect(self, reason: Exception | None) -> None:
        self._loop.call_soon_threadsafe(self.lost.set)

    async def call(self, operation: str, **request: Any) -> Any:
        """Call an operation by its name in the client (`publish_to_topic`); return its response."""
        future = getattr(self._client, f"{operation}_async")(**request)
        return await asyncio.wait_for(asyncio.wrap_future(future), PATIENCE)

    async def subscribe(self, operation: str, **request: Any) -> Subscription:
        """Call an operation that subscribes; return the subscription."""
        events: list[Any] = []
        closed = asyncio.Event()
        response, stream = getattr(self._client, f"{operation}_async")(
            **request,
            on_stream_event=events.append,
            on_stream_error=lambda error: True,
            on_stream_closed=lambda: self._loop.call_soon_threadsafe(closed.set),
        )
        await asyncio.wait_for(asyncio.wrap_future(response), PATIENCE)
        return Subscription(events, closed, stream)


class Subscription:
    """A subscription: its events, and an event that is set when its stream has closed."""

    def __init__(self, events: list[Any], closed: asyncio.Event, stream: Any) -> None:
        self.events = events
        self.closed = closed
        self._stream = stream

    async def close(self) -> None:
        await asyncio.to_thread(self._stream.close().result, 5)
