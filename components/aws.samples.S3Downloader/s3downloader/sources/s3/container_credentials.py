"""Keys from a container credential provider, which Greengrass's token exchange service is.

Sources: "Container credential provider" in the AWS SDKs and Tools reference guide; for what is
answered instead of keys CredentialRequestHandler of the Java nucleus, tes-serverd of nucleus lite.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Mapping
from datetime import datetime, timezone
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import msgspec

from ...core.decoding import DECODE_ERRORS
from ...core.errors import DownloaderError, ErrorCode

__all__ = ["Keys", "NotListeningError", "ask", "configured_url", "unavailable"]

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 35.0  # the Java nucleus asks AWS for up to 30
_RESPONSE_BYTES = 1 << 16
_CAUSE_CHARACTERS = 300
_HOST = "169.254.170.2"  # of RELATIVE_URI, on Amazon ECS
_HOSTS = {_HOST, "169.254.170.23", "[fd00:ec2::23]", "localhost"}
_OF_AWS = "TES responded"  # so begins what the Java nucleus hands on of a refusal by AWS


class Keys(msgspec.Struct, frozen=True):
    """What signs a request. `expires_at` is None where nothing says that they end."""

    access_key_id: str
    secret_access_key: str = ""
    token: str | None = None
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Keys({self.access_key_id!r}, ..., expires_at={self.expires_at})"


class NotListeningError(DownloaderError):
    """Nobody listens at the provider's address."""


def configured_url(environment: Mapping[str, str]) -> str:
    """Return the provider's address that the variables of AWS name, empty where they name none."""
    if relative := environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        return f"http://{_HOST}{relative}"
    return environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") or ""


def ask(url: str, environment: Mapping[str, str]) -> Keys:
    """Return the keys that the provider at `url` gives; blocks.

    The token for it is in AWS_CONTAINER_AUTHORIZATION_TOKEN, or in the file that _TOKEN_FILE
    names, which is read each time. No redirect is followed: the token is for that address alone.
    Raises CREDENTIALS_UNAVAILABLE, as NobodyThereError where nobody listens.
    """
    where = _checked(url)
    headers = _headers(environment)
    connect = HTTPSConnection if where.scheme == "https" else HTTPConnection
    try:
        with contextlib.closing(connect(where.netloc, timeout=_CONNECT_SECONDS)) as connection:
            connection.connect()
            connection.sock.settimeout(_ANSWER_SECONDS)
            path = where.path + (f"?{where.query}" if where.query else "")
            connection.request("GET", path or "/", headers=headers)
            response = connection.getresponse()
            body = response.read(_RESPONSE_BYTES + 1)
    except ConnectionRefusedError as error:
        raise NotListeningError(
            ErrorCode.CREDENTIALS_UNAVAILABLE,
            f"the token exchange service is not there, at {_origin(where)}; see that it runs",
            cause=str(error),
        ) from error
    except TimeoutError as error:
        raise unavailable(
            "the token exchange service has not answered in time, as when AWS does not answer it;"
            " check the device's connection",
            error,
        ) from error
    except (OSError, HTTPException, ValueError) as error:
        raise unavailable(
            "the token exchange service did not answer; see that it runs", error
        ) from error
    if len(body) > _RESPONSE_BYTES:
        raise _not_the_service(where, f"more than {_RESPONSE_BYTES} bytes")
    if response.length:
        raise unavailable(
            "the token exchange service broke off its answer; see that it runs",
            f"{response.length} bytes are missing",
        )
    if response.status != 200:
        raise _refusal(response.status, body, where)
    return _keys_in(body, where)


def unavailable(message: str, cause: object) -> DownloaderError:
    """Return the error for keys that cannot be had."""
    return DownloaderError(ErrorCode.CREDENTIALS_UNAVAILABLE, message, cause=str(cause))


def _headers(environment: Mapping[str, str]) -> dict[str, str]:
    token = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    if file := environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        try:
            token = Path(file).read_text().strip()
        except (OSError, ValueError) as error:
            raise unavailable(
                "the file that AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names cannot be read; let"
                " the component's user read it",
                f"{file}: {type(error).__name__}",
            ) from error
    if not token.isprintable() or not token.isascii():
        raise unavailable(
            "AWS_CONTAINER_AUTHORIZATION_TOKEN must be one line of ASCII; set it as the provider"
            " gave it",
            "the token has other characters",
        )
    return {"Accept": "application/json", **({"Authorization": token} if token else {})}


def _refusal(status: int, body: bytes, where: SplitResult) -> DownloaderError:
    """Return the error for an answer without keys, by who has refused."""
    cause = body[:_CAUSE_CHARACTERS].decode(errors="replace")
    if any(word in cause.lower() for word in ("secret", "accesskey")):
        cause = "left out: it may hold keys"
    if 400 <= status < 500 and cause.startswith(_OF_AWS):
        message = (
            f"AWS gives this device no credentials, status {status}; check its role alias and its"
            " certificate's policy; the nucleus keeps a refusal for two minutes"
        )
    elif 400 <= status < 500:
        message = (
            f"the token exchange service refuses the component, status {status}; start the"
            " component again, which gives it a new token"
        )
    elif status >= 500:
        message = (
            f"the token exchange service has no credentials now, status {status}; check the"
            " device's connection, and its role alias"
        )
    else:
        return _not_the_service(where, f"status {status}")
    return unavailable(message, cause)


def _keys_in(body: bytes, where: SplitResult) -> Keys:
    try:
        document = msgspec.json.decode(body, type=_KeysDocument | None)
    except DECODE_ERRORS as error:
        raise _not_the_service(where, error) from None  # not the answer: it may hold secrets
    if document is None or not document.access_key_id or not document.secret_access_key:
        raise unavailable(  # what nucleus lite answers, with status 200, where AWS gave it none
            "the token exchange service has no credentials now; check the device's connection, and"
            " its role alias",
            "an answer without keys",
        )
    return document.keys


def _not_the_service(where: SplitResult, cause: object) -> DownloaderError:
    return unavailable(
        f"what answers at {_origin(where)} is not the token exchange service; see that it runs, and"
        " that AWS_CONTAINER_CREDENTIALS_FULL_URI is its address",
        cause,
    )


class _KeysDocument(msgspec.Struct, rename="pascal"):
    access_key_id: str
    secret_access_key: str
    token: str = ""
    expiration: datetime | None = None

    @property
    def keys(self) -> Keys:
        expires_at = self.expiration
        if expires_at is not None and expires_at.tzinfo is None:
            expires_at = expires_at.replace(tzinfo=timezone.utc)
        return Keys(self.access_key_id, self.secret_access_key, self.token or None, expires_at)


def _checked(url: str) -> SplitResult:
    """Take the address apart; keys are not fetched in the clear but from this machine."""
    try:
        where = urlsplit(url)
        safe = where.scheme == "https" or (where.scheme == "http" and _is_loopback(where))
        _ = where.port  # raises ValueError for one that cannot be
    except ValueError as error:
        raise unavailable(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI is no address; correct it", error
        ) from error
    if not safe:
        raise unavailable(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or an address of this machine",
            _origin(where),
        )
    return where


def _origin(url: SplitResult) -> str:
    """Return host and port, without the password that may stand before them."""
    return url.netloc.rpartition("@")[2]


def _is_loopback(url: SplitResult) -> bool:
    host = _origin(url)
    if (host if host.endswith("]") else host.partition(":")[0]) in _HOSTS:
        return True
    try:
        return ipaddress.ip_address(url.hostname or "").is_loopback
    except ValueError:
        return False
