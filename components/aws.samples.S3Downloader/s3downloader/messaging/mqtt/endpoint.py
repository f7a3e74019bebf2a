"""Parses the URL of an MQTT broker, and makes the TLS context for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from awscrt.io import ClientTlsContext, TlsContextOptions

from ...core.errors import DownloaderError, ErrorCode

__all__ = ["Endpoint", "parse_url", "tls_context"]

_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}
_ALPN_PORT = 443
_ALPN_IOT_CORE = "x-amzn-mqtt-ca"
"""ALPN name by which AWS IoT Core recognizes MQTT with a client certificate on port 443.

https://docs.aws.amazon.com/iot/latest/developerguide/protocols.html
"""


@dataclass(frozen=True)
class Endpoint:
    """The parts of `mqtt[s]://[user[:password]@]host[:port]`. Printed without the credentials."""

    scheme: str
    host: str
    port: int
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def encrypted(self) -> bool:
        """Whether the connection uses TLS."""
        return self.scheme == "mqtts"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_url(url: str) -> Endpoint:
    """Return the parts of a broker's URL.

    Raises INVALID_FIELD, which says what is wrong, and never quotes a password.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _invalid_url("its host or port is malformed") from None
    _check(parts)
    return Endpoint(
        scheme=parts.scheme,
        host=host or "",
        port=port or _DEFAULT_PORTS[parts.scheme],
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def _check(parts: SplitResult) -> None:
    if parts.scheme not in _DEFAULT_PORTS:
        raise _invalid_url(f"its scheme is {parts.scheme or 'missing'}")
    if not parts.hostname:
        raise _invalid_url("it names no host")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise _invalid_url("it continues after host and port")


def tls_context(
    endpoint: Endpoint, *, ca: Path | None, cert: Path | None, key: Path | None
) -> ClientTlsContext | None:
    """Return the TLS context for the connection. None for `mqtt://`, which is not encrypted.

    `ca`, `cert` and `key` are PEM files. Without `ca` the system's certificate authorities are
    trusted. Raises INVALID_FIELD, which names a file that cannot be used.
    """
    if not endpoint.encrypted:
        if ca or cert or key:
            raise _invalid_url("certificates are given, but mqtt:// is not encrypted")
        return None
    if bool(cert) != bool(key):
        raise DownloaderError(
            ErrorCode.INVALID_FIELD,
            "client certificate and private key need each other: give both, or neither",
        )
    options = TlsContextOptions()
    if ca:
        options.override_default_trust_store(_read(ca))
        _context(options, f"{ca} does not contain a CA certificate in PEM format")
    if not (cert and key):
        return _context(options, "the system's CA certificates cannot be used: give a file")
    options.certificate_buffer, options.private_key_buffer = _read(cert), _read(key)
    if endpoint.port == _ALPN_PORT:
        options.alpn_list = [_ALPN_IOT_CORE]
    return _context(options, f"{cert} and {key} are not a certificate and its key in PEM format")


def _context(options: TlsContextOptions, message: str) -> ClientTlsContext:
    try:
        return ClientTlsContext(options)
    except RuntimeError as error:  # awscrt raises it for errors of its C library
        raise DownloaderError(ErrorCode.INVALID_FIELD, message, cause=str(error)) from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}"
        raise DownloaderError(ErrorCode.INVALID_FIELD, message) from error


def _invalid_url(reason: str) -> DownloaderError:
    return DownloaderError(
        ErrorCode.INVALID_FIELD,
        f"the MQTT URL cannot be used: {reason}; write mqtt://host:1883 or mqtts://host:8883",
    )
