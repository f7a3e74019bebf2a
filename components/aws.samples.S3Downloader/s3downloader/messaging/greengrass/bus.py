"""Publishes and subscribes at AWS IoT Core through the Greengrass nucleus."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from awsiot.greengrasscoreipc.client import GreengrassCoreIPCClient
from awsiot.greengrasscoreipc.model import (
    GreengrassCoreIPCError,
    IoTCoreMessage,
    PublishToIoTCoreRequest,
    ServiceError,
    SubscribeToIoTCoreRequest,
)

from ...core.aio import background, timeout
from ...core.backoff import backoff
from ...core.errors import DownloaderError
from ...core.log_once import LogOnce
from ..bus import Message, MessageHandler, MessagingError, check_payload
from .ipc import ConnectionCutError, IpcClient
from .ipc_streams import Subscription
from .message_sizes import MessageSizes

__all__ = ["GreengrassBus"]

log = logging.getLogger(__name__)

MAX_UNACKED = 8
MAX_UNACKED_BYTES = 12_000
"""QoS 1 messages, and their bytes, in flight at once.

Nucleus lite fails a QoS 1 publish if more than 10 messages, or 15,000 bytes, are unacknowledged.
"""

ATTEMPTS = 4
"""How often a QoS 1 message is sent if the nucleus fails to publish it."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 2
"""Bounds of the growing pause between these attempts, in seconds."""

LINK_INTERVAL = 4
"""Seconds between attempts to publish while the link to AWS IoT Core is down."""

PROBE_INTERVAL = 45
"""Seconds between probes of the subscriptions.

With PROBE_TIMEOUT and the time to renew, a dead subscription is replaced within a minute.
"""

PROBE_TIMEOUT = 10
"""Seconds after which a probe counts as lost."""

PROBE_RETRY_INTERVAL = 10
"""Seconds to the next probe if one could not be published."""


