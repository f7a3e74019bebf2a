"""The component's configuration, its state and its part in updates, over Greengrass IPC."""

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

LOOK_EVERY = 45
READ_AGAIN = 5
"""Seconds between looks at the configuration, and until the next after one that failed."""

_EXCHANGE = "aws.greengrass.TokenExchangeService"
_EXCHANGE_PATH = "/2016-11-01/credentialprovider/"
_TOLD_SECONDS = 5.0


async def get_configuration(ipc: IpcClient) -> dict[str, Any]:
    """Return the component's whole configuration, empty if it has none. Raises MessagingError.

    From nucleus lite the scalars of a YAML recipe come as strings.
    """
    new_operation = GreengrassCoreIPCClient.new_get_configuration
    try:
        response = await ipc.request(new_operation, GetConfigurationRequest())
    except ResourceNotFoundError:
        return {}
    except GreengrassCoreIPCError as error:
        raise MessagingError(f"the nucleus did not give the configuration: {error!r}") from error
    return response.value or {}


async def get_token_exchange_url(ipc: IpcClient) -> str | None:
    """Return the address of the token exchange service now, None where the nucleus tells none.

    The service writes its port to its configuration, which every component may read: nucleus lite
    to `port`, another one after each start (modules/tes-serverd/src/http_server.c); the Java
    nucleus to `activePort`, since its `port` is what was asked for (TokenExchangeService.java).
    That one listens on localhost, whatever this is there; the other on IPv4, where the same port of
    ::1, which localhost is too, may be anybody's.
    """
    request = GetConfigurationRequest(component_name=_EXCHANGE)
    try:
        async with timeout(_TOLD_SECONDS):
            response = await ipc.request(GreengrassCoreIPCClient.new_get_configuration, request)
    except (TimeoutError, DownloaderError, GreengrassCoreIPCError) as error:
        log.debug("the nucleus does not tell the port of the token exchange: %r", error)
        return None
    values = response.value or {}
    host = "localhost" if "activePort" in values else "127.0.0.1"
    port = str(values.get("activePort") or values.get("port") or "")
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        return None
    return f"http://{host}:{port}{_EXCHANGE_PATH}"


async def wait_for_configuration(ipc: IpcClient) -> dict[str, Any]:
    """Return what `get_configuration` does, as soon as the nucleus gives it.

    Raises MessagingError once the nucleus is lost for good.
    """
    log_once, pauses = LogOnce(log), backoff(0.1, READ_AGAIN)
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
    look_every: float = LOOK_EVERY,
) -> None:
    """Call `on_change` with each whole configuration that differs from the last, for ever.

    The nucleus tells of changes. When the configuration daemon of nucleus lite restarts, that
    subscription dies without a word: so the configuration is also read every `look_every` seconds,
    and where that fails, or shows a change that was not told, the subscription is renewed. None at
    all where there was one is no change, but a nucleus that has not found it yet.
    """
    changed = asyncio.Event()
    changed.set()  # for what changed before
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
        announced = await _is_set_within(changed, within=READ_AGAIN if suspect else look_every)
        changed.clear()
        try:
            if suspect:
                await ipc.renew(subscription)
            found = await get_configuration(ipc)
            if known and not found:
                raise MessagingError("the nucleus has no configuration of the component")
        except DownloaderError as error:
            log_once.report("a changed configuration would not be noticed: %s", error.message)
            suspect = True
            continue
        log_once.reset()
        suspect = found != known and not announced and not suspect
        if found != known:
            known = found
            on_change(found)


async def report_running(ipc: IpcClient) -> None:
    """Tell the nucleus that the component serves; one that takes no such report is let be."""
    request = UpdateStateRequest(state=ReportedLifecycleState.RUNNING)
    try:
        await ipc.request(GreengrassCoreIPCClient.new_update_state, request)
    except (DownloaderError, GreengrassCoreIPCError) as error:
        log.info("the nucleus does not take the report of the component's state: %r", error)


async def answer_component_updates(ipc: IpcClient, defer_seconds: Callable[[str], float]) -> None:
    """Tell the nucleus, whenever it is about to update components, how long it shall wait.

    `defer_seconds` is given the id of the deployment. When the time that it returns is over the
    nucleus asks again, with the same id; 0 lets the update begin. The nucleus asks every component
    that runs and waits a minute for each that is silent. Nucleus lite does not ask.
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
        log.warning("the nucleus's question about an update was not answered: %r", error)
