"""Messaging through the Greengrass nucleus, to AWS IoT Core and back."""

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
"""Nucleus lite fails QoS 1 publishes when more than 10, or 15,000 bytes, are not acknowledged."""

ATTEMPTS = 4
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 2
"""Of a QoS 1 publish that the nucleus fails, and the seconds between them, which grow."""

SEEK_INTERVAL = 4
"""Seconds between attempts to publish while nothing goes out."""

PROBE_INTERVAL = 45
PROBE_TIMEOUT = 10
PROBE_AGAIN = 10
"""Seconds between probes of the subscriptions, until one is lost, and after one that could not be
published. Interval and timeout, with the time to renew, are the minute for which commands may be
lost."""


class GreengrassBus:
    """Publishes and subscribes with the nucleus's own connection to AWS IoT Core. Implements Bus.

    When the MQTT daemon of nucleus lite restarts, subscriptions die without a word. To notice, the
    bus publishes to `probe_topic` every `probe_interval` seconds and expects to get the message
    back within `probe_timeout`; if it does not, all subscriptions are renewed, and probed at once.
    So they are dead for both times at most, and a little. The component needs leave to publish and
    subscribe to that topic. None turns the probe off.

    `sizes` knows what size of message the nucleus takes.

    Do not subscribe to overlapping filters: nucleus lite delivers a message once for each.
    """

    _probe: asyncio.Task[None] | None = None
    _search: asyncio.Task[None] | None = None

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
        for task in (self._probe, self._search):
            if task:
                task.cancel()

    async def publish(self, topic: str, payload: bytes, *, qos: int) -> None:
        """Publish; at QoS 1 the nucleus has the message when this returns.

        The Java nucleus keeps it until AWS IoT Core has it; from nucleus lite AWS IoT Core has it.
        ACCESS_DENIED says what the component's accessControl lacks, PAYLOAD_TOO_LARGE also that the
        nucleus has cut the connection at messages of that size; its `limit` is what is sent then.
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
            if topic != self._probe_topic:  # for nobody waits for the probe to go out
                self._search_link()
            raise

    async def subscribe(self, topic: str, handler: MessageHandler) -> None:
        """Call `handler` for each message on `topic`, which may hold wildcards.

        ACCESS_DENIED says what the component's accessControl lacks.
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
        """Call `on_up` when messages go out again.

        The nucleus tells nothing of its connection. After a QoS 1 publish that failed a small
        message is tried every 4 seconds, at QoS 0, which no nucleus keeps; where the first of them
        goes out, the link was not what failed.
        """
        self._on_up.append(on_up)

    def _search_link(self) -> None:
        if self._probe_topic and (self._search is None or self._search.done()):
            self._search = background(self._find_link(self._probe_topic))

    async def _find_link(self, topic: str) -> None:
        request = PublishToIoTCoreRequest(topic_name=topic, payload=b"probe", qos="0")
        was_away = False
        while not await self._is_published(request):
            was_away = True
            await asyncio.sleep(SEEK_INTERVAL)
        for on_up in self._on_up if was_away else ():
            on_up()

    async def _is_published(self, request: PublishToIoTCoreRequest) -> bool:
        try:
            await self._publish(request, attempts=1)
        except MessagingError:
            return False
        except DownloaderError as error:
            log.debug("no search for the link: %s", error.message)
        return True

    async def wait_lost(self) -> MessagingError:
        """Return once the nucleus is lost for good."""
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
            with self._sizes.under_way(topic, len(payload)):
                await self._ipc.request(new_operation, request, resource=topic)
        except ConnectionCutError:
            check_payload(topic, payload, self._sizes.limit)
            raise

    async def _probe_subscriptions(self, topic: str) -> None:
        """Find subscriptions that have died, for ever.

        The pause never grows, also where no probe comes back: commands may be lost in it.
        """
        echo, vain = asyncio.Event(), False
        await self._subscribe_probe(topic, echo)
        while True:
            delivered = await self._is_delivered(topic, echo)
            if delivered is False:
                if not vain:
                    log.warning("subscriptions deliver nothing; renewing them")
                await self._ipc.renew(*self._subscriptions)
                delivered = await self._is_delivered(topic, echo)
                if delivered is False and not vain:
                    log.warning(
                        "renewed subscriptions deliver nothing of %s either: let the component and"
                        " the device publish, subscribe and receive there",
                        topic,
                    )
            if delivered is None:
                await asyncio.sleep(PROBE_AGAIN)
                continue
            vain = not delivered
            spent = self._probe_timeout if vain else 0
            await asyncio.sleep(max(self._probe_interval - spent, 0))

    async def _subscribe_probe(self, topic: str, echo: asyncio.Event) -> None:
        log_once, denied = LogOnce(log), False
        while True:
            try:
                await self.subscribe(topic, lambda *_: echo.set())
                break
            except DownloaderError as error:
                log_once.report("dead subscriptions will not be noticed: %s", error.message)
                denied = True
            await asyncio.sleep(self._probe_interval)
        if denied:  # the others may have died before there was a probe
            await self._ipc.renew(*self._subscriptions)

    async def _is_delivered(self, topic: str, echo: asyncio.Event) -> bool | None:
        """Whether what is published comes back; None while nothing can be published."""
        echo.clear()
        published = False
        try:
            async with timeout(self._probe_timeout):
                await self.publish(topic, b"probe", qos=1)
                published = True
                await echo.wait()
        except DownloaderError as error:
            log.debug("no probe: %s", error.message)
            return None
        except TimeoutError:
            return False if published else None
        return True


class _Window:
    """How many messages, and how many bytes, may be unacknowledged at once; first come, first."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages = 0
        self._bytes = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def slot(self, size: int) -> AsyncIterator[None]:
        """Wait for room; a message larger than the window gets it alone."""
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
