"""Token exchange services for tests, and the error when they give no keys."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.sources.s3.credentials import Credentials
from sandbox.nucleus.credentials import CredentialsEndpoint

__all__ = ["KEYS", "Answering", "answer", "environment", "refusal"]

KEYS = {"AWS_ACCESS_KEY_ID": "first", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "t"}


def environment(exchange: CredentialsEndpoint) -> dict[str, str]:
    """Return the environment variables with the service's address and the component's token."""
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": exchange.uri,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "svcuid",
    }


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} -", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Answering:
    """A server at the address of the token exchange service; an async context manager.

    It sends one of `responses` to each request, and the last one to all later ones, and closes the
    connection. For None it sends nothing.
    """

    def __init__(self, responses: bytes | None) -> None:
        self.responses = [responses]
        self.requests: list[bytes] = []

    async def __aenter__(self) -> Answering:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/2016-11-01/credentialprovider/"
        self.environment = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": self.url,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "svcuid",
        }
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        given = self.responses[0] if len(self.responses) == 1 else self.responses.pop(0)
        if given is None:
            await reader.read()  # until the other side gives up
        with contextlib.suppress(ConnectionError):
            writer.write(given or b"")
            await writer.drain()
        writer.close()


async def refusal(credentials: Credentials) -> DownloaderError:
    with pytest.raises(DownloaderError) as caught:
        await credentials.get()
    assert caught.value.code is ErrorCode.CREDENTIALS_UNAVAILABLE
    assert ";" in caught.value.message
    return caught.value
