"""A store that tells the checksums of its objects, as S3 does, and is else as it was."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from awscrt import checksums
from botocore.exceptions import ClientError
from mypy_boto3_s3 import S3Client

from s3downloader.aio import timeout
from sandbox.checksummed import Checksummed
from sandbox.servers import ObjectServer
from sandbox.servers.s3 import connect

BUCKET = "models"


@pytest.fixture
async def store(object_server: ObjectServer) -> AsyncIterator[Checksummed]:
    async with Checksummed(object_server) as store:
        yield store


@pytest.fixture
def client(store: Checksummed) -> S3Client:
    return connect(store.endpoint)


async def head(client: S3Client, key: str, *, ask: bool = True) -> dict[str, object]:
    """What a HEAD tells, with the checksum's fields of S3's SDK."""

    def ask_for() -> dict[str, object]:
        if ask:
            return dict(client.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED"))
        return dict(client.head_object(Bucket=BUCKET, Key=key))

    return await asyncio.to_thread(ask_for)


async def body(client: S3Client, key: str) -> bytes:
    def read() -> bytes:
        return client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    return await asyncio.to_thread(read)


async def test_a_head_that_asks_is_told_the_checksum(
    object_server: ObjectServer, store: Checksummed, client: S3Client
) -> None:
    await object_server.put("with a space/ü+%", b"123456789")
    crc = await store.learn("with a space/ü+%")
    assert crc == 0xAE8B14860A799888  # the check value of CRC-64/NVME
    told = await head(client, "with a space/ü+%")
    assert told["ChecksumCRC64NVME"] == base64.b64encode(crc.to_bytes(8, "big")).decode()
    assert told["ChecksumType"] == "FULL_OBJECT"
    assert told["ContentLength"] == 9


async def test_a_head_that_does_not_ask_is_not_told(
    object_server: ObjectServer, store: Checksummed, client: S3Client
) -> None:
    await object_server.put("declared", b"bytes")
    store.declare("declared", 1)
    assert "ChecksumCRC64NVME" not in await head(client, "declared", ask=False)
    assert "ChecksumCRC64NVME" in await head(client, "declared")


async def test_an_object_that_was_not_declared_has_none(
    object_server: ObjectServer, client: S3Client
) -> None:
    await object_server.put("unknown", b"bytes")
    assert "ChecksumCRC64NVME" not in await head(client, "unknown")


async def test_an_object_that_is_gone_has_none(store: Checksummed, client: S3Client) -> None:
    store.declare("gone", 1)
    with pytest.raises(ClientError) as caught:
        await head(client, "gone")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    assert (
        "x-amz-checksum-crc64nvme" not in caught.value.response["ResponseMetadata"]["HTTPHeaders"]
    )


async def test_bodies_pass_both_ways_untouched(store: Checksummed, client: S3Client) -> None:
    data = b"HEAD / HTTP/1.1\r\nx-amz-checksum-mode: ENABLED\r\n\r\n" * 100_000
    await asyncio.to_thread(client.put_object, Bucket=BUCKET, Key="like a head", Body=data)
    assert await store.learn("like a head") == checksums.crc64nvme(data)
    for _ in range(2):  # heads and bodies in turn, on one connection
        assert "ChecksumCRC64NVME" in await head(client, "like a head")
        assert await body(client, "like a head") == data


async def test_large_bodies_pass_side_by_side(
    object_server: ObjectServer, client: S3Client
) -> None:
    digest = await object_server.make("large", 20_000_000)
    bodies = await asyncio.gather(*(body(client, "large") for _ in range(4)))
    assert {hashlib.sha256(each).hexdigest() for each in bodies} == {digest}


async def test_listings_pass(object_server: ObjectServer, client: S3Client) -> None:
    await object_server.put("listed-by-proxy/one", b"1")
    listed = await asyncio.to_thread(
        client.list_objects_v2, Bucket=BUCKET, Prefix="listed-by-proxy/"
    )
    assert [entry["Key"] for entry in listed["Contents"]] == ["listed-by-proxy/one"]


async def test_a_head_in_pieces_is_understood(
    object_server: ObjectServer, store: Checksummed
) -> None:
    """SeaweedFS refuses the request, which has no signature; the answer passes all the same."""
    reader, writer = await asyncio.open_connection("127.0.0.1", store.port)
    for piece in (b"HEAD /models/x HT", b"TP/1.1\r\nHost: 127.0.0.1\r", b"\n\r\n"):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    async with timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 403")
    writer.close()


async def test_a_client_that_leaves_ends_its_connection(
    object_server: ObjectServer, store: Checksummed, client: S3Client
) -> None:
    await object_server.make("left alone", 20_000_000)
    answer = await asyncio.to_thread(client.get_object, Bucket=BUCKET, Key="left alone")
    answer["Body"].close()
    assert len(await body(client, "left alone")) == 20_000_000


async def test_a_server_that_is_away_ends_the_connection(tmp_path: Path) -> None:
    async with Checksummed(ObjectServer(tmp_path)) as store:
        reader, writer = await asyncio.open_connection("127.0.0.1", store.port)
        async with timeout(10):
            assert await reader.read() == b""
        writer.close()
