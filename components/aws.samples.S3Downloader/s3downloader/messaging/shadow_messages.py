"""Encodes and decodes the JSON messages of the AWS IoT Device Shadow service.

https://docs.aws.amazon.com/iot/latest/developerguide/device-shadow-document.html
"""

from __future__ import annotations

import itertools
import uuid
from typing import Any

import msgspec

from ..core.decoding import DECODE_ERRORS
from ..core.errors import DownloaderError, ErrorCode
from .bus import ShadowConflict, ShadowDocument

__all__ = [
    "CONFLICT",
    "NOT_FOUND",
    "TOO_LARGE",
    "ClientTokens",
    "ShadowResponse",
    "decode_response",
    "encode_update",
    "refusal",
    "unavailable",
]

NOT_FOUND, CONFLICT, TOO_LARGE = 404, 409, 413

_INVALID_VERSION = "Invalid version"
"""The service's message if the request has the version of a shadow that was deleted."""


class ShadowResponse(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The service's response: the new state, or a `code` (an HTTP status) with a `message`."""

    client_token: str = ""
    version: int = 0
    state: dict[str, Any] | None = None
    code: int = 0
    message: str = ""

    @property
    def document(self) -> ShadowDocument:
        """The shadow, from the response to a get."""
        state = self.state or {}
        return ShadowDocument(
            version=self.version,
            desired=state.get("desired") or {},
            reported=state.get("reported") or {},
        )


class ClientTokens:
    """Makes client tokens, and recognizes them. They have at most 64 bytes, as the service allows.

    A token identifies a request as this client's, and its response as the response to it.
    """

    def __init__(self) -> None:
        self._prefix = uuid.uuid4().hex
        self._numbers = itertools.count(1)

    def new(self) -> str:
        """Return a token that was not used before."""
        return f"{self._prefix}-{next(self._numbers)}"

    def is_own(self, token: str) -> bool:
        """Return whether this object made the token."""
        return token.startswith(self._prefix)


def decode_response(payload: bytes) -> ShadowResponse:
    """Return the decoded response. Raises SHADOW_UNAVAILABLE if it cannot be decoded."""
    try:
        return msgspec.json.decode(payload, type=ShadowResponse)
    except DECODE_ERRORS as error:
        raise unavailable(f"the shadow service's response cannot be decoded: {error}") from error


def encode_update(state: dict[str, Any], *, version: int, token: str) -> bytes:
    """Return the JSON of an update. Version 0 creates the shadow: then no version is sent."""
    document: dict[str, Any] = {"state": state, "clientToken": token}
    if version:
        document["version"] = version
    return msgspec.json.encode(document)


def refusal(shadow: str, code: int, message: str) -> DownloaderError:
    """Return the error for a request that the service refused with `code` and `message`.

    https://docs.aws.amazon.com/iot/latest/developerguide/device-shadow-error-messages.html
    """
    text = f"the shadow service refused a request for {shadow}: {code} {message}"
    if code == CONFLICT or message == _INVALID_VERSION:
        return ShadowConflict(text)
    if code == TOO_LARGE:
        return DownloaderError(ErrorCode.REGISTRY_FULL, text)
    return unavailable(text)


def unavailable(message: str) -> DownloaderError:
    """Return a SHADOW_UNAVAILABLE error with `message`."""
    return DownloaderError(ErrorCode.SHADOW_UNAVAILABLE, message)
