"""Serves the Device Shadow service on its reserved MQTT topics.

Source: "Device Shadow MQTT topics" in the AWS IoT Core developer guide.
"""

from __future__ import annotations

import asyncio
import contextlib
import re

import aiomqtt
import msgspec

from s3downloader.core.aio import background, stop

from .mqtt import BrokerConnection
from .shadows import Json, ShadowDocuments, ShadowError

__all__ = ["ShadowService"]

_REQUEST = re.compile(r"\$aws/things/([^/]+)/shadow(?:/name/([^/]+))?/(get|update|delete)")
_FILTERS = [
    f"$aws/things/+/shadow{name}/{operation}"
    for name in ("", "/name/+")
    for operation in ("get", "update", "delete")
]


class ShadowService:
    """Serves `shadows` on the broker on 127.0.0.1:`port`; an async context manager.

    Changes that are made to `shadows` by others, such as the nucleus, are published too. Messages
    are dropped while the broker is away.
    """

    def __init__(self, shadows: ShadowDocuments, port: int) -> None:
        self._shadows = shadows
        self._connection = BrokerConnection(
            port, on_connect=self._subscribe, on_message=self._answer
        )
        self._outbox: asyncio.Queue[tuple[str, Json]] = asyncio.Queue()

    async def __aenter__(self) -> ShadowService:
        await self._connection.__aenter__()
        self._unlisten = self._shadows.listen(self._publish)
        self._sender = background(self._send())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._unlisten()
        await stop(self._sender)
        await self._connection.__aexit__()

    async def wait_online(self) -> None:
        """Wait until the service receives requests."""
        await self._connection.wait_online()

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        for topic_filter in _FILTERS:
            await client.subscribe(topic_filter, qos=1)

    def _answer(self, message: aiomqtt.Message) -> None:
        topic, payload = message.topic.value, message.payload
        match = _REQUEST.fullmatch(topic)
        assert match is not None
        thing, name, operation = match[1], match[2] or "", match[3]
        try:
            if operation == "get":
                self._publish(f"{topic}/accepted", self._shadows.get(thing, name, payload))
            elif operation == "update":
                self._shadows.update(thing, name, payload)
            else:
                self._shadows.delete(thing, name, payload)
        except ShadowError as error:
            self._publish(f"{topic}/rejected", error.document(self._shadows.now()))

    def _publish(self, topic: str, document: Json) -> None:
        self._outbox.put_nowait((topic, document))

    async def _send(self) -> None:
        while True:
            topic, document = await self._outbox.get()
            if self._connection.client is not None:
                with contextlib.suppress(aiomqtt.MqttError):
                    payload = msgspec.json.encode(document)
                    await self._connection.client.publish(topic, payload, qos=1)
