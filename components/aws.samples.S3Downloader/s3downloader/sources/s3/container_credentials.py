"""Gets keys from a container credential provider, such as Greengrass's token exchange service.

Sources: "Container credential provider" in the AWS SDKs and Tools reference guide. For responses
without keys: CredentialRequestHandler of the Java nucleus, and tes-serverd of nucleus lite.
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

__all__ = ["Keys", "NotListeningError", "configured_url", "request_keys", "unavailable"]

_CONNECT_SECONDS = 5.0
_RESPONSE_SECONDS = 35.0  # the Java nucleus waits up to 30 seconds for AWS
_RESPONSE_BYTES = 1 << 16
_CAUSE_CHARACTERS = 300
_HOST = "169.254.170.2"  # the host of a RELATIVE_URI, on Amazon ECS
_HOSTS = {_HOST, "169.254.170.23", "[fd00:ec2::23]", "localhost"}
_REFUSED_BY_AWS = "TES responded"  # how the Java nucleus begins a refusal that comes from AWS


class Keys(msgspec.Struct, frozen=True):
    """The keys that sign a request. `expires_at` is None if no time of expiry is known."""

    access_key_id: str
    secret_access_key: str = ""
    token: str | None = None
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Keys({self.access_key_id!r}, ..., expires_at={self.expires_at})"


class NotListeningError(DownloaderError):
    """No process listens at the provider's address. Its code is CREDENTIALS_UNAVAILABLE."""


def configured_url(environment: Mapping[str, str]) -> str:
    """Return the provider's URL according to AWS's environment variables, empty for none."""
    if relative := environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        return f"http://{_HOST}{relative}"
    return environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") or ""


def request_keys(url: str, environment: Mapping[str, str]) -> Keys:
    """Request keys from the provider at `url`, and return them. Blocks.

    The token for the request is taken from AWS_CONTAINER_AUTHORIZATION_TOKEN, or from the file that
    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names, which is read each time. Redirects are not
    followed, because the token must not be sent to another address.

    Raises CREDENTIALS_UNAVAILABLE; as NotListeningError if no process listens there.
    """
    where = _checked(url)
    headers = _headers(environment)
    connect = HTTPSConnection if where.scheme == "https" else HTTPConnection
    try:
        with contextlib.closing(connect(where.netloc, timeout=_CONNECT_SECONDS)) as connection:
            connection.connect()
            connection.sock.settimeout(_RESPONSE_SECONDS)
            path = where.path + (f"?{where.query}" if where.query else "")
            connection.request("GET", path or "/", headers=headers)
            response = connection.getresponse()
            body = response.read(_RESPONSE_BYTES + 1)
    except ConnectionRefusedError as error:
        raise NotListeningError(
            ErrorCode.CREDENTIALS_UNAVAILABLE,
            f"no token exchange service listens at {_origin(where)}; make sure that it runs",
            cause=str(error),
        ) from error
    except TimeoutError as error:
        raise unavailable(
            "the token exchange service did not respond in time, perhaps because AWS did not"
            " respond to it; check the device's connection",
            error,
        ) from error
    except (OSError, HTTPException, ValueError) as error:
        raise unavailable(
            "the token exchange service did not respond; make sure that it runs", error
        ) from error
    if len(body) > _RESPONSE_BYTES:
        raise _not_the_service(where, f"more than {_RESPONSE_BYTES} bytes")
    if response.length:
        raise unavailable(
            "the token exchange service sent an incomplete response; make sure that it runs",
            f"{response.length} bytes are missing",
        )
    if response.status != 200:
        raise _refusal(response.status, body, where)
    return _keys_in(body, where)


def unavailable(message: str, cause: object) -> DownloaderError:
    """Return the error CREDENTIALS_UNAVAILABLE. Its details contain `cause`."""
    return DownloaderError(ErrorCode.CREDENTIALS_UNAVAILABLE, message, cause=str(cause))


def _headers(environment: Mapping[str, str]) -> dict[str, str]:
    token = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    if file := environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        try:
            token = Path(file).read_text().strip()
        except (OSError, ValueError) as error:
            raise unavailable(
                "the file that AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names cannot be read; make it"
                " readable for the component's user",
                f"{file}: {type(error).__name__}",
            ) from error
    if not token.isprintable() or not token.isascii():
        raise unavailable(
            "AWS_CONTAINER_AUTHORIZATION_TOKEN must be one line of ASCII; set it to exactly what"
            " the provider gave",
            "the token contains other characters",
        )
    return {"Accept": "application/json", **({"Authorization": token} if token else {})}


def _refusal(status: int, body: bytes, where: SplitResult) -> DownloaderError:
    """Return the error for a response with an error status, depending on who refused."""
    cause = body[:_CAUSE_CHARACTERS].decode(errors="replace")
    if any(word in cause.lower() for word in ("secret", "accesskey")):
        cause = "left out: it may contain keys"
    if 400 <= status < 500 and cause.startswith(_REFUSED_BY_AWS):
        message = (
            f"AWS gives this device no credentials, status {status}; check the device's role alias"
            " and its certificate's policy; the nucleus remembers a refusal for two minutes"
        )
    elif 400 <= status < 500:
        message = (
            f"the token exchange service refuses the component, status {status}; restart the"
            " component, so that it gets a new token"
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
        # The response is not quoted, because it may contain secrets.
        raise _not_the_service(where, error) from None
    if document is None or not document.access_key_id or not document.secret_access_key:
        # Nucleus lite responds so, with status 200, if AWS gave it no keys.
        raise unavailable(
            "the token exchange service has no credentials now; check the device's connection, and"
            " its role alias",
            "a response without keys",
        )
    return document.keys


def _not_the_service(where: SplitResult, cause: object) -> DownloaderError:
    return unavailable(
        f"what responds at {_origin(where)} is not the token exchange service; make sure that it"
        " runs, and that AWS_CONTAINER_CREDENTIALS_FULL_URI is its address",
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
    """Return the parts of a URL. It must use https, or refer to this machine.

    Raises CREDENTIALS_UNAVAILABLE, so that no keys are transferred unencrypted over a network.
    """
    try:
        where = urlsplit(url)
        safe = where.scheme == "https" or (where.scheme == "http" and _is_loopback(where))
        _ = where.port  # raises ValueError for an invalid port
    except ValueError as error:
        raise unavailable(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI is not a valid URL; correct it", error
        ) from error
    if not safe:
        raise unavailable(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI must use https, or be an address of this machine;"
            " correct it",
            _origin(where),
        )
    return where


def _origin(url: SplitResult) -> str:
    """Return host and port, without a user and password in front of them."""
    return url.netloc.rpartition("@")[2]


def _is_loopback(url: SplitResult) -> bool:
    host = _origin(url)
    if (host if host.endswith("]") else host.partition(":")[0]) in _HOSTS:
        return True
    try:
        return ipaddress.ip_address(url.hostname or "").is_loopback
    except ValueError:
        return False
