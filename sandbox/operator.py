"""Plays the operator: sends commands to a device over the broker, and receives its messages."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

import aiomqtt
import msgspec

from s3downloader.core.aio import background, stop, timeout

__all__ = ["DeviceMessage", "Operator"]

Json = dict[str, Any]

PATIENCE = 30.0
"""The time in seconds within which a working device responds, even on a busy machine."""


class DeviceMessage(NamedTuple):
    """A message from the device: the last level of its topic, and its content."""

    topic: str
    message: Json


class Operator:
    """An MQTT client for one device; an async context manager.

    `received` has all messages of the device, in order of arrival. `observe` is called with the
    topic and payload of each message that is sent or received. Methods that wait take the limit
    `within` in seconds, and raise TimeoutError after it.
    """

    def __init__(
        self,
        broker_port: int,
        thing_name: str,
        prefix: str = "s3downloader",
        *,
        observe: Callable[[str, bytes], None] = lambda topic, payload: None,
    ) -> None:
        self.received: list[DeviceMessage] = []
        self._topics = f"{prefix}/{thing_name}"
        self._shadows = f"$aws/things/{thing_name}/shadow/name"
        self._observe = observe
        self._client = aiomqtt.Client(
            "127.0.0.1",
            broker_port,
            protocol=aiomqtt.ProtocolVersion.V5,
            max_queued_outgoing_messages=0,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        self._numbers = itertools.count(1)
        self._message_arrived = asyncio.Condition()

    async def __aenter__(self) -> Operator:
        await self._client.__aenter__()
        await self._client.subscribe(f"{self._topics}/responses", qos=1)
        await self._client.subscribe(f"{self._topics}/status", qos=1)
        self._listening = background(self._listen())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await stop(self._listening)
        await self._client.__aexit__(kind, error, trace)

    async def send_bytes(self, payload: bytes) -> None:
        """Publish any payload on the topic of commands."""
        await self._publish(f"{self._topics}/commands", payload)

    async def send(self, command: str, **fields: Any) -> str:
        """Send a command and return its command_id, which is made up unless it is given."""
        fields.setdefault("command_id", f"op-{next(self._numbers)}")
        await self.send_bytes(msgspec.json.encode({"command": command, **fields}))
        return str(fields["command_id"])

    async def ask(self, command: str, *, within: float = PATIENCE, **fields: Any) -> Json:
        """Send a command and return its response."""
        command_id = await self.send(command, **fields)
        return await self.response(command_id, within=within)

    async def response(self, command_id: str, *, within: float = PATIENCE) -> Json:
        """Return the response to a command."""
        return await self.wait_for(
            lambda h: (
                h.topic == "responses"
                and h.message.get("command_id") == command_id
                and "event" not in h.message
            ),
            within=within,
            what=f"the response to {command_id}",
        )

    async def event(self, name: str, download_id: str, *, within: float = PATIENCE) -> Json:
        """Return the first event with this name of a download."""
        return await self.wait_for(
            lambda h: (
                h.message.get("event") == name and h.message.get("download_id") == download_id
            ),
            within=within,
            what=f"{name} of {download_id}",
        )

    async def progress(
        self, download_id: str, accept: Callable[[Json], bool], *, within: float = PATIENCE
    ) -> Json:
        """Return a download's entry in the first status in which `accept` is true of it."""

        def shown(received: DeviceMessage) -> Json | None:
            downloads = received.message.get("downloads", []) if received.topic == "status" else []
            matching = (d for d in downloads if d["download_id"] == download_id and accept(d))
            return next(matching, None)

        what = f"a status with the expected progress of {download_id}"
        status = await self.wait_for(lambda h: shown(h) is not None, within=within, what=what)
        found = shown(DeviceMessage("status", status))
        assert found is not None
        return found

    async def shadow(self, name: str = "models", *, within: float = PATIENCE) -> Json:
        """Request a shadow from the cloud; return the response, which is a document or an error."""
        topic, token = f"{self._shadows}/{name}/get", f"op-{next(self._numbers)}"
        await self._client.subscribe(f"{topic}/+", qos=1)
        await self._publish(topic, msgspec.json.encode({"clientToken": token}))
        return await self.wait_for(
            lambda h: h.message.get("clientToken") == token,
            within=within,
            what=f"the shadow {name}",
        )

    async def wait_for(
        self,
        accept: Callable[[DeviceMessage], bool],
        *,
        within: float = PATIENCE,
        what: str = "the message",
    ) -> Json:
        """Return the first message that `accept` accepts, among those received and those to come.

        Raises TimeoutError, whose text names `what` was expected and the last five messages.
        """
        seen = 0

        def arrived() -> bool:
            nonlocal seen
            while seen < len(self.received) and not accept(self.received[seen]):
                seen += 1
            return seen < len(self.received)

        try:
            async with timeout(within), self._message_arrived:
                await self._message_arrived.wait_for(arrived)
        except TimeoutError:
            last = "\n".join(str(received) for received in self.received[-5:])
            raise TimeoutError(
                f"{what} was not received within {within:g} s; the last messages:\n{last}"
            ) from None
        return self.received[seen].message

    def events(self, download_id: str) -> list[str]:
        """Return the names of the events of a download so far, in order."""
        return [
            h.message["event"]
            for h in self.received
            if "event" in h.message and h.message["download_id"] == download_id
        ]

    async def _publish(self, topic: str, payload: bytes) -> None:
        self._observe(topic, payload)
        await self._client.publish(topic, payload, qos=1)

    async def _listen(self) -> None:
        async for message in self._client.messages:
            assert isinstance(message.payload, bytes)
            self._observe(message.topic.value, message.payload)
            topic = message.topic.value.rpartition("/")[2]
            async with self._message_arrived:
                self.received.append(DeviceMessage(topic, msgspec.json.decode(message.payload)))
                self._message_arrived.notify_all()
