"""Keeps a connection to the MQTT broker, and opens it again when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import aiomqtt

from s3downloader.core.aio import background, stop, timeout

__all__ = ["BrokerConnection"]

_RECONNECT_AFTER = 0.05  # seconds
_CONNECT_WITHIN = 10.0  # seconds


class BrokerConnection:
    """An MQTT 5 connection to the broker on 127.0.0.1:`port`; an async context manager.

    `on_connect` is called with the client of each new connection, to subscribe. `on_message` is
    called with each message. `client` is None while there is no connection. Entering the context
    raises ConnectionError if no broker answers within 10 seconds.
    """

    def __init__(
        self,
        port: int,
        *,
        on_connect: Callable[[aiomqtt.Client], Awaitable[None]],
        on_message: Callable[[aiomqtt.Message], None],
    ) -> None:
        self.client: aiomqtt.Client | None = None
        self._port = port
        self._on_connect = on_connect
        self._on_message = on_message
        self._online = asyncio.Event()
        self._offline = asyncio.Event()

    async def __aenter__(self) -> BrokerConnection:
        self._task = background(self._stay_connected())
        try:
            async with timeout(_CONNECT_WITHIN):
                await self.wait_online()
        except TimeoutError:
            await self.__aexit__()
            raise ConnectionError(
                f"no MQTT broker answers on 127.0.0.1:{self._port}; start one"
            ) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop(self._task)

    async def wait_online(self) -> None:
        """Wait until the broker is connected and `on_connect` has returned."""
        await self._online.wait()

    async def wait_offline(self) -> None:
        """Wait until the loss of the connection has been noticed."""
        await self._offline.wait()

    async def _stay_connected(self) -> None:
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                async with aiomqtt.Client(
                    "127.0.0.1",
                    self._port,
                    protocol=aiomqtt.ProtocolVersion.V5,
                    socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
                ) as client:
                    await self._serve(client)
            await asyncio.sleep(_RECONNECT_AFTER)

    async def _serve(self, client: aiomqtt.Client) -> None:
        self.client = client
        try:
            await self._on_connect(client)
            self._offline.clear()
            self._online.set()
            async for message in client.messages:
                self._on_message(message)
        finally:
            self.client = None
            self._online.clear()
            self._offline.set()
