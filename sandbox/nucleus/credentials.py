"""The token exchange service: gives credentials to components, over HTTP on 127.0.0.1.

Source: "Token exchange service" in the Greengrass developer guide. The response has the format of
the container credential provider, which all AWS SDKs can read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta, timezone

import msgspec

from .personality import JAVA, Personality

__all__ = ["CredentialsEndpoint"]

_PATH = "/2016-11-01/credentialprovider/"
_REASONS = {200: "OK", 403: "Forbidden", 404: "Not Found", 500: "Internal Server Error"}


class CredentialsEndpoint:
    """Serves `credentials` to clients with the token of a component; an async context manager.

    `credentials` has AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and optionally AWS_SESSION_TOKEN; it
    is empty if the service has no keys. `lifetime` is the time until the keys of a response expire.
    `authorised` decides whether a token is that of a component. `requests` counts the responses
    with keys; those of the last one expire at `expires_at`.

    Each start uses another port. `on_start` is called with the port, and each function in
    `on_crash` when the service crashes.
    """

    def __init__(
        self,
        credentials: Mapping[str, str],
        *,
        authorised: Callable[[str], bool],
        lifetime: timedelta = timedelta(hours=1),
        personality: Personality = JAVA,
        on_start: Callable[[int], None] = lambda port: None,
    ) -> None:
        self.credentials = dict(credentials)
        self.lifetime = lifetime
        self.requests = 0
        self.expires_at = datetime.min.replace(tzinfo=timezone.utc)
        self.port = 0
        self.on_crash: list[Callable[[], Awaitable[None]]] = []
        self._authorised = authorised
        self._personality = personality
        self._on_start = on_start
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> CredentialsEndpoint:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()

    async def start(self) -> None:
        """Listen on another port than before."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        if port == self.port:
            server.close()
            await self.start()
            return
        self._server, self.port = server, port
        self._on_start(port)

    async def crash(self) -> None:
        """Stop without notice, then call the functions in `on_crash`, and wait for them."""
        assert self._server is not None
        self._server.close()
        self._server = None
        await asyncio.gather(*(callback() for callback in self.on_crash))

    @property
    def uri(self) -> str:
        """The address of the service, the value of AWS_CONTAINER_CREDENTIALS_FULL_URI."""
        return f"http://localhost:{self.port}{_PATH}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            status, body = self._answer((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
            writer.write(
                f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def _answer(self, head: str) -> tuple[int, bytes]:
        request, *lines = head.splitlines()
        headers = dict(line.split(": ", 1) for line in lines if ": " in line)
        authorization = {name.lower(): value for name, value in headers.items()}.get(
            "authorization", ""
        )
        if request.split(" ")[:2] != ["GET", _PATH]:
            return 404, b""
        if not self._authorised(authorization):
            return self._personality.unknown_token_status, b""
        if not self.credentials:
            if self._personality.exchange_answers_null_without_keys:
                return 200, b"null"
            return 500, b"Failed to get connection"
        self.requests += 1
        return 200, msgspec.json.encode(self._document())

    def _document(self) -> dict[str, str]:
        self.expires_at = datetime.now(timezone.utc) + self.lifetime
        return {
            "AccessKeyId": self.credentials["AWS_ACCESS_KEY_ID"],
            "SecretAccessKey": self.credentials["AWS_SECRET_ACCESS_KEY"],
            "Token": self.credentials.get("AWS_SESSION_TOKEN", ""),
            "Expiration": self.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
