"""Publishes and subscribes over MQTT 5 at any broker, such as AWS IoT Core."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from awscrt import mqtt5
from awscrt.io import SocketOptions

from ...core.aio import background, timeout
from ...core.errors import DownloaderError, ErrorCode
from ...core.log_once import LogOnce
from ..bus import IOT_CORE_MAX_PAYLOAD, Message, MessageHandler, MessagingError, check_payload
from ..sdk import SDK_ERRORS, EventLoopBridge, client_bootstrap
from ..topics import Subscriptions
from .acknowledgements import Acknowledge, Acknowledgements
from .endpoint import parse_url, tls_context
from .nodelay import disable_nagle

__all__ = ["MqttBus"]

log = logging.getLogger(__name__)

SESSION_EXPIRY = 3600
"""Seconds for which the broker keeps messages for a client that is not connected."""

KEEP_ALIVE = 60
PING_TIMEOUT = 20
CONNECT_TIMEOUT = 15
"""Seconds. They are long, because links may be slow."""

RENEWAL_PAUSE = 60
"""Seconds between attempts to subscribe."""

RECONNECT_DELAYS = (1, 4)
"""First and maximum seconds between attempts to connect. Short, to find a restored link soon."""

START_TIMEOUT = 5
FLUSH_TIMEOUT = 0.5
STOP_TIMEOUT = 1.5
"""Maximum seconds that opening the bus, a last flush, and closing the bus may take."""

RECEIVE_MAXIMUM = 64
"""Unacknowledged messages that the broker may send at once (MQTT 5.0, section 3.1.2.11.3).

