"""An object whose responses a test can change in one detail, and helpers to fetch it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3downloader.core.errors import DownloaderError
from s3downloader.core.records import FileRecord, Options
from s3downloader.engines.disk import Disk
from s3downloader.engines.ranged.journal import Journal
from tests.sources.scripted_server import ReceivedRequest, Reply, ScriptedServer, error_reply

from .support import FastClock, Files, ForgivingRecorder, by_ranges, fetch_with, job, names

__all__ = [
    "BOTH",
    "KIB",
    "LARGE",
    "MIB",
    "PARTS",
    "SMALL",
    "Served",
    "content",
    "fetch",
    "file_of",
    "refused",
    "with_headers",
]

KIB = 1 << 10
MIB = 1 << 20
SMALL = random.Random(1).randbytes(100 * KIB)
LARGE = random.Random(2).randbytes(3 * MIB)
PARTS = Options(part_size=MIB)
Answer = Callable[[ReceivedRequest], Reply]

BOTH = pytest.mark.parametrize("bytes_", [SMALL, LARGE], ids=["small", "large"])


@dataclass(frozen=True)
class Served:
    """An object; headers that are None are not sent. It obeys conditions and ranges."""

    content: bytes
    etag: str | None = "0123456789abcdef0123456789abcdef-3"
    modified: str | None = "Wed, 25 Nov 2026 10:00:00 GMT"
    more: dict[str, str | None] = field(default_factory=dict)

    def __call__(self, request: ReceivedRequest) -> Reply:
        if self._is_another(request):
            return error_reply(412, "PreconditionFailed")
        if not request.span or request.method == "HEAD":
            return Reply(200, self.named, self.content)
        start, end = request.span
        if start >= len(self.content):
            return error_reply(416, "InvalidRange")
        content_range = {"Content-Range": f"bytes {start}-{end - 1}/{len(self.content)}"}
        return Reply(206, {**self.named, **content_range}, self.content[start:end])

    @property
    def named(self) -> dict[str, str | None]:
        """The headers that identify the object."""
        etag = self.etag and (self.etag if self.etag.startswith("W/") else f'"{self.etag}"')
        return {"ETag": etag, "Last-Modified": self.modified, **self.more}

    def whole(self, request: ReceivedRequest) -> Reply:
        """Answer with the complete object, whatever range is requested."""
        return self(replace(request, headers={**request.headers, "range": ""}))

    def _is_another(self, request: ReceivedRequest) -> bool:
        wanted = request.headers.get("if-match", "").strip('"')
        since = request.headers.get("if-unmodified-since")
        return bool(wanted and wanted != self.etag) or bool(since and since != self.modified)


def file_of(
    served: Served,
    path: str = "model",
    *,
    number: int = 1,
    etag: str | None = None,
    sha256: str = "",
) -> FileRecord:
    """Return the record of a file for the object, listed with its own ETag or with `etag`."""
    listed = served.etag or "" if etag is None else etag
    return FileRecord(number, path, path, len(served.content), listed, sha256=sha256)


async def fetch(
    endpoint: str, staging: Path, *files: FileRecord, relisted: bool = False, **options: Any
) -> ForgivingRecorder:
    """Fetch files with a new ranged engine; return its sink."""
    sink = ForgivingRecorder()
    changed = msgspec.structs.replace(PARTS, **options)
    engine = by_ranges(endpoint, FastClock())
    await fetch_with(engine, job(staging, changed), Files(files), sink, relisted=relisted)
    return sink


async def refused(answer: Answer, staging: Path, file: FileRecord, **how: Any) -> DownloaderError:
    """Return the error of fetching a file from a server with these answers.

    Fails if anything of the file is kept.
    """
    async with ScriptedServer(answer) as server:
        with pytest.raises(DownloaderError) as caught:
            await fetch(server.endpoint, staging, file, **how)
    assert names(staging / "files") == []
    assert not (staging / "ranged" / f"{file.number}.object").exists()
    if found := Journal.open(staging / "ranged" / f"{file.number}.journal", Disk()):
        found[0].close()
        assert not any(state.done for state in found[1]), "a later fetch would go on from that"
    return caught.value


def content(staging: Path, path: str = "model") -> bytes:
    return (staging / "files" / path).read_bytes()


def with_headers(reply: Reply, **headers: str | None) -> Reply:
    """Return the reply with some headers replaced."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return replace(reply, headers={**reply.headers, **named})
