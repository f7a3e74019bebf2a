"""The two ways to the outside: through the Greengrass nucleus, or through any MQTT broker."""

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
"""Gives the seconds by which a deployment, by its id, shall be put off."""


class Connection(NamedTuple):
    """A bus that is still to be opened, the models shadow behind it, and the settings."""

    bus: Bus
    shadow: Shadow
    live: LiveSettings
    transient: frozenset[ErrorCode]
    """The faults that pass by themselves."""
    watch: Callable[[Reconfigure, Defer, Warn], Awaitable[None]]
    """For as long as the connection is open, has a changed configuration handed over, questions
    about updates answered, and the operator warned."""
    report_running: Callable[[], Coroutine[Any, Any, None]]
    """Tells who started the component that it serves."""
    locate_credentials: Locate | None = None
    """Gives the address of the nucleus's token exchange service."""


@asynccontextmanager
async def over_mqtt(arguments: Arguments) -> AsyncIterator[Connection]:
    """Prepare for the broker at `--mqtt-url`; the configuration, a file, does not change."""
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
    """Connect to the nucleus, whose configuration of the component goes over the file's."""
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
        tell: Warn = _log_warning

        def lowered(size: int, limit: int) -> None:
            configured = live().max_payload_bytes
            live.cap_payload(limit)
            tell(
                f"the nucleus cuts the connection at a message of {size} bytes: from now on none is"
                f" larger than {limit}; set MaxPayloadBytes, which is {configured}, to that",
                ErrorCode.PAYLOAD_TOO_LARGE,
            )

        sizes = MessageSizes(lambda: live().max_payload_bytes, lowered)
        probe_topic = f"{live().topic_prefix}/{thing}/probe"
        bus = GreengrassBus(ipc, sizes=sizes, probe_topic=probe_topic)

        async def watch(reconfigure: Reconfigure, defer: Defer, warn: Warn) -> None:
            def changed(component: Mapping[str, Any]) -> None:
                try:
                    configuration = _configuration(arguments, component)
                except DownloaderError as error:
                    warn(f"{error.message}; the configuration before stays in force", error.code)
                else:
                    reconfigure(configuration)

            nonlocal tell
            tell = warn
            await configuration.answer_component_updates(ipc, defer)
            following = configuration.follow_configuration(ipc, component, changed)
            stack.push_async_callback(stop, background(following))

        shadow = FirstAvailable(IpcShadow(ipc, thing), TopicShadow(bus, thing))
        # The nucleus has its credentials from the cloud: they come back when the network does.
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