Further messages wait at the broker, not in memory here.
"""

CLAIM_TIMEOUT = 30
"""Seconds for which a message without a handler waits for one."""

PACKET_OVERHEAD = 16
"""Maximum bytes of a PUBLISH packet besides topic and payload (MQTT 5.0, section 3.3)."""

FAILURE = 0x80
"""Reason codes from this one on mean that a request failed (MQTT 5.0, section 2.4)."""

CONNECT_REFUSALS = {
    mqtt5.ConnectReasonCode.UNSUPPORTED_PROTOCOL_VERSION: "the broker does not speak MQTT 5",
    mqtt5.ConnectReasonCode.CLIENT_IDENTIFIER_NOT_VALID: "the broker refuses the client id",
    mqtt5.ConnectReasonCode.BAD_USERNAME_OR_PASSWORD: "the user name or password is wrong",
    mqtt5.ConnectReasonCode.NOT_AUTHORIZED: "the client may not connect, or not with that password",
    mqtt5.ConnectReasonCode.BANNED: "the client is banned",
    mqtt5.ConnectReasonCode.BAD_AUTHENTICATION_METHOD: "the broker requires another authentication",
}
"""Reason codes of a CONNACK that count as a refusal of the client (MQTT 5.0, section 3.2.2.2)."""


class MqttBus:
    """An MQTT 5 client that reconnects by itself. Implements Bus.

    The session is persistent. After an absence of up to an hour the broker delivers the messages
    that were sent meanwhile, and those that were not acknowledged. It delivers a retained message
    only for a subscription that is new in the session.

    Messaging is never lost for good because the network is down. It is lost when the broker has
    refused the client for `refusal_patience` seconds without interruption.
    """

    _bridge: EventLoopBridge
    _client: mqtt5.Client
    _lost: asyncio.Future[MessagingError]

    def __init__(
        self,
        url: str,
        client_id: str,
        *,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        ack_timeout: float = 20,
        reconnect_delays: tuple[float, float] = RECONNECT_DELAYS,
        refusal_patience: float = 60,
        max_payload: int = IOT_CORE_MAX_PAYLOAD,
    ) -> None:
        self._endpoint = parse_url(url)
        self._tls = tls_context(self._endpoint, ca=ca, cert=cert, key=key)
        self._client_id = client_id
        self._ack_timeout = ack_timeout
        self._reconnect_delays = reconnect_delays
        self._refusal_patience = refusal_patience
        self._max_payload = max_payload
        self._max_packet = max_payload + PACKET_OVERHEAD

        self._subscriptions = Subscriptions()
        self._granted: set[str] = set()
        self._acknowledgements = Acknowledgements()
        self._unclaimed: list[tuple[Message, Acknowledge]] = []
        self._on_up: list[Callable[[], None]] = []
        self._renewal: asyncio.Task[None] | None = None
        self._refused_since: float | None = None
        self._log_once = LogOnce(log)
        self._closing = False
        self._acknowledged = False
        self._attempted = asyncio.Event()
        self._stopped = asyncio.Event()

    async def __aenter__(self) -> MqttBus:
        """Start to connect. Return after the first attempt, whether or not it succeeded."""
        self._bridge = EventLoopBridge()
        self._lost = asyncio.get_running_loop().create_future()
        self._client = mqtt5.Client(self._client_options())
        self._client.start()
        await self._wait(self._attempted, START_TIMEOUT)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._renewal:
            self._renewal.cancel()
        self._closing = True
        if self._acknowledged:
            await self._flush_acknowledgements()
        self._client.stop()
        await self._wait(self._stopped, STOP_TIMEOUT)

    async def publish(self, topic: str, payload: bytes, *, qos: int) -> None:
        """Publish a message. At QoS 1 return when the broker has acknowledged it.

        Raises PAYLOAD_TOO_LARGE, ACCESS_DENIED if the broker does not allow it, and otherwise
        MessagingError.
        """
        room = self._max_packet - len(topic.encode()) - PACKET_OVERHEAD
        check_payload(topic, payload, min(self._max_payload, room))
        packet = mqtt5.PublishPacket(topic=topic, payload=payload, qos=mqtt5.QoS(qos))
        completion = await self._request(f"publishing to {topic}", self._client.publish, packet)
        if qos:
            self._check_reason(f"publishing to {topic}", completion.puback.reason_code)

    async def subscribe(self, topic: str, handler: MessageHandler) -> None:
        """Call `handler` for each message on `topic`, which may contain wildcards.

        If the broker cannot be reached, the subscription is made later. Raises ACCESS_DENIED if the
        broker does not allow it.
        """
        self._subscriptions.add(topic, handler)
        self._deliver_unclaimed()
        try:
            await self._request_subscription(topic)
        except MessagingError:
            self._renew_subscriptions()
        except DownloaderError:
            self._subscriptions.remove(topic)
            raise

    def watch_link(self, on_up: Callable[[], None]) -> None:
        """Call `on_up` each time a connection has been made."""
        self._on_up.append(on_up)

    async def wait_lost(self) -> MessagingError:
        """Wait until the broker has refused the client for too long, and return the reason."""
        return await asyncio.shield(self._lost)

    def _client_options(self) -> mqtt5.ClientOptions:
        bridge = self._bridge
        socket = SocketOptions()
        socket.connect_timeout_ms = CONNECT_TIMEOUT * 1000
        shortest, longest = self._reconnect_delays
        return mqtt5.ClientOptions(
            host_name=self._endpoint.host,
            port=self._endpoint.port,
            tls_ctx=self._tls,
            bootstrap=client_bootstrap(),
            socket_options=socket,
            connect_options=mqtt5.ConnectPacket(
                client_id=self._client_id,
                username=self._endpoint.username,
                password=self._endpoint.password,
                keep_alive_interval_sec=KEEP_ALIVE,
                session_expiry_interval_sec=SESSION_EXPIRY,
                receive_maximum=RECEIVE_MAXIMUM,
            ),
            session_behavior=mqtt5.ClientSessionBehaviorType.REJOIN_ALWAYS,
            offline_queue_behavior=mqtt5.ClientOperationQueueBehaviorType.FAIL_ALL_ON_DISCONNECT,
            extended_validation_and_flow_control_options=(
                mqtt5.ExtendedValidationAndFlowControlOptions.NONE
            ),
            retry_jitter_mode=mqtt5.ExponentialBackoffJitterMode.FULL,
            min_reconnect_delay_ms=int(shortest * 1000),
            max_reconnect_delay_ms=int(longest * 1000),
            ping_timeout_ms=PING_TIMEOUT * 1000,
            connack_timeout_ms=CONNECT_TIMEOUT * 1000,
            ack_timeout_sec=max(1, int(self._ack_timeout)),
            disable_metrics=True,  # the SDK would append them to the user name
            on_publish_callback_fn=self._on_publish,
            on_lifecycle_event_connection_success_fn=lambda data: bridge.call(
                self._on_connected, data.negotiated_settings
            ),
            on_lifecycle_event_connection_failure_fn=lambda data: bridge.call(
                self._on_connect_failed, data
            ),
            on_lifecycle_event_disconnection_fn=lambda data: bridge.call(
                self._on_disconnected, data.exception
            ),
            on_lifecycle_event_stopped_fn=lambda _: bridge.call(self._stopped.set),
        )

    def _on_publish(self, data: mqtt5.PublishReceivedData) -> None:
        """Pass a message from the SDK's thread to the event loop.

        The control must be acquired in this call. Otherwise the SDK acknowledges the message.
        """
        packet, acquire = data.publish_packet, data.acquire_publish_acknowledgement_control
        message = Message(packet.topic, packet.payload or b"", retained=bool(packet.retain))
        self._bridge.call(self._on_message, message, acquire() if acquire else None)

    def _on_message(self, message: Message, control: Any) -> None:
        """Deliver a message. `control` acknowledges it; at QoS 0 it is None."""

        def send() -> None:
            if control:  # after a reconnection the SDK ignores it
                self._client.invoke_publish_acknowledgement(control)
                self._acknowledged = True

        self._deliver(message, self._acknowledgements.expect(send))

    async def _flush_acknowledgements(self) -> None:
        """Wait until the broker has the latest acknowledgements. Stopping the client drops them.

        The SDK sends acknowledgements before requests. So the response to one request is enough.
        """
        with contextlib.suppress(DownloaderError, TimeoutError):
            async with timeout(FLUSH_TIMEOUT):
                for topic in sorted(self._granted)[:1]:
                    await self._request_subscription(topic)

    def _deliver(self, message: Message, acknowledge: Acknowledge) -> None:
        outcomes = self._subscriptions.deliver(message)
        if outcomes is not None:
            acknowledge(outcomes)
            return
        if not self._unclaimed:
            asyncio.get_running_loop().call_later(CLAIM_TIMEOUT, self._drop_unclaimed)
        self._unclaimed.append((message, acknowledge))

    def _deliver_unclaimed(self) -> None:
        """Deliver the messages of a resumed session that arrived before their handler was added."""
        waiting, self._unclaimed = self._unclaimed, []
        for message, acknowledge in waiting:
            self._deliver(message, acknowledge)

    def _drop_unclaimed(self) -> None:
        """Acknowledge messages without a handler, and unsubscribe from their topics.

        They come in a resumed session if an earlier process subscribed to other topics. Without an
        acknowledgement they would block the acknowledgements of later messages.
        """
        if self._closing:
            return
        unclaimed, self._unclaimed = self._unclaimed, []
        for _, acknowledge in unclaimed:
            acknowledge([])
        for topic in sorted({message.topic for message, _ in unclaimed}):
            log.warning("messages to %s are dropped: it has no subscriber here", topic)
            self._client.unsubscribe(mqtt5.UnsubscribePacket(topic_filters=[topic]))

    def _on_connected(self, settings: mqtt5.NegotiatedSettings) -> None:
        log.info("connected to %s as %s", self._endpoint, self._client_id)
        disable_nagle(self._endpoint.port)
        self._log_once.reset()
        self._refused_since = None
        self._max_packet = settings.maximum_packet_size_to_server
        if not settings.rejoined_session:
            self._granted = set()
        self._renew_subscriptions()
        self._attempted.set()
        for on_up in self._on_up:
            on_up()

    def _on_disconnected(self, error: Exception) -> None:
        if not self._closing:
            self._log_once.report("the connection to %s was lost: %s", self._endpoint, error)

    def _on_connect_failed(self, data: mqtt5.LifecycleConnectFailureData) -> None:
        self._attempted.set()
        refusal = _refusal(data)
        if refusal is None:
            self._refused_since = None
            self._log_once.report(
                "%s cannot be reached, trying again: %s", self._endpoint, data.exception
            )
            return
        message = f"no connection to {self._endpoint} for {self._client_id}: {refusal}"
        self._log_once.report("%s", message)
        now = asyncio.get_running_loop().time()
        if self._refused_since is None:
            self._refused_since = now
        if now - self._refused_since >= self._refusal_patience and not self._lost.done():
            self._lost.set_result(MessagingError(message))

    def _renew_subscriptions(self) -> None:
        if self._renewal:
            self._renewal.cancel()
        self._renewal = background(self._subscribe_until_granted())

    async def _subscribe_until_granted(self) -> None:
        while missing := self._subscriptions.filters - self._granted:
            for topic in missing:
                try:
                    await self._request_subscription(topic)
                except DownloaderError as error:
                    self._log_once.report("%s", error.message)
            await asyncio.sleep(RENEWAL_PAUSE)

    async def _request_subscription(self, topic: str) -> None:
        granted = self._granted
        subscription = mqtt5.Subscription(
            topic_filter=topic,
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            retain_as_published=True,
            retain_handling_type=mqtt5.RetainHandlingType.SEND_ON_SUBSCRIBE_IF_NEW,
        )
        packet = mqtt5.SubscribePacket(subscriptions=[subscription])
        suback = await self._request(f"subscribing to {topic}", self._client.subscribe, packet)
        self._check_reason(f"subscribing to {topic}", suback.reason_codes[0])
        granted.add(topic)

    async def _request(self, what: str, send: Callable[[Any], Future[Any]], packet: object) -> Any:
        """Send a request and return its response. `what` names it in errors."""
        try:
            return await self._bridge.result(send(packet), within=self._ack_timeout)
        except SDK_ERRORS as error:
            reason = str(error) or "no response in time"
            raise MessagingError(f"{what} failed at {self._endpoint}: {reason}") from error

    def _check_reason(self, what: str, code: mqtt5.PubackReasonCode | None) -> None:
        """Raise the error for a reason code of a failure. None is a code that the SDK lacks."""
        if code == mqtt5.PubackReasonCode.NOT_AUTHORIZED:
            message = f"{what} is not allowed at {self._endpoint}: extend the client's policy"
            raise DownloaderError(ErrorCode.ACCESS_DENIED, message)
        if code is None or code >= FAILURE:
            name = code.name if code else "unknown reason"
            raise MessagingError(f"{what} was refused by {self._endpoint}: {name}")

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with timeout(seconds):
                await event.wait()


def _refusal(data: mqtt5.LifecycleConnectFailureData) -> str | None:
    """Return why the broker or TLS refuses the client. None if the broker cannot be reached."""
    if data.connack_packet:
        return CONNECT_REFUSALS.get(data.connack_packet.reason_code)
    if getattr(data.exception, "name", "").startswith("AWS_IO_TLS_ERROR"):
        advice = "check the CA, the client's certificate, its policy and the device's clock"
        return f"{data.exception} in TLS; {advice}"
    return None
