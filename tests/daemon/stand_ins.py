"""Stand-ins for a source and an engine, which stop where the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import cast

from s3downloader.core.errors import DownloaderError
from s3downloader.core.objects import ObjectRef, SourceRef
from s3downloader.core.records import FileRecord
from s3downloader.core.throttle import Share
from s3downloader.engines.base import FetchJob, Sink, StagingSession
from s3downloader.sources.base import Source as RealSource
from s3downloader.sources.registry import Sources

from ..support import eventually

DIGEST = "0123456789abcdef0123456789abcdef"
"""An ETag that has the form of an MD5."""


class Source:
    """A bucket with `objects`, sizes by name; or a source that fails with `error`.

    `tries` counts the requests.
    """

    def __init__(self) -> None:
        self.objects: dict[str, int] = {}
        self.etags: dict[str, str] = {}
        """By name, the ETags of objects; the others have DIGEST."""
        self.error: DownloaderError | None = None
        self.tries = 0

    @property
    def sources(self) -> Sources:
        """A registry of sources in which this is the only one."""
        return Sources({"s3": lambda ref, **_: cast(RealSource, _Opened(self, ref))})

    async def stat(self, name: str) -> ObjectRef:
        self.ask()
        return self.object(name)

    def ask(self) -> None:
        self.tries += 1
        if self.error:
            raise self.error

    def object(self, name: str) -> ObjectRef:
        return ObjectRef(name, self.objects[name], self.etags.get(name, DIGEST))


class _Opened:
    """The part of a source that planning uses."""

    def __init__(self, source: Source, ref: SourceRef) -> None:
        self.ref = ref
        self.stat = source.stat
        self._source = source

    async def list(self) -> AsyncIterator[ObjectRef]:
        self._source.ask()
        for name in sorted(self._source.objects):
            if name.startswith(self.ref.path):
                yield self._source.object(name)

    async def checksum(self, wanted: ObjectRef) -> None:
        """Set no checksum: the objects have none."""


class Engine:
    """Makes sparse files at once, but stops before those whose names are held."""

    def __init__(self) -> None:
        self.standing: set[str] = set()
        self.fetched: list[str] = []
        self.shares: dict[str, Share] = {}
        """The share of the bandwidth of each download, by its ID."""
        self.excess = 0
        """The bytes that it reports beyond the size of the file before which it stops."""
        self._held: set[str] = set()
        self._released = asyncio.Event()

    def hold(self, *keys: str) -> None:
        self._held.update(keys)
        self._released.clear()

    def release(self) -> None:
        self._held.clear()
        self._released.set()

    async def stands_at(self, *keys: str) -> None:
        await eventually(lambda: self.standing >= set(keys))

    async def recover(
        self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink
    ) -> StagingSession:
        return StagingSession(job, sink, self.fetch)

    async def fetch(self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink) -> None:
        self.shares[job.download_id] = job.share
        async for file in files:
            if file.name in self._held:
                await self._stand(file, sink)
            place = job.staging / "files" / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            self.fetched.append(file.name)
            with place.open("wb") as made:
                made.truncate(file.size)
            sink.progress(file.size)
            await sink.finished([file])

    async def _stand(self, file: FileRecord, sink: Sink) -> None:
        sink.progress(file.size + self.excess if self.excess else 0)
        self.standing.add(file.name)
        try:
            await self._released.wait()
        finally:
            self.standing.discard(file.name)
