"""Reads the configuration, reports the state and answers about updates, over Greengrass IPC."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from awsiot.greengrasscoreipc.client import GreengrassCoreIPCClient
from awsiot.greengrasscoreipc.model import (
    ComponentUpdatePolicyEvents,
    DeferComponentUpdateRequest,
    GetConfigurationRequest,
    GreengrassCoreIPCError,
    ReportedLifecycleState,
    ResourceNotFoundError,
    SubscribeToComponentUpdatesRequest,
    SubscribeToConfigurationUpdateRequest,
    UpdateStateRequest,
)

from ...core.aio import background, timeout
from ...core.backoff import backoff
from ...core.errors import DownloaderError
from ...core.log_once import LogOnce
from ..bus import MessagingError
from .ipc import IpcClient
from .ipc_streams import Subscription

__all__ = [
    "answer_component_updates",
    "follow_configuration",
    "get_configuration",
    "get_token_exchange_url",
    "report_running",
    "wait_for_configuration",
]

log = logging.getLogger(__name__)

READ_INTERVAL = 45
"""Seconds between reads of the configuration."""

RETRY_INTERVAL = 5
"""Seconds to the next read if one failed."""

_EXCHANGE = "aws.greengrass.TokenExchangeService"
_EXCHANGE_PATH = "/2016-11-01/credentialprovider/"
_EXCHANGE_TIMEOUT = 5.0


async def get_configuration(ipc: IpcClient) -> dict[str, Any]:
    """Return the component's configuration. It is empty if there is none. Raises MessagingError.

    Nucleus lite returns the scalars of a YAML recipe as strings.
    """
    new_operation = GreengrassCoreIPCClient.new_get_configuration
    try:
        response = await ipc.request(new_operation, GetConfigurationRequest())
    except ResourceNotFoundError:
        return {}
    except GreengrassCoreIPCError as error:
        raise MessagingError(f"the nucleus did not return the configuration: {error!r}") from error
    return response.value or {}


async def get_token_exchange_url(ipc: IpcClient) -> str | None:
    """Return the present URL of the token exchange service. None if the nucleus does not give it.

    The service writes its port to its configuration, which every component may read.

    - Nucleus lite writes `port`, a different one after each start
      (modules/tes-serverd/src/http_server.c). It listens on IPv4 only. So the host is 127.0.0.1:
      localhost may also mean ::1, where another program may use the same port.
    - The Java nucleus writes `activePort`; its `port` is the requested one
      (TokenExchangeService.java). It listens on localhost.
    """
    request = GetConfigurationRequest(component_name=_EXCHANGE)
    try:
        async with timeout(_EXCHANGE_TIMEOUT):
            response = await ipc.request(GreengrassCoreIPCClient.new_get_configuration, request)
    except (TimeoutError, DownloaderError, GreengrassCoreIPCError) as error:
        log.debug("the nucleus did not give the token exchange service's port: %r", error)
        return None
    values = response.value or {}
    host = "localhost" if "activePort" in values else "127.0.0.1"
    port = str(values.get("activePort") or values.get("port") or "")
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        return None
    return f"http://{host}:{port}{_EXCHANGE_PATH}"


async def wait_for_configuration(ipc: IpcClient) -> dict[str, Any]:
    """Return the result of `get_configuration`. Repeat it until it succeeds.

    Raises MessagingError when the nucleus is lost for good.
    """
    log_once, pauses = LogOnce(log), backoff(0.1, RETRY_INTERVAL)
    while True:
        try:
            return await get_configuration(ipc)
        except DownloaderError as error:
            log_once.report("%s", error.message)
        await ipc.pause(next(pauses))


async def follow_configuration(
    ipc: IpcClient,
    known: Mapping[str, Any],
    on_change: Callable[[dict[str, Any]], None],
    *,
    read_interval: float = READ_INTERVAL,
) -> None:
    """Call `on_change` with the complete configuration after each change. Never returns.

    `known` is the configuration that the caller already has. The nucleus announces changes to a
    subscription. That subscription dies silently when the configuration daemon of nucleus lite
    restarts. So the configuration is also read every `read_interval` seconds. If a read fails, or
    shows a change that was not announced, the subscription is renewed. An empty configuration after
    a non-empty one is an error, not a change: the nucleus has not loaded it yet.
    """
    changed = asyncio.Event()
    changed.set()  # finds changes made before the subscription
    subscription = Subscription(
        GreengrassCoreIPCClient.new_subscribe_to_configuration_update,
        SubscribeToConfigurationUpdateRequest(),
        lambda _: changed.set(),
        resource="the configuration",
        optional=True,
    )
    await ipc.subscribe(subscription)
    log_once, suspect = LogOnce(log), False
    while True:
        interval = RETRY_INTERVAL if suspect else read_interval
        announced = await _is_set_within(changed, within=interval)
        changed.clear()
        try:
            if suspect:
                await ipc.renew(subscription)
            found = await get_configuration(ipc)
            if known and not found:
                raise MessagingError("the nucleus has no configuration of the component")
        except DownloaderError as error:
            log_once.report("changes of the configuration cannot be detected: %s", error.message)
            suspect = True
            continue
        log_once.reset()
        suspect = found != known and not announced and not suspect
        if found != known:
            known = found
            on_change(found)


async def report_running(ipc: IpcClient) -> None:
    """Report the state RUNNING to the nucleus. A failure is only logged."""
    request = UpdateStateRequest(state=ReportedLifecycleState.RUNNING)
    try:
        await ipc.request(GreengrassCoreIPCClient.new_update_state, request)
    except (DownloaderError, GreengrassCoreIPCError) as error:
        log.info("the nucleus did not accept the component's state: %r", error)


async def answer_component_updates(ipc: IpcClient, defer_seconds: Callable[[str], float]) -> None:
    """Tell the nucleus before each update of components how long to defer it.

    `defer_seconds` gets the id of the deployment and returns seconds. 0 lets the update begin.
    After a deferral the nucleus asks again, with the same id. It asks every running component, and
    waits a minute for each that does not answer. Nucleus lite does not ask.
    """

    def on_event(event: ComponentUpdatePolicyEvents) -> None:
        if event.pre_update_event:
            deployment_id = event.pre_update_event.deployment_id
            request = DeferComponentUpdateRequest(
                deployment_id=deployment_id,
                recheck_after_ms=round(defer_seconds(deployment_id) * 1000),
            )
            background(_defer(ipc, request))

    await ipc.subscribe(
        Subscription(
            GreengrassCoreIPCClient.new_subscribe_to_component_updates,
            SubscribeToComponentUpdatesRequest(),
            on_event,
            resource="component updates",
            optional=True,
        )
    )


async def _is_set_within(event: asyncio.Event, *, within: float) -> bool:
    try:
        async with timeout(within):
            return await event.wait()
    except TimeoutError:
        return False


async def _defer(ipc: IpcClient, request: DeferComponentUpdateRequest) -> None:
    try:
        await ipc.request(GreengrassCoreIPCClient.new_defer_component_update, request)
    except (DownloaderError, GreengrassCoreIPCError) as error:
        log.warning("the nucleus did not receive the answer about an update: %r", error)