class GreengrassBus:
    """Publishes and subscribes over the nucleus's connection to AWS IoT Core. Implements Bus.

    Subscriptions die silently when the MQTT daemon of nucleus lite restarts. To detect this, the
    bus publishes to `probe_topic` every `probe_interval` seconds, and expects to receive the
    message within `probe_timeout` seconds. If it does not, it renews all subscriptions, and probes
    again at once. The component needs permission to publish and subscribe to `probe_topic`. None
    turns the probe off.

    `sizes` has the largest message that the nucleus accepts.

    Do not subscribe to overlapping filters: nucleus lite delivers a message once for each filter.
    """

    _probe: asyncio.Task[None] | None = None
    _link_check: asyncio.Task[None] | None = None

    def __init__(
        self,
        ipc: IpcClient,
        *,
        sizes: MessageSizes | None = None,
        probe_topic: str | None = None,
        probe_interval: float = PROBE_INTERVAL,
        probe_timeout: float = PROBE_TIMEOUT,
    ) -> None:
        self._ipc = ipc
        self._sizes = sizes or MessageSizes()
        self._probe_topic = probe_topic
        self._probe_interval = probe_interval
        self._probe_timeout = probe_timeout
        self._subscriptions: list[Subscription] = []
        self._unacked = _Window(MAX_UNACKED, MAX_UNACKED_BYTES)
        self._on_up: list[Callable[[], None]] = []

    async def __aenter__(self) -> GreengrassBus:
        if self._probe_topic:
            self._probe = background(self._probe_subscriptions(self._probe_topic))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self._probe, self._link_check):
            if task:
                task.cancel()

    async def publish(self, topic: str, payload: bytes, *, qos: int) -> None:
        """Publish a message. At QoS 1 return when the nucleus has accepted it.

        The Java nucleus then keeps it until AWS IoT Core has acknowledged it. Nucleus lite accepts
        it only when AWS IoT Core has acknowledged it.

        Raises ACCESS_DENIED, with what the component's accessControl lacks. Raises
        PAYLOAD_TOO_LARGE if the payload exceeds the limit, and if the nucleus closes the connection
        at messages of that size; `limit` in the details is the limit from now on. Otherwise raises
        MessagingError.
        """
        check_payload(topic, payload, self._sizes.limit)
        request = PublishToIoTCoreRequest(topic_name=topic, payload=payload, qos=str(qos))
        if qos == 0:
            await self._publish(request, attempts=1)
            return
        try:
            async with self._unacked.slot(len(payload)):
                await self._publish(request, attempts=ATTEMPTS)
        except MessagingError:
            if topic != self._probe_topic:  # no sender waits for the probe
                self._start_link_check()
            raise

    async def subscribe(self, topic: str, handler: MessageHandler) -> None:
        """Call `handler` for each message on `topic`, which may contain wildcards.

        Raises ACCESS_DENIED, with what the component's accessControl lacks.
        """

        def on_event(event: IoTCoreMessage) -> None:
            if message := event.message:
                retained = bool(message.retain)
                handler(Message(message.topic_name, message.payload or b"", retained=retained))

        subscription = Subscription(
            GreengrassCoreIPCClient.new_subscribe_to_iot_core,
            SubscribeToIoTCoreRequest(topic_name=topic, qos="1"),
            on_event,
            resource=topic,
        )
        await self._ipc.subscribe(subscription)
        self._subscriptions.append(subscription)

    def watch_link(self, on_up: Callable[[], None]) -> None:
        """Call `on_up` when the link to AWS IoT Core is up again.

        The nucleus does not report the state of its connection. So after a QoS 1 publish has
        failed, a small message is published every 4 seconds until that works. It has QoS 0, because
        a nucleus does not queue such messages. If already the first one is published, the link was
        not down, and `on_up` is not called.
        """
        self._on_up.append(on_up)

    def _start_link_check(self) -> None:
        if self._probe_topic and (self._link_check is None or self._link_check.done()):
            self._link_check = background(self._wait_for_link(self._probe_topic))

    async def _wait_for_link(self, topic: str) -> None:
        request = PublishToIoTCoreRequest(topic_name=topic, payload=b"probe", qos="0")
        was_down = False
        while not await self._is_published(request):
            was_down = True
            await asyncio.sleep(LINK_INTERVAL)
        for on_up in self._on_up if was_down else ():
            on_up()

    async def _is_published(self, request: PublishToIoTCoreRequest) -> bool:
        try:
            await self._publish(request, attempts=1)
        except MessagingError:
            return False
        except DownloaderError as error:
            log.debug("the link cannot be checked: %s", error.message)
        return True

    async def wait_lost(self) -> MessagingError:
        """Wait until the nucleus is lost for good, and return the reason."""
        return await self._ipc.wait_lost()

    async def _publish(self, request: PublishToIoTCoreRequest, *, attempts: int) -> None:
        for attempt, pause in enumerate(backoff(SHORTEST_PAUSE, LONGEST_PAUSE), start=1):
            try:
                await self._request(request)
                return
            except GreengrassCoreIPCError as error:
                if attempt == attempts or not isinstance(error, ServiceError):
                    message = f"the nucleus did not publish to {request.topic_name}: {error!r}"
                    raise MessagingError(message) from error
            await asyncio.sleep(pause)

    async def _request(self, request: PublishToIoTCoreRequest) -> None:
        topic, payload = request.topic_name, request.payload
        new_operation = GreengrassCoreIPCClient.new_publish_to_iot_core
        try:
            with self._sizes.in_flight(topic, len(payload)):
                await self._ipc.request(new_operation, request, resource=topic)
        except ConnectionCutError:
            check_payload(topic, payload, self._sizes.limit)
            raise

    async def _probe_subscriptions(self, topic: str) -> None:
        """Detect and renew dead subscriptions. Never returns.

        The interval stays the same even if no probe is delivered, because commands may be lost
        meanwhile.
        """
        echo, undelivered = asyncio.Event(), False
        await self._subscribe_probe(topic, echo)
        while True:
            delivered = await self._is_delivered(topic, echo)
            if delivered is False:
                if not undelivered:
                    log.warning("subscriptions deliver nothing; renewing them")
                await self._ipc.renew(*self._subscriptions)
                delivered = await self._is_delivered(topic, echo)
                if delivered is False and not undelivered:
                    log.warning(
                        "renewed subscriptions deliver nothing on %s either: allow the component"
                        " and the device to publish, subscribe and receive there",
                        topic,
                    )
            if delivered is None:
                await asyncio.sleep(PROBE_RETRY_INTERVAL)
                continue
            undelivered = not delivered
            spent = self._probe_timeout if undelivered else 0
            await asyncio.sleep(max(self._probe_interval - spent, 0))

    async def _subscribe_probe(self, topic: str, echo: asyncio.Event) -> None:
        log_once, denied = LogOnce(log), False
        while True:
            try:
                await self.subscribe(topic, lambda *_: echo.set())
                break
            except DownloaderError as error:
                log_once.report("dead subscriptions cannot be detected: %s", error.message)
                denied = True
            await asyncio.sleep(self._probe_interval)
        if denied:  # others may have died while there was no probe
            await self._ipc.renew(*self._subscriptions)

    async def _is_delivered(self, topic: str, echo: asyncio.Event) -> bool | None:
        """Return whether a published probe is delivered. None if it could not be published."""
        echo.clear()
        published = False
        try:
            async with timeout(self._probe_timeout):
                await self.publish(topic, b"probe", qos=1)
                published = True
                await echo.wait()
        except DownloaderError as error:
            log.debug("the probe was not published: %s", error.message)
            return None
        except TimeoutError:
            return False if published else None
        return True


class _Window:
    """Limits the messages, and their bytes, that are unacknowledged at once. It is fair (FIFO)."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages = 0
        self._bytes = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def slot(self, size: int) -> AsyncIterator[None]:
        """Wait until `size` bytes fit, and hold them. A larger message gets the window alone."""
        async with self._turn:
            while self._messages and not self._has_room(size):
                self._freed.clear()
                await self._freed.wait()
            self._messages += 1
            self._bytes += size
        try:
            yield
        finally:
            self._messages -= 1
            self._bytes -= size
            self._freed.set()

    def _has_room(self, size: int) -> bool:
        return self._messages < self._max_messages and self._bytes + size <= self._max_bytes
