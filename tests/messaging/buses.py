"""Opens buses on a nucleus, and publishes on them until it succeeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from awsiot.greengrasscoreipc.client import GreengrassCoreIPCClient
from awsiot.greengrasscoreipc.model import SubscribeToIoTCoreRequest

from s3downloader.core.aio import timeout
from s3downloader.core.errors import DownloaderError
from s3downloader.messaging.bus import Message, MessagingError
from s3downloader.messaging.greengrass.bus import GreengrassBus
from s3downloader.messaging.greengrass.ipc import IpcClient
from s3downloader.messaging.greengrass.ipc_streams import Subscription

from ..support import PATIENCE
from .inbox import Inbox

__all__ = [
    "allow",
    "open_bus",
    "optional_subscription",
    "publish_persistently",
    "publish_until_heard",
]


@asynccontextmanager
async def open_bus(**options: Any) -> AsyncIterator[GreengrassBus]:
    async with IpcClient() as client, GreengrassBus(client, **options) as bus:
        yield bus


async def publish_until_heard(bus: GreengrassBus, topic: str, inbox: Inbox) -> None:
    """Publish until a message comes back, because a subscription may be renewed later."""
    async with timeout(PATIENCE):
        while not inbox.messages:
            try:
                await bus.publish(topic, b"ping", qos=1)
            except MessagingError:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.02)


async def publish_persistently(
    bus: GreengrassBus, topic: str, payload: bytes
) -> DownloaderError | None:
    """Publish until the nucleus accepts it, as the outbox does.

    Returns None, or the error if it can never be published.
    """
    async with timeout(PATIENCE):
        while True:
            try:
                await bus.publish(topic, payload, qos=1)
            except MessagingError:
                await asyncio.sleep(0.02)
            except DownloaderError as refusal:
                return refusal
            else:
                return None


def allow(*topics: str) -> dict[str, Any]:
    policy = {"operations": ["*"], "resources": list(topics)}
    return {"aws.greengrass.ipc.mqttproxy": {"policy": policy}}


def optional_subscription(topic: str, inbox: Inbox) -> Subscription:
    return Subscription(
        GreengrassCoreIPCClient.new_subscribe_to_iot_core,
        SubscribeToIoTCoreRequest(topic_name=topic, qos="1"),
        lambda event: inbox(Message(event.message.topic_name, event.message.payload)),
        resource=topic,
        optional=True,
    )
