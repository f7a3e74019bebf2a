"""The host to which requests go, and the region for which they are signed."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from s3downloader.core.clock import SystemClock
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.sources.http.connections import Connections
from s3downloader.sources.http.requests import HttpRequest
from s3downloader.sources.http.streaming import StreamingResponse
from s3downloader.sources.http.transport import Transport
from s3downloader.sources.s3.client import Request, S3Client
from s3downloader.sources.s3.credentials import Credentials
from s3downloader.sources.s3.signing import address

from .amazon import Amazon
from .scripted_server import ReceivedRequest, Reply, ScriptedServer, error_reply

HEAD = Request(method="HEAD", bucket="models", key="k")
LIST = Request(method="GET", bucket="models", key="", query="list-type=2", prefix="p/")
KEYS = {"AWS_ACCESS_KEY_ID": "first", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-west-1"}


@pytest.mark.parametrize(
    ("endpoint", "region", "bucket", "key", "url"),
    [
        (None, "eu-west-1", "b", "k", "https://b.s3.eu-west-1.amazonaws.com/k"),
        (None, "cn-north-1", "b", "k", "https://b.s3.cn-north-1.amazonaws.com.cn/k"),
        (None, "us-east-1", "dotted.b", "k", "https://s3.us-east-1.amazonaws.com/dotted.b/k"),
        ("http://store:9000", "x", "b", "k", "http://store:9000/b/k"),
        ("https://store/s3/", "x", "b", "k", "https://store/s3/b/k"),
        ("http://store", "x", "b", "a/../b//c", "http://store/b/a/../b//c"),
        ("http://store", "x", "b", "/k", "http://store/b//k"),
        ("http://store", "x", "b", "a b+c%20~*'?#", "http://store/b/a%20b%2Bc%2520~%2A%27%3F%23"),
        ("http://store", "x", "b", "ü", "http://store/b/%C3%BC"),
        ("http://store:9000/", "x", "b", "", "http://store:9000/b"),
        (None, "eu-west-1", "b", "", "https://b.s3.eu-west-1.amazonaws.com/"),
        (None, "us-east-1", "dotted.b", "", "https://s3.us-east-1.amazonaws.com/dotted.b"),
    ],
)
def test_objects_have_addresses(
    endpoint: str | None, region: str, bucket: str, key: str, url: str
) -> None:
    scheme, host, path = address(endpoint, region, bucket, key)
    assert f"{scheme}://{host}{path}" == url


class Diversion(Connections):
    """A transport that sends requests for AWS to a server on this machine."""

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self.hosts: list[str] = []
        """The hosts of the requests; several requests to one host in a row count once."""
        self._endpoint = endpoint

    def send(self, request: HttpRequest, **how: Any) -> StreamingResponse:
        assert request.scheme == "https"
        if self.hosts[-1:] != [request.host]:
            self.hosts.append(request.host)
        url = urlsplit(self._endpoint)
        diverted = msgspec.structs.replace(request, scheme=url.scheme, host=url.netloc)
        return super().send(diverted, **how)


class Diverted(S3Client):
    """A connection to a server on this machine instead of AWS."""

    def __init__(self, endpoint: str) -> None:
        diversion = Diversion(endpoint)
        self.hosts = diversion.hosts
        super().__init__(None, Credentials(KEYS, SystemClock()), Transport(connections=diversion))


async def test_a_bucket_in_another_region_is_asked_there() -> None:
    async with Amazon(region="ap-south-1") as amazon:
        client = Diverted(amazon.endpoint)
        for _ in range(2):
            response = await client.send(Request(method="HEAD", bucket="models", key="k"))
            assert response.headers["etag"] == f'"{amazon.etag}"'
        assert (client.region("models"), client.region("others")) == ("ap-south-1", "eu-west-1")
        assert client.hosts == [
            "models.s3.eu-west-1.amazonaws.com",
            "models.s3.ap-south-1.amazonaws.com",
        ]
        client.transport.close_idle()


TOLD = {
    "by a header": Reply(301, {"x-amz-bucket-region": "ap-south-1"}),
    "by its name": error_reply(400, "AuthorizationHeaderMalformed", Region="ap-south-1"),
    "by an address": error_reply(
        301, "PermanentRedirect", Endpoint="models.s3.ap-south-1.amazonaws.com"
    ),
    "by a location": Reply(
        307, {"x-amz-id-2": "x", "Location": "https://models.s3-ap-south-1.amazonaws.com/k"}
    ),
}


@pytest.mark.parametrize("reply", TOLD.values(), ids=TOLD)
@pytest.mark.parametrize("request_", [HEAD, LIST], ids=["HEAD", "list"])
async def test_a_region_that_is_told_in_another_way(reply: Reply, request_: Request) -> None:
    def response(request: ReceivedRequest) -> Reply:
        return Reply() if "/ap-south-1/s3/" in request.headers["authorization"] else reply

    async with ScriptedServer(response) as server:
        client = Diverted(server.endpoint)
        assert (await client.send(request_)).status == 200
        assert client.region("models") == "ap-south-1"
        assert client.hosts[-1] == "models.s3.ap-south-1.amazonaws.com"
        client.transport.close_idle()


async def test_a_store_that_points_in_a_circle_is_given_up() -> None:
    regions = itertools.cycle(["ap-south-1", "eu-central-1"])
    async with ScriptedServer(
        lambda _: Reply(301, {"x-amz-bucket-region": next(regions)})
    ) as server:
        client = Diverted(server.endpoint)
        with pytest.raises(DownloaderError, match="is in another region, "):
            await client.send(LIST)
        assert len(server.requests) == 3
        client.transport.close_idle()


async def test_with_an_endpoint_the_region_is_the_configured_one() -> None:
    async with Amazon(region="ap-south-1") as amazon:
        client = S3Client(amazon.endpoint, Credentials(KEYS, SystemClock()))
        with pytest.raises(DownloaderError, match="another region") as caught:
            await client.send(Request(method="HEAD", bucket="models", key="k"))
        assert caught.value.code is ErrorCode.BUCKET_NOT_FOUND
        client.transport.close_idle()


async def test_many_requests_at_once_take_few_connections() -> None:
    async with Amazon() as amazon:
        client = S3Client(amazon.endpoint, Credentials(KEYS, SystemClock()), at_once=4)
        asking = (client.send(Request(method="HEAD", bucket="models", key="k")) for _ in range(100))
        responses = await asyncio.gather(*asking)
        assert {response.headers["etag"] for response in responses} == {f'"{amazon.etag}"'}
        assert amazon.connections <= 4
        client.transport.close_idle()


async def test_certificates_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
    client = S3Client("https://127.0.0.1:1", Credentials(KEYS, SystemClock()))
    with pytest.raises(DownloaderError, match=r"AWS_CA_BUNDLE, .*none\.pem, cannot") as caught:
        await client.send(HEAD)
    assert caught.value.code is ErrorCode.ENGINE_FAILED
    client.transport.close_idle()
