"""A shadow behind AWS's reserved MQTT topics, over any bus.

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
"""In flight at once; the service takes 10 for one thing."""

ATTEMPTS = 5
SHORTEST_PAUSE, LONGEST_PAUSE = 0.25, 8
"""Of a request that the service is too busy for, and the seconds between them, which grow."""

_BUSY = {429, 500}
"""Too many requests in flight, and a fault of the service that may pass."""


class TopicShadow:
    """The named shadow of a thing. Implements Shadow.

    Whoever changes it, `update/accepted` or `delete/accepted` tells; the larger messages on
    `update/documents` and `update/delta`, which nucleus lite might drop, would tell no more.

    A broker without a shadow service is known by its silence for `response_timeout` seconds.
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
        """Read the whole shadow."""
        response = await self._ask("get", lambda token: msgspec.json.encode({"clientToken": token}))
        if response.code == NOT_FOUND:
            return ShadowDocument(version=0)
        return self._accepted(response).document

    async def update(self, *, version: int, state: dict[str, Any]) -> int:
        """Merge `state` if the shadow has `version`; return the new version.

        PAYLOAD_TOO_LARGE if the bus cannot carry it: send no more than what changes.
        """
        response = await self._ask(
            "update", lambda token: encode_update(state, version=version, token=token)
        )
        return self._accepted(response).version

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` when someone else has changed the shadow."""
        self._on_change = on_change
        await self._subscribe()

    async def _ask(self, operation: str, request: Callable[[str], bytes]) -> ShadowResponse:
        """Send a request, again while the service is too busy, and return the answer."""
        await self._subscribe()
        async with self._slots:
            for attempt, pause in enumerate(backoff(SHORTEST_PAUSE, LONGEST_PAUSE), start=1):
                response = await self._exchange(operation, request)
                if response.code not in _BUSY or attempt == ATTEMPTS:
                    break
                await asyncio.sleep(pause)
        return response

    async def _exchange(self, operation: str, request: Callable[[str], bytes]) -> ShadowResponse:
        topic, token = f"{self._prefix}/{operation}", self._tokens.new()
        response: asyncio.Future[ShadowResponse] = asyncio.get_running_loop().create_future()
        self._waiting[token] = response
        try:
            async with timeout(self._response_timeout):
                await self._bus.publish(topic, request(token), qos=1)
                return await response
        except TimeoutError as error:
            message = f"no shadow service answered on {topic} in {self._response_timeout:g} s"
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
