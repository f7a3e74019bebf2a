"""The two ways to the outside: through the Greengrass nucleus, or through any MQTT broker."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

from . import logs, settings
from .aio import stop
from .arguments import Arguments
from .errors import TRANSIENT, DownloaderError, ErrorCode
from .messaging.bus import Bus, Shadow
from .settings import LiveSettings

__all__ = ["Connection", "over_greengrass", "over_mqtt"]

log = logging.getLogger(__name__)

Reconfigure = Callable[[Mapping[str, Any]], None]
Defer = Callable[[str], float]
"""Gives the seconds by which a deployment, by its id, shall be put off."""


class Connection(NamedTuple):
    """A bus that is still to be opened, the models shadow behind it, and the settings."""

    bus: Bus
    shadow: Shadow
    live: LiveSettings
    transient: frozenset[ErrorCode]
    """The faults that pass by themselves."""
    watch: Callable[[Reconfigure, Defer], Awaitable[None]]
    """For as long as the connection is open, has a changed configuration handed over, and questions
    about updates answered."""
    report_running: Callable[[], Coroutine[Any, Any, None]]
    """Tells who started the component that it serves."""


@asynccontextmanager
async def over_mqtt(arguments: Arguments) -> AsyncIterator[Connection]:
    """Prepare for the broker at `--mqtt-url`; the configuration, a file, does not change."""
    from .messaging.mqtt import MqttBus
    from .messaging.shadow_topics import TopicShadow

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
    from .messaging import greengrass_config
    from .messaging.greengrass import GreengrassBus
    from .messaging.greengrass_shadow import FirstAnswering, IpcShadow
    from .messaging.ipc import IpcClient
    from .messaging.shadow_topics import TopicShadow

    thing = arguments.thing_name
    async with AsyncExitStack() as stack:
        ipc = await stack.enter_async_context(IpcClient())
        live = _load(arguments, await greengrass_config.get_configuration(ipc))
        bus = GreengrassBus(
            ipc,
            max_payload=lambda: live().max_payload_bytes,
            probe_topic=f"{live().topic_prefix}/{thing}/probe",
        )

        async def watch(reconfigure: Reconfigure, defer: Defer) -> None:
            await greengrass_config.answer_component_updates(ipc, defer)
            changed = asyncio.Event()
            await greengrass_config.watch_configuration(ipc, changed.set)
            following = asyncio.create_task(follow(changed, reconfigure))
            stack.push_async_callback(stop, following)

        async def follow(changed: asyncio.Event, reconfigure: Reconfigure) -> None:
            while True:
                await changed.wait()
                changed.clear()
                try:
                    component = await greengrass_config.get_configuration(ipc)
                    configuration = _configuration(arguments, component)
                except DownloaderError as error:
                    log.warning("the changed configuration could not be read: %s", error)
                else:
                    reconfigure(configuration)

        shadow = FirstAnswering(IpcShadow(ipc, thing), TopicShadow(bus, thing))
        # The nucleus has its credentials from the cloud: they come back when the network does.
        transient = TRANSIENT | {ErrorCode.CREDENTIALS_UNAVAILABLE}
        report_running = partial(greengrass_config.report_running, ipc)
        yield Connection(bus, shadow, live, transient, watch, report_running)


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
