"""Encodes and decodes AWS event-stream messages, the framing of Greengrass IPC.

A message is a prelude (total length, length of the headers, CRC32 of both), headers, a payload,
and the CRC32 of everything before it. Integers are big-endian. Sources: "Event Stream Encoding" in
the Smithy specification; for message types and flags, `awscrt.eventstream.rpc`.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import IntEnum, IntFlag
from uuid import UUID
from zlib import crc32

__all__ = ["HeaderValue", "Message", "MessageFlag", "MessageType", "WireError", "read_message"]

HeaderValue = bool | int | bytes | str | datetime | UUID

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_MAX_MESSAGE = 24 * 1024 * 1024  # bytes; the limit of the specification
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_INTEGERS = {2: struct.Struct(">b"), 3: struct.Struct(">h"), 4: struct.Struct(">i")}
_LONG = struct.Struct(">q")
_LENGTH = struct.Struct(">H")


class WireError(Exception):
    """The bytes are not a valid event-stream message."""


class MessageType(IntEnum):
    """Values of the header `:message-type`."""

    APPLICATION_MESSAGE = 0
    APPLICATION_ERROR = 1
    PING = 2
    PING_RESPONSE = 3
    CONNECT = 4
    CONNECT_ACK = 5
    PROTOCOL_ERROR = 6
    INTERNAL_ERROR = 7


class MessageFlag(IntFlag):
    """Bits of the header `:message-flags`."""

    NONE = 0
    CONNECTION_ACCEPTED = 1
    TERMINATE_STREAM = 2


@dataclass(frozen=True)
class Message:
    """A message: its headers by name, and its payload.

    Integers of one to eight bytes are decoded to int. An int is encoded with 32 bits, as in the
    protocol's own headers.
    """

    headers: dict[str, HeaderValue] = field(default_factory=dict)
    payload: bytes = b""

    def encode(self) -> bytes:
        """Return the encoded message."""
        headers = b"".join(_encode_header(name, value) for name, value in self.headers.items())
        lengths = struct.pack(">II", len(headers) + len(self.payload) + 16, len(headers))
        body = lengths + _CRC.pack(crc32(lengths)) + headers + self.payload
        return body + _CRC.pack(crc32(body))

    @classmethod
    def decode(cls, data: bytes) -> Message:
        """Decode one complete message. Raises WireError for a wrong length, checksum or header."""
        total, headers_length = _decode_prelude(data[: _PRELUDE.size])
        if total != len(data):
            raise WireError(f"a message of {total} bytes has {len(data)} bytes")
        (checksum,) = _CRC.unpack(data[-_CRC.size :])
        if crc32(data[: -_CRC.size]) != checksum:
            raise WireError("the checksum of the message is wrong")
        payload_start = _PRELUDE.size + headers_length
        headers = _decode_headers(data[_PRELUDE.size : payload_start])
        return cls(headers, data[payload_start : -_CRC.size])


async def read_message(
    reader: asyncio.StreamReader, max_bytes: int | None = None
) -> Message | None:
    """Read the next message; return None if the stream ends between two messages.

    Also returns None if more than `max_bytes` follow the prelude; these are not read. Raises
    WireError for an incomplete or invalid message.
    """
    try:
        prelude = await reader.readexactly(_PRELUDE.size)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise WireError("the stream ends inside a prelude") from None
        return None
    total, _ = _decode_prelude(prelude)
    if max_bytes is not None and total - _PRELUDE.size > max_bytes:
        return None
    try:
        rest = await reader.readexactly(total - _PRELUDE.size)
    except asyncio.IncompleteReadError:
        raise WireError("the stream ends inside a message") from None
    return Message.decode(prelude + rest)


def _decode_prelude(data: bytes) -> tuple[int, int]:
    if len(data) < _PRELUDE.size:
        raise WireError("the prelude is incomplete")
    total, headers_length, checksum = _PRELUDE.unpack(data)
    if crc32(data[:8]) != checksum:
        raise WireError("the checksum of the prelude is wrong")
    if total > _MAX_MESSAGE or headers_length + 16 > total:
        raise WireError(f"the lengths {total} and {headers_length} are impossible")
    return total, headers_length


def _encode_header(name: str, value: HeaderValue) -> bytes:
    encoded = name.encode()
    return bytes([len(encoded)]) + encoded + _encode_value(value)


def _encode_value(value: HeaderValue) -> bytes:
    if isinstance(value, bool):
        return b"\x00" if value else b"\x01"
    if isinstance(value, int):
        return b"\x04" + _INTEGERS[4].pack(value)
    if isinstance(value, bytes):
        return b"\x06" + _LENGTH.pack(len(value)) + value
    if isinstance(value, str):
        encoded = value.encode()
        return b"\x07" + _LENGTH.pack(len(encoded)) + encoded
    if isinstance(value, datetime):
        return b"\x08" + _LONG.pack((value - _EPOCH) // timedelta(milliseconds=1))
    return b"\x09" + value.bytes


def _decode_headers(data: bytes) -> dict[str, HeaderValue]:
    headers: dict[str, HeaderValue] = {}
    cursor = _Cursor(data)
    try:
        while cursor.left:
            name = cursor.take(cursor.take(1)[0]).decode()
            if name in headers:
                raise WireError(f"there are two headers {name!r}")
            headers[name] = _decode_value(cursor)
    except UnicodeDecodeError:
        raise WireError("a header is not UTF-8") from None
    return headers


def _decode_value(cursor: _Cursor) -> HeaderValue:
    kind = cursor.take(1)[0]
    if kind in (0, 1):
        return kind == 0
    if kind in _INTEGERS:
        return int(cursor.unpack(_INTEGERS[kind]))
    if kind == 5:
        return cursor.unpack(_LONG)
    if kind == 6:
        return cursor.take(cursor.unpack(_LENGTH))
    if kind == 7:
        return cursor.take(cursor.unpack(_LENGTH)).decode()
    if kind == 8:
        return _EPOCH + timedelta(milliseconds=cursor.unpack(_LONG))
    if kind == 9:
        return UUID(bytes=cursor.take(16))
    raise WireError(f"the header type {kind} is unknown")


class _Cursor:
    """Reads the bytes of the headers in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise WireError("a header is longer than the rest of the headers")
        self._at += count
        return self._data[self._at - count : self._at]

    def unpack(self, layout: struct.Struct) -> int:
        return int(layout.unpack(self.take(layout.size))[0])
