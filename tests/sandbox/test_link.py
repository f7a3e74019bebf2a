"""A link has the rate, the delay and the faults that are set."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator

import pytest

from s3downloader.core.aio import timeout
from sandbox.link import Link
from tests.support import PATIENCE, eventually

LETTERS = b"abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
async def echo() -> AsyncIterator[Link]:
    """A link to a server that sends everything back, and closes when its client does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, Link(server.sockets[0].getsockname()[1]) as link:
        yield link


@contextlib.asynccontextmanager
async def connect(link: Link) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(link: Link, data: bytes) -> bytes:
    """Send `data` over a new connection, close it, and return everything that comes back."""
    async with connect(link) as (reader, writer):
        writer.write(data)
        writer.write_eof()
        return await reader.read()


async def seconds(link: Link, *payloads: bytes) -> float:
    """Return the seconds that it takes to exchange all payloads concurrently."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await asyncio.gather(*(exchange(link, each) for each in payloads)) == list(payloads)
    return loop.time() - began


async def test_it_passes_every_byte_and_counts_it(echo: Link) -> None:
    data = random.randbytes(3_000_000)
    assert await exchange(echo, data) == data
    assert (echo.bytes_up, echo.bytes_down) == (3_000_000, 3_000_000)


async def test_it_tells_when_bytes_have_come_down(echo: Link) -> None:
    waiting = asyncio.create_task(echo.carried(2 * len(LETTERS)))
    await exchange(echo, LETTERS)
    assert not waiting.done()
    await exchange(echo, LETTERS)
    async with timeout(PATIENCE):
        await waiting


async def test_it_counts_what_a_client_has_not_read(echo: Link) -> None:
    with socket.create_connection(("127.0.0.1", echo.port)) as client:
        client.sendall(LETTERS)
        await eventually(lambda: echo.bytes_unread == len(LETTERS))
        client.recv(10)
        assert echo.bytes_unread == len(LETTERS) - 10


async def test_it_counts_connections(echo: Link) -> None:
    async with connect(echo), connect(echo):
        await eventually(lambda: echo.connections == 2)
    await eventually(lambda: echo.connections == 0)
    assert echo.connections_total == 2


async def test_all_connections_share_the_rate(echo: Link) -> None:
    echo.rate = 1_000_000
    took = await seconds(echo, bytes(150_000), bytes(250_000))
    assert took > 0.38, "0.4 s together, 0.25 s side by side"


async def test_the_rate_can_change_in_mid_transfer(echo: Link) -> None:
    echo.rate = 1000
    transfer = asyncio.create_task(exchange(echo, bytes(1_000_000)))
    await eventually(lambda: echo.bytes_down > 0)
    assert echo.bytes_down < 1000
    echo.rate = None
    async with timeout(PATIENCE):
        assert len(await transfer) == 1_000_000


async def test_the_delay_counts_in_both_directions(echo: Link) -> None:
    echo.delay = 0.05
    assert await seconds(echo, b"there and back") >= 0.1


async def test_the_delay_leaves_the_rate_alone(echo: Link) -> None:
    echo.delay = 0.05
    took = min([await seconds(echo, bytes(4_000_000)) for _ in range(3)])
    assert took < 2.0, "0.8 s with several chunks under way, 3.2 s one by one"


async def test_a_cut_resets_and_refuses_until_it_is_restored(echo: Link) -> None:
    async with connect(echo) as (reader, writer):
        writer.write(LETTERS)
        await reader.readexactly(len(LETTERS))
        echo.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read()
    with pytest.raises(ConnectionRefusedError):
        await exchange(echo, LETTERS)
    echo.restore()
    assert await exchange(echo, LETTERS) == LETTERS


async def test_a_frozen_link_keeps_its_connections_and_their_bytes(echo: Link) -> None:
    echo.freeze()
    transfer = asyncio.create_task(exchange(echo, LETTERS))
    await eventually(lambda: echo.connections == 1)
    assert not (await asyncio.wait([transfer], timeout=0.1))[0]
    assert echo.bytes_up == 0
    echo.thaw()
    assert await transfer == LETTERS


async def test_it_freezes_at_a_byte(echo: Link) -> None:
    size = 1_000_000
    echo.freeze_after(size + 7)
    transfers = asyncio.gather(*(exchange(echo, bytes(size)) for _ in range(3)))
    for more in (size + 7, 1, 5):
        await eventually(lambda: echo.is_frozen)
        echo.thaw()
        echo.freeze_after(more)
    await eventually(lambda: echo.is_frozen)
    assert echo.bytes_down == 2 * (size + 7) + 1 + 5
    echo.thaw()
    assert await transfers == [bytes(size)] * 3


async def test_a_thaw_lets_no_freeze_follow(echo: Link) -> None:
    echo.freeze_after(3)
    echo.freeze_after(3, up=True)
    echo.thaw()
    assert await exchange(echo, LETTERS) == LETTERS


async def test_it_freezes_at_a_byte_on_its_way_up(echo: Link) -> None:
    echo.freeze_after(3, up=True)
    transfer = asyncio.create_task(exchange(echo, LETTERS))
    await eventually(lambda: echo.is_frozen)
    assert echo.bytes_up == 3
    echo.thaw()
    assert await transfer == LETTERS


async def test_it_flips_one_bit_once(echo: Link) -> None:
    assert await exchange(echo, LETTERS) == LETTERS
    echo.corrupt_after(3)
    assert await exchange(echo, LETTERS) == LETTERS.replace(b"d", b"e", 1)
    assert await exchange(echo, LETTERS) == LETTERS


async def test_random_resets_hit_open_connections(echo: Link) -> None:
    async with connect(echo) as (reader, _):
        echo.reset_every(0.01, random.Random(1))
        with pytest.raises(ConnectionResetError):
            await reader.read()
    async with timeout(PATIENCE):
        await eventually(lambda: echo.connections == 0)


async def test_a_server_that_is_away_looks_like_a_reset() -> None:
    async with Link(target_port=1) as link:
        with pytest.raises(ConnectionResetError):
            await exchange(link, LETTERS)
