"""The nucleus's MQTT connection to AWS IoT Core; a real broker stands in for IoT Core."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from s3downloader.core.aio import background

from ..mqtt import BrokerConnection
from .errors import ServiceError
from .faults import Faults
from .personality import Personality

__all__ = ["IotCore", "MessageCallback"]

MessageCallback = Callable[[str, bytes], None]

_MAX_TOPIC_BYTES = 256
_MAX_TOPIC_SLASHES = 7


@dataclass(frozen=True)
class _Publish:
    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(eq=False)
class _Filter:
    """A topic filter with its subscription identifier at the broker, QoS and callbacks."""

    topic_filter: str
    identifier: int
    qos: int = -1
    callbacks: list[MessageCallback] = field(default_factory=list)


class IotCore:
    """A client of the broker on 127.0.0.1:`port`; an async context manager.

    It reconnects automatically, and restores its subscriptions. The personality decides whether
    messages are spooled or refused while the broker is away.
    """

    def __init__(self, port: int, personality: Personality, faults: Faults) -> None:
        self._personality = personality
        self._faults = faults
        self._connection = BrokerConnection(
            port, on_connect=self._restore, on_message=self._dispatch
        )
        self._subscribing = asyncio.Lock()
        self._filters: dict[str, _Filter] = {}
        self._identifiers = itertools.count(1)
        self._unacked: list[_Publish] = []
        self._spool: deque[_Publish] = deque()
        self._spooled = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> IotCore:
        await self._connection.__aenter__()
        self._start(self._drain_spool())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.__aexit__()

    async def wait_online(self) -> None:
        """Wait until the broker is connected and has all subscriptions."""
        await self._connection.wait_online()

    async def wait_offline(self) -> None:
        """Wait until the loss of the broker has been noticed."""
        await self._connection.wait_offline()

    @property
    def unacked(self) -> int:
        """The number of QoS 1 publishes, made without a spool, that are not acknowledged yet."""
        return len(self._unacked)

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        """Publish a message; wait until the broker or the spool has it. Raises ServiceError."""
        _check_topic(topic)
        if self._faults.fail_publishes:
            raise ServiceError(f"Publish to topic {topic} failed")
        message = _Publish(topic, payload, qos, retain)
        if self._personality.spool_bytes is None:
            await self._publish_unspooled(message)
        else:
            self._add_to_spool(message, self._personality.spool_bytes)
            await asyncio.sleep(self._faults.ack_delay)

    async def subscribe(
        self, topic_filter: str, callback: MessageCallback, *, qos: int
    ) -> Callable[[], None]:
        """Call `callback` with each message; return a function that ends the subscription.

        Subscriptions to the same filter share one subscription at the broker, with the highest
        QoS. If the broker is away, the personality decides: either the subscription is made when
        the broker is back, or ServiceError is raised.
        """
        if self._connection.client is None and not self._personality.subscribes_offline:
            raise ServiceError(f"Subscribe to topic {topic_filter} failed: the broker is away")
        known = self._filters.get(topic_filter)
        if known is None:
            known = self._filters[topic_filter] = _Filter(topic_filter, next(self._identifiers))
        known.callbacks.append(callback)
        if known.qos < qos:
            known.qos = qos
            if self._connection.client is not None:
                with contextlib.suppress(aiomqtt.MqttError):  # restored when it is back
                    await self._subscribe_at_broker(self._connection.client, known)
        return lambda: self._unsubscribe(known, callback)

    async def forget_subscriptions(self) -> None:
        """End all subscriptions silently, as nucleus lite does when its MQTT daemon restarts."""
        filters = list(self._filters)
        self._filters.clear()
        for topic_filter in filters:
            await self._unsubscribe_at_broker(topic_filter)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = background(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _restore(self, client: aiomqtt.Client) -> None:
        for known in list(self._filters.values()):
            await self._subscribe_at_broker(client, known)

    def _dispatch(self, message: aiomqtt.Message) -> None:
        if self._faults.drop_messages or len(message.payload) > self._personality.max_receive:
            return
        identifiers = getattr(message.properties, "SubscriptionIdentifier", [])
        for known in list(self._filters.values()):
            if self._personality.overlaps_deliver_twice:
                wanted = message.topic.matches(known.topic_filter)
            else:
                wanted = known.identifier in identifiers
            if wanted:
                for callback in list(known.callbacks):
                    callback(message.topic.value, message.payload)

    async def _subscribe_at_broker(self, client: aiomqtt.Client, known: _Filter) -> None:
        properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]  # paho's
        properties.SubscriptionIdentifier = known.identifier
        async with self._subscribing:
            await client.subscribe(known.topic_filter, known.qos, properties=properties)

    def _unsubscribe(self, known: _Filter, callback: MessageCallback) -> None:
        known.callbacks.remove(callback)
        if not known.callbacks and self._filters.get(known.topic_filter) is known:
            del self._filters[known.topic_filter]
            self._start(self._unsubscribe_at_broker(known.topic_filter))

    async def _unsubscribe_at_broker(self, topic_filter: str) -> None:
        async with self._subscribing:
            client = self._connection.client
            if topic_filter not in self._filters and client is not None:
                with contextlib.suppress(aiomqtt.MqttError):
                    await client.unsubscribe(topic_filter)

    async def _publish_unspooled(self, message: _Publish) -> None:
        if message.qos == 0:
            await self._publish_now(message)
            return
        self._check_unacked(message)
        self._unacked.append(message)
        try:
            await self._publish_now(message)
            await asyncio.sleep(self._faults.ack_delay)
        finally:
            self._unacked.remove(message)

    def _check_unacked(self, message: _Publish) -> None:
        count, size = self._personality.max_unacked, self._personality.max_unacked_bytes
        unacked_bytes = sum(len(m.payload) for m in self._unacked) + len(message.payload)
        if (count is not None and len(self._unacked) >= count) or (
            size is not None and unacked_bytes > size
        ):
            raise ServiceError("too many QoS 1 messages are not acknowledged yet")

    async def _publish_now(self, message: _Publish) -> None:
        client = self._connection.client
        if client is None:
            raise ServiceError(f"Publish to topic {message.topic} failed: the broker is away")
        publishing = asyncio.ensure_future(
            client.publish(message.topic, message.payload, qos=message.qos, retain=message.retain)
        )
        losing = asyncio.ensure_future(self._connection.wait_offline())
        try:
            await asyncio.wait({publishing, losing}, return_when=asyncio.FIRST_COMPLETED)
            if not publishing.done():
                raise ServiceError(
                    f"Publish to topic {message.topic} failed: the connection to the broker is lost"
                )
            await publishing
        except aiomqtt.MqttError as error:
            raise ServiceError(f"Publish to topic {message.topic} failed: {error}") from None
        finally:
            publishing.cancel()
            losing.cancel()

    def _add_to_spool(self, message: _Publish, limit: int) -> None:
        if message.qos == 0 and self._connection.client is None:
            raise ServiceError("Device is offline. Dropping QoS 0 message.")
        if sum(len(m.payload) for m in self._spool) + len(message.payload) > limit:
            raise ServiceError("Message spool is full. Message could not be added.")
        self._spool.append(message)
        self._spooled.set()

    async def _drain_spool(self) -> None:
        while True:
            await self._spooled.wait()
            await self._connection.wait_online()
            with contextlib.suppress(ServiceError):
                while self._spool:
                    await self._publish_now(self._spool[0])
                    self._spool.popleft()
                self._spooled.clear()


def _check_topic(topic: str) -> None:
    """Raise ServiceError for a topic that AWS IoT Core does not accept.

    Source: "AWS IoT Core message broker and protocol limits and quotas".
    """
    if "+" in topic or "#" in topic:
        raise ServiceError(f"The topic {topic} has a wildcard, so nothing can be published on it.")
    if len(topic.encode()) > _MAX_TOPIC_BYTES:
        raise ServiceError(f"The topic {topic} is longer than {_MAX_TOPIC_BYTES} bytes.")
    if topic.count("/") > _MAX_TOPIC_SLASHES:
        raise ServiceError(f"The topic {topic} has more than {_MAX_TOPIC_SLASHES} slashes.")
