"""Reads and updates a shadow through AWS's reserved MQTT topics, over any bus.

https://docs.aws.amazon.com/iot/latest/developerguide/device-shadow-mqtt.html
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from ..core.aio import timeout
from ..core.backoff import backoff
from ..core.errors import DownloaderError, ErrorCode
from .bus import Bus, Message, ShadowDocument
from .shadow_messages import (
    NOT_FOUND,
    ClientTokens,
    ShadowResponse,
    decode_response,
    encode_update,
    refusal,
    unavailable,
)

__all__ = ["TopicShadow"]

log = logging.getLogger(__name__)

MAX_REQUESTS = 4
"""Requests in flight at once. The service allows 10 for one thing (AWS IoT Core quotas)."""

ATTEMPTS = 5
"""How often a request is sent while the service is too busy."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.25, 8
"""Bounds of the growing pause between these attempts, in seconds."""

_BUSY = {429, 500}
"""Codes after which a request is repeated: too many requests in flight; an internal error."""


class TopicShadow:
    """The named shadow of a thing. Implements Shadow.

    Each change is announced on `update/accepted` or `delete/accepted`, whoever makes it. The
    messages on `update/documents` and `update/delta` are not needed. They are larger, and nucleus
    lite might drop them.

    If no response comes for `response_timeout` seconds, the broker has no shadow service.
    """

    def __init__(
        self, bus: Bus, thing_name: str, name: str = "models", *, response_timeout: float = 10
    ) -> None:
        self._bus = bus
        self._prefix = f"$aws/things/{thing_name}/shadow/name/{name}"
        self._response_timeout = response_timeout
        self._tokens = ClientTokens()
        self._waiting: dict[str, asyncio.Future[ShadowResponse]] = {}
        self._slots = asyncio.Semaphore(MAX_REQUESTS)
        self._subscribing = asyncio.Lock()
        self._unsubscribed = [
            f"{self._prefix}/get/accepted",
            f"{self._prefix}/get/rejected",
            f"{self._prefix}/update/accepted",
            f"{self._prefix}/update/rejected",
            f"{self._prefix}/delete/accepted",
        ]
        self._on_change: Callable[[], None] = lambda: None

    async def get(self) -> ShadowDocument:
        """Return the shadow. If it does not exist, the version is 0."""
        response = await self._request(
            "get", lambda token: msgspec.json.encode({"clientToken": token})
        )
        if response.code == NOT_FOUND:
            return ShadowDocument(version=0)
        return self._accepted(response).document

    async def update(self, *, version: int, state: dict[str, Any]) -> int:
        """Merge `state` into the shadow if it has `version`, and return the new version.

        Raises PAYLOAD_TOO_LARGE if the bus cannot carry the update: send fewer changes at once.
        """
        response = await self._request(
            "update", lambda token: encode_update(state, version=version, token=token)
        )
        return self._accepted(response).version

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` when another client has changed the shadow."""
        self._on_change = on_change
        await self._subscribe()

    async def _request(self, operation: str, encode: Callable[[str], bytes]) -> ShadowResponse:
        """Return the response to a request. Repeat the request while the service is too busy.

        `encode` makes the payload for a client token.
        """
        await self._subscribe()
        async with self._slots:
            for attempt, pause in enumerate(backoff(SHORTEST_PAUSE, LONGEST_PAUSE), start=1):
                response = await self._request_once(operation, encode)
                if response.code not in _BUSY or attempt == ATTEMPTS:
                    break
                await asyncio.sleep(pause)
        return response

    async def _request_once(self, operation: str, encode: Callable[[str], bytes]) -> ShadowResponse:
        topic, token = f"{self._prefix}/{operation}", self._tokens.new()
        response: asyncio.Future[ShadowResponse] = asyncio.get_running_loop().create_future()
        self._waiting[token] = response
        try:
            async with timeout(self._response_timeout):
                await self._bus.publish(topic, encode(token), qos=1)
                return await response
        except TimeoutError as error:
            message = f"no shadow service responded on {topic} in {self._response_timeout:g} s"
            raise unavailable(message) from error
        except DownloaderError as error:
            raise _converted(error) from error
        finally:
            del self._waiting[token]

    def _accepted(self, response: ShadowResponse) -> ShadowResponse:
        if response.code:
            raise refusal(self._prefix, response.code, response.message)
        return response

    async def _subscribe(self) -> None:
        async with self._subscribing:
            while self._unsubscribed:
                try:
                    await self._bus.subscribe(self._unsubscribed[0], self._on_message)
                except DownloaderError as error:
                    raise _converted(error) from error
                del self._unsubscribed[0]

    def _on_message(self, message: Message) -> None:
        try:
            response = decode_response(message.payload)
        except DownloaderError as error:
            log.warning("%s on %s", error.message, message.topic)
            return
        waiting = self._waiting.get(response.client_token)
        if waiting and not waiting.done():
            waiting.set_result(response)
        changed = message.topic.endswith(("/update/accepted", "/delete/accepted"))
        if changed and not self._tokens.is_own(response.client_token):
            self._on_change()


def _converted(error: DownloaderError) -> DownloaderError:
    if error.code == ErrorCode.PAYLOAD_TOO_LARGE:
        return error
    return unavailable(error.message)
