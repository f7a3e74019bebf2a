"""Event-stream messages match two other implementations."""

from __future__ import annotations

import asyncio
import struct
from datetime import datetime, timezone
from uuid import UUID
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer

from sandbox.nucleus.wire import HeaderValue, Message, MessageType, WireError, read_message

EVERY_TYPE: dict[str, HeaderValue] = {
    "true": True,
    "false": False,
    "integer": -7,
    "bytes": b"\x00\xff",
    "string": "ü/#",
    "time": datetime(2026, 11, 20, 12, 30, 0, 250_000, tzinfo=timezone.utc),
    "uuid": UUID("12345678-1234-5678-1234-567812345678"),
}


def reader_of(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


def framed(headers: bytes, payload: bytes = b"") -> bytes:
    """Return a message with any headers and valid checksums."""
    lengths = struct.pack(">II", len(headers) + len(payload) + 16, len(headers))
    body = lengths + struct.pack(">I", crc32(lengths)) + headers + payload
    return body + struct.pack(">I", crc32(body))


def test_every_header_type_survives() -> None:
    message = Message(EVERY_TYPE, b'{"a": 1}')
    assert Message.decode(message.encode()) == message


def test_another_decoder_reads_what_is_encoded() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(Message({":message-type": MessageType.CONNECT, "s": "x"}, b"payload").encode())
    (event,) = buffer
    assert event.to_response_dict() == {
        "status_code": 200,
        "headers": {":message-type": 4, "s": "x"},
        "body": b"payload",
    }


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        (b"\x02\xff", -1),
        (b"\x03\x01\x00", 256),
        (b"\x04\x00\x01\x00\x00", 65536),
        (b"\x05\x00\x00\x00\x01\x00\x00\x00\x00", 2**32),
    ],
    ids=["byte", "short", "integer", "long"],
)
def test_integers_of_every_width_are_read(encoded: bytes, value: int) -> None:
    assert Message.decode(framed(b"\x01n" + encoded)).headers == {"n": value}


@pytest.mark.parametrize("position", [0, 5, 9, 14, 20, -5, -1])
def test_a_flipped_bit_is_noticed(position: int) -> None:
    data = bytearray(Message({"name": "value"}, b"payload").encode())
    data[position] ^= 0x10
    with pytest.raises(WireError):
        Message.decode(bytes(data))


@pytest.mark.parametrize(
    ("headers", "complaint"),
    [
        (b"\x01n\x0a", "header type 10"),
        (b"\x01n\x07\x00\x05ab", "longer than the rest"),
        (b"\x01n\x00\x01n\x01", "there are two headers"),
        (b"\x01\xff\x00", "not UTF-8"),
    ],
)
def test_headers_that_make_no_sense_are_refused(headers: bytes, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        Message.decode(framed(headers))


async def test_messages_are_read_one_after_another_as_they_arrive() -> None:
    first, second = Message({"n": 1}, b"one"), Message({"n": 2}, b"two" * 50_000)
    reader = asyncio.StreamReader()
    reading = asyncio.create_task(read_message(reader))
    for byte in first.encode():
        assert not reading.done()
        reader.feed_data(bytes([byte]))
        await asyncio.sleep(0)
    assert await reading == first
    reader.feed_data(second.encode())
    reader.feed_eof()
    assert await read_message(reader) == second
    assert await read_message(reader) is None


async def test_a_stream_that_ends_inside_a_message_is_refused() -> None:
    data = Message({"n": 1}, b"one").encode()
    for length in (5, len(data) - 1):
        with pytest.raises(WireError, match="ends inside"):
            await read_message(reader_of(data[:length]))


async def test_absurd_lengths_are_refused_before_anything_is_read() -> None:
    lengths = struct.pack(">II", 2**31, 0)
    with pytest.raises(WireError, match="are impossible"):
        await read_message(reader_of(lengths + struct.pack(">I", crc32(lengths))))
