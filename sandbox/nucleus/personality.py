"""What tells the two nuclei apart, as far as a component can see it over IPC."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["JAVA", "LITE", "PERSONALITIES", "Personality"]


@dataclass(frozen=True, kw_only=True)
class Personality:
    """Limits and habits of a nucleus. Sizes are bytes of MQTT payload, unless said otherwise.

    A message over IPC of more than `max_request` bytes cuts the connection (None: none does).
    `max_unacked` and `max_unacked_bytes` bound the QoS 1 messages that the broker has not
    acknowledged yet; `spool_bytes` is what is kept while the broker is away (None: nothing is,
    a publish fails at once). `subscribes_offline` tells whether SubscribeToIoTCore is taken while
    the broker is away, `asks_before_updates` whether there is SubscribeToComponentUpdates, and
    `refuses_by_closing` how a token that is not known is refused: without a word, or with one.
    `runtime` is its name in the Platform of a manifest.

    `exchange_port_key` is where TokenExchangeService writes its port in its configuration; None
    for one that tells nobody. `start_burst` is how often a component may be started within
    `start_interval` seconds; None for without a limit.
    """

    runtime: str | None
    max_publish: int
    max_request: int | None
    max_receive: int
    max_unacked: int | None
    max_unacked_bytes: int | None
    spool_bytes: int | None
    shadows: bool
    error_messages: bool
    scalars_as_strings: bool
    overlaps_deliver_twice: bool
    subscribes_offline: bool
    asks_before_updates: bool
    refuses_by_closing: bool
    exchange_port_key: str | None
    unknown_token_status: int
    exchange_answers_null_without_keys: bool
    hard_dependencies_bind: bool
    configuration_restarts: bool
    start_burst: int | None
    start_interval: float = 3_600.0


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
