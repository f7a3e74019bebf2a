"""How the two kinds of nucleus differ, as far as a component notices."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["JAVA", "LITE", "PERSONALITIES", "Personality"]


@dataclass(frozen=True, kw_only=True)
class Personality:
    """The limits and the behaviour of a nucleus. A limit of None is no limit."""

    runtime: str | None
    """Its name in the Platform of a manifest."""
    max_publish: int
    """The largest payload that a component can publish to IoT Core, in bytes."""
    max_request: int | None
    """The largest IPC message in bytes; a larger one closes the connection."""
    max_receive: int
    """The largest payload that it delivers from IoT Core to components, in bytes."""
    max_unacked: int | None
    """How many QoS 1 messages may wait for the broker's acknowledgement."""
    max_unacked_bytes: int | None
    """The bytes of the payloads of these messages, at most."""
    spool_bytes: int | None
    """The size of the spool for publishes; None: without a broker, a publish fails at once."""
    shadows: bool
    """Whether there is a shadow service."""
    error_messages: bool
    """Whether errors have a message."""
    scalars_as_strings: bool
    """Whether numbers and booleans in the configuration become strings."""
    overlaps_deliver_twice: bool
    """Whether a message arrives once for each of several overlapping subscriptions."""
    subscribes_offline: bool
    """Whether SubscribeToIoTCore succeeds while the broker is away."""
    asks_before_updates: bool
    """Whether there are SubscribeToComponentUpdates and DeferComponentUpdate."""
    refuses_by_closing: bool
    """Whether a client with an unknown token gets no response before its connection is closed."""
    exchange_port_key: str | None
    """The key in its configuration under which TokenExchangeService writes its port, if it does."""
    unknown_token_status: int
    """The HTTP status of the token exchange service for an unknown token."""
    exchange_answers_null_without_keys: bool
    """Whether the token exchange service responds with `null` if it has no keys, or with 500."""
    hard_dependencies_bind: bool
    """Whether a component is stopped when a HARD dependency of it ends."""
    configuration_restarts: bool
    """Whether a deployment that changes the configuration restarts the component."""
    start_burst: int | None
    """How often a component may be started within `start_interval`."""
    start_interval: float = 3_600.0
    """In seconds."""


JAVA = Personality(
    runtime=None,
    max_publish=128 * 1024,
    max_request=None,
    max_receive=128 * 1024,
    max_unacked=None,
    max_unacked_bytes=None,
    spool_bytes=2_621_440,
    shadows=True,
    error_messages=True,
    scalars_as_strings=False,
    overlaps_deliver_twice=False,
    subscribes_offline=True,
    asks_before_updates=True,
    refuses_by_closing=False,
    exchange_port_key="activePort",
    unknown_token_status=403,
    exchange_answers_null_without_keys=False,
    hard_dependencies_bind=False,
    configuration_restarts=False,
    start_burst=None,
)
"""The Greengrass nucleus with the ShadowManager component."""

LITE = Personality(
    runtime="aws_nucleus_lite",
    max_publish=128 * 1024,
    max_request=10_000,
    max_receive=4_960,
    max_unacked=10,
    max_unacked_bytes=15_000,
    spool_bytes=None,
    shadows=False,
    error_messages=False,
    scalars_as_strings=True,
    overlaps_deliver_twice=True,
    subscribes_offline=False,
    asks_before_updates=False,
    refuses_by_closing=True,
    exchange_port_key="port",
    unknown_token_status=404,
    exchange_answers_null_without_keys=True,
    hard_dependencies_bind=True,
    configuration_restarts=True,
    start_burst=3,
)
"""Greengrass nucleus lite, as measured: a publish of 7,250 bytes works, of 7,300 it does not."""

PERSONALITIES = {"java": JAVA, "lite": LITE}
