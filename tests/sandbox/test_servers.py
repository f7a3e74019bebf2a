"""The servers serve, keep their data over a restart, and check access."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import ssl
from pathlib import Path

import boto3
import pytest
from aiomqtt import Client, ProtocolVersion

from s3downloader.core.aio import timeout
from sandbox.link import Link
from sandbox.servers import ApiServer, Broker, ObjectServer, S3Server
from tests.support import PATIENCE

S3 = pytest.mark.parametrize("name", ["object_server", "api_server"])


def digest(server: S3Server, key: str) -> str:
    body = server.client().get_object(Bucket=server.bucket, Key=key)["Body"]
    return hashlib.sha256(body.read()).hexdigest()


@pytest.fixture
def server(name: str, request: pytest.FixtureRequest) -> S3Server:
    server: S3Server = request.getfixturevalue(name)
    return server


@S3
@pytest.mark.parametrize("size", [0, 1, 20_000_000])
async def test_made_objects_are_known_by_their_digest(server: S3Server, size: int) -> None:
    assert await server.make("made", size) == digest(server, "made")
    head = server.client().head_object(Bucket=server.bucket, Key="made")
    assert head["ContentLength"] == size
    assert ("-3" in head["ETag"]) == (size == 20_000_000)


@S3
async def test_the_environment_leads_clients_there_also_over_a_link(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.put("through/a link", b"same bytes")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)

    def read() -> bytes:
        with contextlib.closing(boto3.session.Session().client("s3")) as client:
            body = client.get_object(Bucket=server.bucket, Key="through/a link")["Body"]
            return bytes(body.read())

    async with Link(server.port) as link:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", link.endpoint)
        assert await asyncio.to_thread(read) == b"same bytes"
        assert link.bytes_down > len(b"same bytes")


async def test_the_object_server_keeps_its_objects_over_a_restart(tmp_path: Path) -> None:
    async with ObjectServer(tmp_path) as server:
        made = await server.make("large", 9_000_000)
        await server.put("small", b"small")
        await server.stop()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)
        await server.start()
        assert digest(server, "large") == made
        assert digest(server, "small") == hashlib.sha256(b"small").hexdigest()


@pytest.mark.parametrize("key", ["../up", "/root", "a//b", "a/../b", "a\\b", "dir/"])
async def test_the_api_server_takes_keys_literally(api_server: ApiServer, key: str) -> None:
    await api_server.put(key, key.encode())
    listed = api_server.client().list_objects_v2(Bucket=api_server.bucket, Prefix=key)
    assert [entry["Key"] for entry in listed["Contents"]] == [key]
    assert digest(api_server, key) == hashlib.sha256(key.encode()).hexdigest()


def test_no_credentials_of_the_developer_are_left() -> None:
    assert {name for name in os.environ if name.startswith("AWS_")} == {
        "AWS_CONFIG_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_SHARED_CREDENTIALS_FILE",
    }


async def test_the_broker_carries_large_messages(broker: Broker) -> None:
    payload = bytes(2_000_000)
    async with Client("127.0.0.1", broker.port, protocol=ProtocolVersion.V5) as client:
        await client.subscribe("large", qos=1)
        await client.publish("large", payload, qos=1)
        assert await first(client) == payload


async def test_the_broker_lets_in_who_has_a_certificate(tmp_path: Path) -> None:
    async with Broker(tmp_path, tls=True) as broker:
        context = ssl.create_default_context(cafile=broker.ca)
        context.load_cert_chain(broker.cert, broker.key)
        async with (
            Client("127.0.0.1", broker.tls_port, tls_context=context) as sender,
            Client("127.0.0.1", broker.port) as receiver,
        ):
            await receiver.subscribe("greeting")
            await sender.publish("greeting", "over TLS")
            assert await first(receiver) == b"over TLS"


async def test_the_broker_refuses_who_has_none(tmp_path: Path) -> None:
    async with Broker(tmp_path, tls=True) as broker:
        context = ssl.create_default_context(cafile=broker.ca)
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.tls_port, ssl=context)
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            await reader.read()
        writer.close()


@pytest.mark.parametrize(("persistence", "kept"), [(True, b"kept"), (False, None)])
async def test_the_broker_keeps_retained_messages_where_it_should(
    tmp_path: Path, persistence: bool, kept: bytes | None
) -> None:
    async with Broker(tmp_path, persistence=persistence) as broker:
        async with Client("127.0.0.1", broker.port) as client:
            await client.publish("topic", "kept", qos=1, retain=True)
        await broker.stop()
        await broker.start()
        async with Client("127.0.0.1", broker.port) as client:
            await client.subscribe("topic", qos=1)
            await client.subscribe("end", qos=1)
            await client.publish("end", "end", qos=1)
            assert await first(client) == (kept or b"end")


async def first(client: Client) -> bytes:
    async with timeout(PATIENCE):
        payload = (await anext(client.messages)).payload
    assert isinstance(payload, bytes)
    return payload
