"""What a bucket holds: listings and heads of objects."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from email.utils import parsedate_to_datetime
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from .aio import timeout
from .errors import DownloaderError, ErrorCode
from .faults import explain
from .heads import ObjectHeads
from .s5cmd import Line, Process, S5cmd

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["ObjectInfo", "S3Source"]

_PAGE = 1_000  # the most that S3 lists at once
_PROBE_SECONDS = 5.0


class ObjectInfo(msgspec.Struct, frozen=True):
    """An object of a bucket: its size in bytes, its ETag without quotes."""

    key: str
    size: int
    etag: str


class S3Source:
    """Buckets of S3, read with s5cmd: it starts in milliseconds and costs the daemon no memory.

    boto3, with its 35 MiB, is loaded when an operator browses, or where s5cmd cannot be trusted.
    A request that fails is repeated `retry_count` times: few, so that an absent network shows
    within seconds. A store may be silent for `patience` seconds. `heads` reads small objects.
    """

    def __init__(
        self, tool: S5cmd, heads: ObjectHeads, *, retry_count: int = 3, patience: float = 30.0
    ) -> None:
        self._tool = tool
        self._heads = heads
        self._retry_count = retry_count
        self._patience = patience

    async def list(self, bucket: str, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Go through the objects under `prefix`, without folder markers (keys that end in `/`)."""
        ahead = await asyncio.to_thread(_may_be_ahead, self._tool.endpoint_url)
        listing = self._list_by_pages if ahead else self._list_by_s5cmd
        async for info in listing(bucket, prefix):
            yield info

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        """Return one object. Needs s3:GetObject only; tells an absent bucket from an absent key."""
        try:
            line = await self._head(f"s3://{bucket}/{key}")
        except DownloaderError as error:
            if error.code is ErrorCode.OBJECT_NOT_FOUND and not await self._is_bucket(bucket):
                raise explain("NoSuchBucket", f"s3://{bucket}/{key}") from None
            raise
        return ObjectInfo(key, line.size, line.etag)

    async def read(self, bucket: str, key: str, etag: str, limit: int) -> bytes:
        """Return an object of at most `limit` bytes; raise SOURCE_CHANGED if it is another one."""
        return await self._heads.read(bucket, key, etag, limit)

    async def checksum(self, bucket: str, key: str, etag: str, size: int) -> str:
        """Return the checksum that the store has of an object, such as `CRC64NVME:` with base64.

        Empty where it has none. Raises SOURCE_CHANGED where the object has another ETag.
        """
        expected = await self._heads.expected(bucket, key, etag, size)
        return expected.label if expected else ""

    async def browse(
        self, bucket: str, prefix: str, start_after: str | None, limit: int
    ) -> tuple[Sequence[ObjectInfo], bool]:
        """Return up to `limit` objects after the key `start_after`, and whether there are more."""
        return await asyncio.to_thread(self._browse, bucket, prefix, start_after or "", limit)

    async def _list_by_s5cmd(self, bucket: str, prefix: str) -> AsyncIterator[ObjectInfo]:
        root = f"s3://{bucket}/"
        async for line in self._run("ls", f"{root}{prefix}*", subject=f"{root}{prefix}"):
            key = line.key.removeprefix(root)
            if line.type == "file" and key.startswith(prefix):  # it takes * and ? in a prefix too
                yield ObjectInfo(key, line.size, line.etag)

    async def _list_by_pages(self, bucket: str, prefix: str) -> AsyncIterator[ObjectInfo]:
        more, last = True, None
        while more:
            page, more = await self.browse(bucket, prefix, last, _PAGE)
            for info in page:
                yield info
                last = info.key

    async def _is_bucket(self, bucket: str) -> bool:
        try:
            await self._head(f"s3://{bucket}")
        except DownloaderError as error:
            return error.code is not ErrorCode.BUCKET_NOT_FOUND
        return True

    async def _head(self, url: str) -> Line:
        (line,) = [line async for line in self._run("head", "--raw", url, subject=url)]
        return line

    async def _run(self, *command: str, subject: str) -> AsyncIterator[Line]:
        """Run s5cmd and go through its output; raise for an error among it."""
        async with self._tool.run(*command, retry_count=self._retry_count) as process:
            while lines := await self._read(process, subject):
                for line in lines:
                    if line.error == "no object found":
                        return
                    if line.error:
                        raise explain(line.error, subject)
                    yield line
            if problem := await process.wait():
                raise explain(problem, subject)

    async def _read(self, process: Process, subject: str) -> Sequence[Line]:
        try:
            async with timeout(self._patience):
                return await process.read()
        except TimeoutError:
            raise explain(f"timeout: silent for {self._patience:g} s", subject) from None

    def _browse(
        self, bucket: str, prefix: str, start_after: str, limit: int
    ) -> tuple[Sequence[ObjectInfo], bool]:
        from botocore.exceptions import BotoCoreError, ClientError  # see the class

        found: list[ObjectInfo] = []
        more = True
        try:
            while more and len(found) < limit:
                page = self._client.list_objects_v2(
                    Bucket=bucket,
                    Prefix=prefix,
                    StartAfter=start_after,
                    MaxKeys=min(limit - len(found), _PAGE),
                )
                for item in page.get("Contents", ()):
                    start_after = item["Key"]
                    if not start_after.endswith("/"):
                        found.append(ObjectInfo(start_after, item["Size"], item["ETag"].strip('"')))
                more = page["IsTruncated"]
        except (BotoCoreError, ClientError) as error:
            raise explain(str(error), f"s3://{bucket}/{prefix}") from error
        return found, more

    @cached_property
    def _client(self) -> S3Client:
        import boto3
        from botocore.config import Config

        client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=self._tool.endpoint_url,
            config=Config(
                connect_timeout=self._patience,
                read_timeout=self._patience,
                retries={"total_max_attempts": self._retry_count + 1, "mode": "standard"},
                s3={"addressing_style": "path" if self._tool.endpoint_url else "auto"},
            ),
        )
        return client


def _may_be_ahead(endpoint_url: str | None) -> bool:
    """Tell whether the store's clock may be ahead of the device's.

    Then there may be objects from the device's future, and those s5cmd leaves out of a listing
    without a word (peak/s5cmd, storage/s3.go, listObjectsV2): a model would arrive with a part
    missing. `Date` has whole seconds, and so has `LastModified`.
    """
    url = urlsplit(endpoint_url or _aws_endpoint())
    connect = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = connect(url.netloc, timeout=_PROBE_SECONDS)
    try:
        connection.request("HEAD", "/")
        date = connection.getresponse().headers["Date"]
        return parsedate_to_datetime(date).timestamp() > time.time()
    except (OSError, HTTPException, TypeError, ValueError):
        return True
    finally:
        connection.close()


def _aws_endpoint() -> str:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return f"https://s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
