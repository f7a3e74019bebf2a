"""Checksums of objects from the metadata of an object store."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from s3downloader.core.checksums import CRCS, Expected, Part, check_file
from s3downloader.core.clock import SystemClock
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.objects import ObjectRef
from s3downloader.sources.http.transport import Transport
from s3downloader.sources.s3.client import S3Client
from s3downloader.sources.s3.credentials import Credentials
from s3downloader.sources.s3.object_metadata import ObjectMetadata, checksum_from_headers
from sandbox.link import Link
from sandbox.nucleus.credentials import CredentialsEndpoint
from sandbox.processes import free_ports
from sandbox.servers import ApiServer, ObjectServer
from sandbox.servers.certificates import make_certificates
from sandbox.servers.s3 import S3Server

from ..connections import LocalServer
from .amazon import Amazon

BUCKET = "models"
DATA = b"123456789"
SHA1 = base64.b64encode(hashlib.sha1(DATA, usedforsecurity=False).digest()).decode()
SHA256 = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
VALUES = {
    **{name: crc.text(crc.extend(0, DATA)) for name, crc in CRCS.items()},
    "SHA256": SHA256,
    "SHA1": SHA1,
}
ODD_KEYS = [
    "a b",
    "a+b",
    "%20",
    "~*'\"()!",
    "日本語/ü",
    "a=1&b?c#d",
    "[x]{y}|^`<>",
    "x//y",
    "x/../y",
    "/z",
    "t\t",
]
PARTS = [b"a" * (5 << 20), b"b" * (5 << 20), b"c" * 100]


@pytest.fixture(params=["api_server", "object_server"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """Each of the two servers."""
    server: S3Server = request.getfixturevalue(request.param)
    return server


@asynccontextmanager
async def heads_of(
    endpoint: str | None, environment: dict[str, str], **how: Any
) -> AsyncIterator[ObjectMetadata]:
    transport = Transport(**how)
    client = S3Client(endpoint, Credentials(environment, SystemClock()), transport)
    yield ObjectMetadata(client)
    transport.close_idle()


@pytest.fixture
async def heads(server: S3Server) -> AsyncIterator[ObjectMetadata]:
    async with heads_of(server.endpoint, server.environment) as heads:
        yield heads


def put(server: S3Server, key: str, **how: Any) -> str:
    """Write DATA; return its ETag."""
    answer = server.client().put_object(Bucket=BUCKET, Key=key, Body=DATA, **how)
    return answer["ETag"].strip('"')


def upload(server: S3Server, key: str, parts: list[bytes], **how: Any) -> str:
    """Write an object in parts; return its ETag."""
    client: Any = server.client()
    upload = {"Bucket": BUCKET, "Key": key}
    upload["UploadId"] = client.create_multipart_upload(**upload, **how)["UploadId"]
    uploaded = []
    for number, data in enumerate(parts, 1):
        algorithm = {name: how[name] for name in ("ChecksumAlgorithm",) if name in how}
        answer = client.upload_part(**upload, PartNumber=number, Body=data, **algorithm)
        sums = {name: value for name, value in answer.items() if name.startswith("Checksum")}
        uploaded.append({"PartNumber": number, "ETag": answer["ETag"], **sums})
    done = client.complete_multipart_upload(**upload, MultipartUpload={"Parts": uploaded})
    return str(done["ETag"].strip('"'))


@pytest.mark.parametrize("algorithm", VALUES)
async def test_the_checksum_of_an_object(
    heads: ObjectMetadata, server: S3Server, algorithm: Any
) -> None:
    etag = put(server, f"summed/{algorithm}", ChecksumAlgorithm=algorithm)
    expected = await heads.expected(BUCKET, ObjectRef(f"summed/{algorithm}", len(DATA), etag))
    assert expected == Expected(algorithm=algorithm, value=VALUES[algorithm])


async def test_an_object_without_a_checksum_has_its_md5(
    heads: ObjectMetadata, server: S3Server
) -> None:
    etag = put(server, "summed/none")
    expected = await heads.expected(BUCKET, ObjectRef("summed/none", len(DATA), etag))
    md5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
    assert expected == Expected(algorithm="MD5", value=md5)


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_odd_keys_are_signed_as_they_are(
    api_server: ApiServer, object_server: ObjectServer, key: str
) -> None:
    """moto keeps every key unchanged.

    SeaweedFS checks the signature, even if it changes the key.
    """
    async with heads_of(api_server.endpoint, api_server.environment) as heads:
        etag = put(api_server, f"odd/{key}")
        assert await heads.expected(BUCKET, ObjectRef(f"odd/{key}", len(DATA), etag))
    async with heads_of(object_server.endpoint, object_server.environment) as heads:
        with pytest.raises(DownloaderError) as caught:
            await heads.expected(BUCKET, ObjectRef(f"never/{key}", 0, ""))
        cause = str(caught.value.details["cause"])
        assert "SignatureDoesNotMatch" not in cause, checksum_from_headers


async def test_odd_keys_of_the_real_store(object_server: ObjectServer) -> None:
    async with heads_of(object_server.endpoint, object_server.environment) as heads:
        for key in ODD_KEYS[:7]:
            etag = put(object_server, f"odd/{key}")
            assert await heads.expected(BUCKET, ObjectRef(f"odd/{key}", len(DATA), etag))


async def test_an_object_in_parts_may_have_a_checksum_as_a_whole(
    heads: ObjectMetadata, server: S3Server
) -> None:
    etag = upload(server, "parts/full", PARTS, ChecksumAlgorithm="CRC64NVME")
    data = b"".join(PARTS)
    expected = await heads.expected(BUCKET, ObjectRef("parts/full", len(data), etag))
    if isinstance(server, ApiServer):
        assert expected is None, "moto has begun to tell the type of a checksum"
    else:
        crc = CRCS["CRC64NVME"]
        assert expected == Expected(algorithm=crc.name, value=crc.text(crc.extend(0, data)))


@pytest.mark.parametrize("algorithm", ["CRC32C", "CRC32", "SHA256", "SHA1"])
async def test_a_checksum_of_checksums_comes_with_its_parts(
    object_server: ObjectServer, algorithm: str, tmp_path: Path
) -> None:
    etag = upload(object_server, "parts/each", PARTS, ChecksumAlgorithm=algorithm)
    (tmp_path / "file").write_bytes(b"".join(PARTS))
    async with heads_of(object_server.endpoint, object_server.environment) as heads:
        expected = await heads.expected(BUCKET, ObjectRef("parts/each", sum(map(len, PARTS)), etag))
    assert expected is not None
    assert (expected.algorithm, expected.composite) == (algorithm, True)
    assert expected.part_sizes == tuple(map(len, PARTS))
    assert check_file(tmp_path / "file", [expected]) == []


async def test_parts_without_a_checksum_have_none(heads: ObjectMetadata, server: S3Server) -> None:
    etag = upload(server, "parts/none", PARTS)
    assert await heads.expected(BUCKET, ObjectRef("parts/none", sum(map(len, PARTS)), etag)) is None


async def test_the_etag_of_an_object_under_a_key_of_kms_is_no_md5(api_server: ApiServer) -> None:
    etag = put(api_server, "kms", ServerSideEncryption="aws:kms")
    async with heads_of(api_server.endpoint, api_server.environment) as heads:
        assert await heads.expected(BUCKET, ObjectRef("kms", len(DATA), etag)) is None


TOLD = [
    ({"x-amz-checksum-crc64nvme": "AAAA", "x-amz-checksum-type": "FULL_OBJECT"}, "e-2", "AAAA"),
    ({"x-amz-checksum-crc32": "BBBB", "x-amz-checksum-sha256": "CCCC"}, "e", "BBBB"),
    ({"x-amz-checksum-crc32c": "DDDD-1", "x-amz-checksum-type": "COMPOSITE"}, "e-1", "DDDD-1"),
    ({"x-amz-checksum-crc32c": "DDDD-2", "x-amz-checksum-type": "COMPOSITE"}, "e-2", None),
    ({"x-amz-checksum-crc32": "BBBB"}, "e-2", None),  # may be the checksum of the parts
    ({}, "0" * 32, "0" * 32),
    ({"x-amz-server-side-encryption": "AES256"}, "0" * 32, "0" * 32),
    ({"x-amz-server-side-encryption": "aws:kms:dsse"}, "0" * 32, None),
    ({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, "0" * 32, None),
]


@pytest.mark.parametrize(("headers", "etag", "value"), TOLD)
def test_what_an_answer_tells_by_itself(
    headers: dict[str, str], etag: str, value: str | None
) -> None:
    expected = checksum_from_headers(headers, etag, 9)
    assert (expected.value if expected else None) == value
    assert expected is None or expected.layout(9) == [Part(1, 0, 9)]


Asking = Callable[[ObjectMetadata, str, ObjectRef], Any]
ASKED: dict[str, Asking] = {
    "expected": lambda heads, *what: heads.expected(*what),
    "read": lambda heads, *what: heads.read(*what),
}
every_way = pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)


async def code_of(asking: Any) -> ErrorCode:
    with pytest.raises(DownloaderError) as caught:
        await asking
    return caught.value.code


@every_way
async def test_another_object_than_planned(
    heads: ObjectMetadata, server: S3Server, ask: Asking
) -> None:
    etag = put(server, "changed")
    assert (
        await code_of(ask(heads, BUCKET, ObjectRef("changed", 9, "0" * 32)))
        is ErrorCode.SOURCE_CHANGED
    )
    assert (
        await code_of(ask(heads, BUCKET, ObjectRef("changed", 8, etag))) is ErrorCode.SOURCE_CHANGED
    )


@every_way
async def test_what_is_not_there(heads: ObjectMetadata, ask: Asking) -> None:
    assert (
        await code_of(ask(heads, BUCKET, ObjectRef("absent", 0, ""))) is ErrorCode.OBJECT_NOT_FOUND
    )
    assert await code_of(ask(heads, "no-such", ObjectRef("a", 0, ""))) is ErrorCode.BUCKET_NOT_FOUND


@every_way
async def test_wrong_keys(object_server: ObjectServer, ask: Asking) -> None:
    environment = {**object_server.environment, "AWS_SECRET_ACCESS_KEY": "wrong"}
    async with heads_of(object_server.endpoint, environment) as heads:
        assert await code_of(ask(heads, BUCKET, ObjectRef("a", 0, ""))) is ErrorCode.ACCESS_DENIED


@every_way
async def test_a_store_that_is_not_there(ask: Asking, object_server: ObjectServer) -> None:
    [port] = free_ports(1)
    async with heads_of(f"http://127.0.0.1:{port}", object_server.environment) as heads:
        assert (
            await code_of(ask(heads, BUCKET, ObjectRef("a", 0, "")))
            is ErrorCode.NETWORK_UNREACHABLE
        )


async def test_a_silent_store(link: Link, object_server: ObjectServer) -> None:
    async with heads_of(link.endpoint, object_server.environment, time_limit=0.2) as heads:
        link.freeze()
        assert await code_of(heads.expected(BUCKET, ObjectRef("a", 0, ""))) is ErrorCode.TIMEOUT


async def test_connections_are_kept_and_replaced(link: Link, object_server: ObjectServer) -> None:
    etag = put(object_server, "kept")
    async with heads_of(link.endpoint, object_server.environment) as heads:
        for _ in range(5):
            assert await heads.expected(BUCKET, ObjectRef("kept", len(DATA), etag))
        assert link.connections_total == 1
        link.cut()
        link.restore()
        assert await heads.read(BUCKET, ObjectRef("kept", len(DATA), etag)) == DATA
        assert link.connections_total == 2
        many = [heads.expected(BUCKET, ObjectRef("kept", len(DATA), etag)) for _ in range(40)]
        assert all(await asyncio.gather(*many))
        assert link.connections_total <= 9


async def test_small_objects_are_read(heads: ObjectMetadata, server: S3Server) -> None:
    etag = put(server, "small text")
    assert await heads.read(BUCKET, ObjectRef("small text", len(DATA), etag)) == DATA


async def test_a_certificate_must_be_trusted(
    tmp_path: Path, object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_certificates(tmp_path)
    etag = put(object_server, "secure")
    async with Tls(tmp_path, object_server.port) as tls:
        async with heads_of(tls.endpoint, object_server.environment) as heads:
            with pytest.raises(DownloaderError, match="AWS_CA_BUNDLE") as caught:
                await heads.expected(BUCKET, ObjectRef("secure", len(DATA), etag))
            assert caught.value.code is ErrorCode.NETWORK_UNREACHABLE
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        async with heads_of(tls.endpoint, object_server.environment) as heads:
            assert await heads.expected(BUCKET, ObjectRef("secure", len(DATA), etag))


KEYS = {"AWS_ACCESS_KEY_ID": "first", "AWS_SECRET_ACCESS_KEY": "secret"}


async def told_by(amazon: Amazon) -> Expected | None:
    async with heads_of(amazon.endpoint, KEYS) as heads:
        return await heads.expected(BUCKET, ObjectRef("k", sum(amazon.sizes), amazon.etag))


async def test_the_checksums_of_all_parts_come_page_by_page() -> None:
    async with Amazon(page=3) as amazon:
        expected = await told_by(amazon)
    assert expected == Expected(
        algorithm="CRC32C",
        value=amazon.value,
        composite=True,
        part_sizes=tuple(amazon.sizes),
        parts=amazon.checksums,
    )
    assert amazon.requests == ["HEAD", "GET attributes", "GET attributes"]


async def test_without_attributes_first_and_last_part_tell_part_sizes() -> None:
    async with (
        Amazon(allows_attributes=False) as amazon,
        heads_of(amazon.endpoint, KEYS) as heads,
    ):
        for _ in range(2):
            expected = await heads.expected(BUCKET, ObjectRef("k", sum(amazon.sizes), amazon.etag))
            assert expected is not None
            assert (expected.part_size, expected.parts) == (5, ())
    requests = ["HEAD", "HEAD partNumber=1", "HEAD partNumber=4"]
    assert amazon.requests == [requests[0], "GET attributes", *requests[1:], *requests], (
        "denied once"
    )


async def test_parts_of_uneven_sizes_are_not_taken_for_even_ones() -> None:
    async with Amazon(sizes=[5, 6, 5, 4], allows_attributes=False) as amazon:
        assert await told_by(amazon) is None
    async with Amazon(sizes=[5, 6, 5, 4]) as amazon:
        expected = await told_by(amazon)
        assert expected is not None
        assert expected.part_sizes == (5, 6, 5, 4)


async def test_a_token_that_has_expired_is_renewed() -> None:
    keys = {**KEYS, "AWS_SESSION_TOKEN": "token"}
    async with CredentialsEndpoint(keys, authorised=lambda _: True) as exchange:
        environment = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": exchange.uri}
        async with Amazon() as amazon, heads_of(amazon.endpoint, environment) as heads:
            size = sum(amazon.sizes)
            assert await heads.expected(BUCKET, ObjectRef("k", size, amazon.etag))
            amazon.valid_key = "second"
            exchange.credentials["AWS_ACCESS_KEY_ID"] = "second"
            assert await heads.expected(BUCKET, ObjectRef("k", size, amazon.etag))
            assert exchange.requests == 2
            amazon.valid_key = "third"
            code = await code_of(heads.expected(BUCKET, ObjectRef("k", size, amazon.etag)))
            assert code is ErrorCode.CREDENTIALS_UNAVAILABLE


class Tls(LocalServer):
    """TLS in front of a server on this machine."""

    def __init__(self, certificates: Path, port: int) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        super().__init__(context)
        self._target = port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay bytes in both directions."""
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))
        finally:
            up_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
