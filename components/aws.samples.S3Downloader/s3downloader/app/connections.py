"""Connects the daemon to messaging: through the Greengrass nucleus, or through an MQTT broker."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

from ..core import logs, settings
from ..core.aio import background, stop
from ..core.errors import TRANSIENT, DownloaderError, ErrorCode
from ..core.settings import LiveSettings
from ..messaging.bus import Bus, Shadow
from ..sources.s3.credentials import Locate
from .arguments import Arguments

__all__ = ["Connection", "over_greengrass", "over_mqtt"]

log = logging.getLogger(__name__)

Reconfigure = Callable[[Mapping[str, Any]], None]
Warn = Callable[[str, ErrorCode], None]
Defer = Callable[[str], float]
"""Returns for the id of a deployment how many seconds to defer it."""


class Connection(NamedTuple):
    """What the daemon needs of its environment. The bus is not open yet."""

    bus: Bus
    shadow: Shadow
    live: LiveSettings
    transient: frozenset[ErrorCode]
    """The codes of errors that pass by themselves."""
    watch: Callable[[Reconfigure, Defer, Warn], Awaitable[None]]
    """From this call on, passes on changes of the configuration, answers the nucleus's questions
    about updates, and warns the operator through the daemon."""
    report_running: Callable[[], Coroutine[Any, Any, None]]
    """Reports to the nucleus that the component is running."""
    locate_credentials: Locate | None = None
    """Returns the address of the nucleus's token exchange service."""


@asynccontextmanager
async def over_mqtt(arguments: Arguments) -> AsyncIterator[Connection]:
    """Use the broker at `--mqtt-url`, and the file of `--config`, which is read once."""
    from ..messaging.mqtt.bus import MqttBus
    from ..messaging.shadow_topics import TopicShadow

    live = _load(arguments, {})

    async def nothing(*_: object) -> None:
        return

    bus = MqttBus(
        arguments.mqtt_url,
        arguments.thing_name,
        ca=arguments.ca,
        cert=arguments.cert,
        key=arguments.key,
    )
    shadow = TopicShadow(bus, arguments.thing_name)
    yield Connection(bus, shadow, live, TRANSIENT, nothing, nothing)


@asynccontextmanager
async def over_greengrass(arguments: Arguments) -> AsyncIterator[Connection]:
    """Connect to the nucleus. Its configuration overrides the file of `--config`."""
    from ..messaging.greengrass import configuration
    from ..messaging.greengrass.bus import GreengrassBus
    from ..messaging.greengrass.ipc import IpcClient
    from ..messaging.greengrass.message_sizes import MessageSizes
    from ..messaging.greengrass.shadow import FirstAvailable, IpcShadow
    from ..messaging.shadow_topics import TopicShadow

    thing = arguments.thing_name
    async with AsyncExitStack() as stack:
        ipc = await stack.enter_async_context(IpcClient())
        component = await configuration.wait_for_configuration(ipc)
        live = _load(arguments, component)
        warn_operator: Warn = _log_warning

        def on_lowered(size: int, limit: int) -> None:
            configured = live().max_payload_bytes
            live.cap_payload(limit)
            warn_operator(
                f"the nucleus closes the connection at a message of {size} bytes: from now on the"
                f" limit is {limit}; set MaxPayloadBytes, which is {configured}, to that",
                ErrorCode.PAYLOAD_TOO_LARGE,
            )

        sizes = MessageSizes(lambda: live().max_payload_bytes, on_lowered)
        probe_topic = f"{live().topic_prefix}/{thing}/probe"
        bus = GreengrassBus(ipc, sizes=sizes, probe_topic=probe_topic)

        async def watch(reconfigure: Reconfigure, defer: Defer, warn: Warn) -> None:
            def on_change(component: Mapping[str, Any]) -> None:
                try:
                    configuration = _configuration(arguments, component)
                except DownloaderError as error:
                    warn(f"{error.message}; the previous configuration stays in force", error.code)
                else:
                    reconfigure(configuration)

            nonlocal warn_operator
            warn_operator = warn
            await configuration.answer_component_updates(ipc, defer)
            following = configuration.follow_configuration(ipc, component, on_change)
            stack.push_async_callback(stop, background(following))

        shadow = FirstAvailable(IpcShadow(ipc, thing), TopicShadow(bus, thing))
        # The nucleus gets its credentials over the network: they are back when the network is.
        transient = TRANSIENT | {ErrorCode.CREDENTIALS_UNAVAILABLE}
        report_running = partial(configuration.report_running, ipc)
        locate = partial(configuration.get_token_exchange_url, ipc)
        yield Connection(bus, shadow, live, transient, watch, report_running, locate)


def _log_warning(message: str, code: ErrorCode) -> None:
    log.warning("%s: %s", code.value, message)


def _load(arguments: Arguments, component: Mapping[str, Any]) -> LiveSettings:
    configuration = _configuration(arguments, component)
    live = LiveSettings(
        arguments=arguments.parameters, environment=os.environ, configuration=configuration
    )
    logs.configure(live().log_level)
    for sentence in settings.unknown(configuration):
        log.warning("%s", sentence)
    return live


def _configuration(arguments: Arguments, component: Mapping[str, Any]) -> dict[str, Any]:
    return {**(settings.read_file(arguments.config) if arguments.config else {}), **component}
