"""Reads and updates a shadow through the ShadowManager component, over Greengrass IPC."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from awsiot.eventstreamrpc import Shape
from awsiot.greengrasscoreipc.client import GreengrassCoreIPCClient
from awsiot.greengrasscoreipc.model import (
    ConflictError,
    GetThingShadowRequest,
    GreengrassCoreIPCError,
    InvalidArgumentsError,
    ResourceNotFoundError,
    SubscribeToTopicRequest,
    SubscriptionResponseMessage,
    UpdateThingShadowRequest,
)

from ...core.errors import DownloaderError, ErrorCode
from ..bus import Shadow, ShadowConflict, ShadowDocument
from ..shadow_messages import (
    CONFLICT,
    TOO_LARGE,
    ClientTokens,
    decode_response,
    encode_update,
    refusal,
    unavailable,
)
from .ipc import IpcClient
from .ipc_streams import Subscription

__all__ = ["FirstAvailable", "IpcShadow"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_TOO_LARGE = "exceeds the maximum size"
"""Part of ShadowManager's InvalidArgumentsError message. The error has no code to compare."""


class IpcShadow:
    """The named shadow of a thing, which ShadowManager keeps on the device. Implements Shadow.

    ShadowManager announces every change on local topics of the device, also a change that comes
    from the cloud. The topics have the names of AWS's reserved MQTT topics:
    https://docs.aws.amazon.com/greengrass/v2/developerguide/interact-with-shadows-in-components.html
    """

    def __init__(self, ipc: IpcClient, thing_name: str, name: str = "models") -> None:
        self._ipc = ipc
        self._thing_name = thing_name
        self._name = name
        self._prefix = f"$aws/things/{thing_name}/shadow/name/{name}"
        self._tokens = ClientTokens()
        self._unsubscribed = [f"{self._prefix}/update/accepted", f"{self._prefix}/delete/accepted"]
        self._on_change: Callable[[], None] = lambda: None

    async def get(self) -> ShadowDocument:
        """Return the shadow. If it does not exist, the version is 0."""
        request = GetThingShadowRequest(thing_name=self._thing_name, shadow_name=self._name)
        try:
            response = await self._request(GreengrassCoreIPCClient.new_get_thing_shadow, request)
        except ResourceNotFoundError:
            return ShadowDocument(version=0)
        return decode_response(response.payload).document

    async def update(self, *, version: int, state: dict[str, Any]) -> int:
        """Merge `state` into the shadow if it has `version`, and return the new version."""
        request = UpdateThingShadowRequest(
            thing_name=self._thing_name,
            shadow_name=self._name,
            payload=encode_update(state, version=version, token=self._tokens.new()),
        )
        response = await self._request(GreengrassCoreIPCClient.new_update_thing_shadow, request)
        return decode_response(response.payload).version

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` when another client has changed the shadow."""
        self._on_change = on_change
        while self._unsubscribed:
            await self._subscribe(self._unsubscribed[0])
            del self._unsubscribed[0]

    async def _request(
        self, new_operation: Callable[[GreengrassCoreIPCClient], Any], request: Shape
    ) -> Any:
        try:
            return await self._ipc.request(new_operation, request, resource=self._prefix)
        except ResourceNotFoundError:
            raise
        except ConflictError as error:
            raise refusal(self._prefix, CONFLICT, error.message or "") from error
        except InvalidArgumentsError as error:
            message = error.message or ""
            code = TOO_LARGE if _TOO_LARGE in message else 400
            raise refusal(self._prefix, code, message) from error
        except GreengrassCoreIPCError as error:
            message = f"no ShadowManager responds for {self._prefix}: {error!r}"
            raise unavailable(message) from error
        except DownloaderError as error:
            raise unavailable(error.message) from error

    async def _subscribe(self, topic: str) -> None:
        subscription = Subscription(
            GreengrassCoreIPCClient.new_subscribe_to_topic,
            SubscribeToTopicRequest(topic=topic),
            self._on_message,
            resource=topic,
        )
        try:
            await self._ipc.subscribe(subscription)
        except DownloaderError as error:
            raise unavailable(error.message) from error

    def _on_message(self, event: SubscriptionResponseMessage) -> None:
        try:
            response = decode_response(
                event.binary_message.message if event.binary_message else b""
            )
        except DownloaderError as error:
            log.warning("%s", error.message)
            return
        if not self._tokens.is_own(response.client_token):
            self._on_change()


class FirstAvailable:
    """Uses the first of several shadows that responds, from then on always. Implements Shadow.

    The shadows are the same one, reached in different ways.
    """

    def __init__(self, *shadows: Shadow) -> None:
        self._shadows = shadows
        self._on_change: Callable[[], None] | None = None

    async def get(self) -> ShadowDocument:
        """Return the shadow. If it does not exist, the version is 0."""
        return await self._first(lambda shadow: shadow.get())

    async def update(self, *, version: int, state: dict[str, Any]) -> int:
        """Merge `state` into the shadow if it has `version`, and return the new version."""
        return await self._first(lambda shadow: shadow.update(version=version, state=state))

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` when another client has changed the shadow.

        While no shadow has responded yet, there are no calls.
        """
        self._on_change = on_change
        if len(self._shadows) == 1:
            await self._shadows[0].watch(on_change)

    async def _first(self, request: Callable[[Shadow], Awaitable[T]]) -> T:
        failures = []
        for shadow in self._shadows:
            try:
                result = await request(shadow)
            except DownloaderError as error:
                if error.code is not ErrorCode.SHADOW_UNAVAILABLE or isinstance(
                    error, ShadowConflict
                ):
                    await self._select(shadow)
                    raise
                failures.append(error.message)
            else:
                await self._select(shadow)
                return result
        raise unavailable("; ".join(failures))

    async def _select(self, shadow: Shadow) -> None:
        if len(self._shadows) == 1:
            return
        if self._on_change:
            await shadow.watch(self._on_change)
            self._on_change()  # the shadow may have changed before the watch began
        self._shadows = (shadow,)
