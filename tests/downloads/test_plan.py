"""The plan stores the expected SHA-256 of each file. The server is a real one."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.objects import ObjectRef, SourceRef
from s3downloader.core.records import Download, FileRecord, Options
from s3downloader.downloads.planning.checksum_manifest import MOST_BYTES
from s3downloader.downloads.planning.plan import Differences, make_plan
from s3downloader.sources.base import Source
from s3downloader.store import Change, Store

A, B, C = (hashlib.sha256(name.encode()).hexdigest() for name in "abc")
PREFIX = "models/vlm/"


class Bucket:
    """A source with the objects that the test has put below PREFIX."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        """Sizes in the listing that differ from those of the objects."""
        self.reads: list[str] = []

    async def stat(self, name: str) -> ObjectRef:
        data = self.objects[name]
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return ObjectRef(name, self.sizes.get(name, len(data)), etag)

    async def list(self) -> AsyncIterator[ObjectRef]:
        for name in sorted(self.objects):
            if name.startswith(PREFIX):
                yield await self.stat(name)

    async def read_small(self, wanted: ObjectRef) -> bytes:
        assert wanted == await self.stat(wanted.name)
        self.reads.append(wanted.name)
        return self.objects[wanted.name]

    def put(self, **texts: str) -> None:
        """Put objects below PREFIX; `__` in a name stands for a slash."""
        for name, text in texts.items():
            self.objects[PREFIX + name.replace("__", "/")] = text.encode()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "state")
    yield store
    await store.close()


@pytest.fixture
def bucket() -> Bucket:
    bucket = Bucket()
    bucket.put(a="a", b="b", deep__c="c")
    return bucket


class Planner:
    """Plans one download, several times."""

    def __init__(self, directory: Path, store: Store, bucket: Bucket) -> None:
        self._store = store
        self._bucket = bucket
        self.download = Download(
            download_id="d1",
            command_id="c1",
            source=SourceRef("s3", "models", PREFIX),
            layout="tree",
            destination=str(directory / "destination"),
            staging=str(directory / "staging"),
            options=Options(),
            created_at=0.0,
            updated_at=0.0,
        )

    async def plan(self, **changes: Any) -> dict[str, str]:
        """Make a new plan; return the SHA-256 of the files that must have one."""
        await self.make(**changes)
        return {file.path: file.sha256 for file in await self.files() if file.sha256}

    async def make(self, **changes: Any) -> Differences:
        """Make a new plan; return how it differs from the one before."""
        self.download = msgspec.structs.replace(
            self.download, plan=self.download.plan + 1, **changes
        )
        await self._store.record(Change(downloads=[self.download]))
        return await make_plan(self.download, cast(Source, self._bucket), self._store)

    async def files(self) -> list[FileRecord]:
        return [file async for file in self._store.files("d1")]

    async def finish(self) -> None:
        await self._store.mark_done(await self.files())

    async def missing(self) -> list[str]:
        return [file.path for file in await self.files() if not file.done]


@pytest.fixture
def planner(tmp_path: Path, store: Store, bucket: Bucket) -> Planner:
    return Planner(tmp_path, store, bucket)


async def test_without_sums_no_file_must_have_one(planner: Planner, bucket: Bucket) -> None:
    assert await planner.plan() == {}
    assert bucket.reads == []


async def test_one_object_has_that_of_the_command(planner: Planner) -> None:
    source = SourceRef("s3", "models", f"{PREFIX}a")
    assert await planner.plan(source=source, layout="file", sha256=A.upper()) == {"a": A}


async def test_the_command_names_files_below_the_prefix(planner: Planner) -> None:
    assert await planner.plan(sha256={"a": A.upper(), "deep/c": C}) == {"a": A, "deep/c": C}


async def test_an_object_beside_the_files_names_them(planner: Planner, bucket: Bucket) -> None:
    bucket.put(SHA256SUMS=f"{A}  a\n{B}  ./b\n{C} *deep/c\n{C}  gone\n")
    assert await planner.plan() == {"a": A, "b": B, "deep/c": C}


async def test_a_list_that_names_itself_stands_in_no_way(planner: Planner, bucket: Bucket) -> None:
    bucket.put(SHA256SUMS=f"{A}  a\n{C} *./SHA256SUMS\r\n")
    assert await planner.plan() == {"a": A}
    await planner.finish()
    assert await planner.plan() == {"a": A}
    assert await planner.missing() == []


async def test_what_has_content_and_no_name_is_counted(planner: Planner, bucket: Bucket) -> None:
    bucket.put(folder__="content", **{"": "of the prefix itself"})
    differences = await planner.make()
    assert (differences.left_out, differences.first_left_out) == (2, PREFIX)
    assert {file.path for file in await planner.files()} == {"a", "b", "deep/c"}


async def test_objects_in_folders_go_before_those_above(planner: Planner, bucket: Bucket) -> None:
    bucket.put(SHA256SUMS=f"{A}  a\n{A}  deep/c\n", deep__SHA256SUMS=f"{C}  c\n")
    assert await planner.plan() == {"a": A, "deep/c": C}
    assert bucket.reads == [f"{PREFIX}SHA256SUMS", f"{PREFIX}deep/SHA256SUMS"]


class OddBucket(Bucket):
    """A source whose listing has other ETags than its objects."""

    async def list(self) -> AsyncIterator[ObjectRef]:
        async for own in super().list():
            yield msgspec.structs.replace(own, validator=f"listed-{own.validator}")

    async def read_small(self, wanted: ObjectRef) -> bytes:
        if wanted != await self.stat(wanted.name):
            raise DownloaderError(ErrorCode.SOURCE_CHANGED, "it has another ETag")
        return await super().read_small(wanted)


async def test_an_object_that_is_listed_with_another_etag_is_read(
    tmp_path: Path, store: Store
) -> None:
    bucket = OddBucket()
    bucket.put(a="a", SHA256SUMS=f"{A}  a\n")
    assert await Planner(tmp_path, store, bucket).plan() == {"a": A}


async def test_the_command_goes_before_the_object(planner: Planner, bucket: Bucket) -> None:
    bucket.put(SHA256SUMS=f"{C}  a\n{B}  b\n")
    assert await planner.plan(sha256={"a": A}) == {"a": A, "b": B}


async def test_without_verification_only_the_command_counts(
    planner: Planner, bucket: Bucket
) -> None:
    bucket.put(SHA256SUMS="no sums at all")
    assert await planner.plan(options=Options(verify=False), sha256={"a": A}) == {"a": A}
    assert bucket.reads == []


async def test_a_name_that_is_not_there_is_refused(planner: Planner) -> None:
    with pytest.raises(DownloaderError, match=r"names 'deep/d'") as caught:
        await planner.plan(sha256={"a": A, "deep/d": C})
    assert caught.value.code is ErrorCode.INVALID_FIELD


async def test_an_object_that_cannot_be_read(planner: Planner, bucket: Bucket) -> None:
    bucket.put(SHA256SUMS=f"{A}  a\n<html>\n")
    with pytest.raises(DownloaderError, match="line 2 of SHA256SUMS"):
        await planner.plan()
    bucket.sizes[f"{PREFIX}SHA256SUMS"] = MOST_BYTES + 1
    with pytest.raises(DownloaderError, match="set verify to false") as caught:
        await planner.plan()
    assert caught.value.code is ErrorCode.INVALID_CHECKSUMS


async def test_files_stay_done_while_their_sums_stay(planner: Planner, bucket: Bucket) -> None:
    bucket.put(SHA256SUMS=f"{A}  a\n{B}  b\n")
    await planner.plan(sha256={"deep/c": C})
    await planner.finish()
    await planner.plan()
    assert await planner.missing() == []
    bucket.put(SHA256SUMS=f"{A}  a\n{C}  b\n")
    assert await planner.plan() == {"a": A, "b": C, "deep/c": C}
    assert await planner.missing() == ["SHA256SUMS", "b"]


async def test_sums_go_with_their_object(planner: Planner, bucket: Bucket) -> None:
    bucket.put(SHA256SUMS=f"{A}  a\n")
    assert await planner.plan() == {"a": A}
    await planner.finish()
    del bucket.objects[f"{PREFIX}SHA256SUMS"]
    assert await planner.plan() == {}


async def test_many_files_need_little_memory(planner: Planner, bucket: Bucket) -> None:
    names = [f"{number:06}/weights.bin" for number in range(20_000)]
    bucket.objects = {PREFIX + name: b"" for name in names}
    bucket.put(SHA256SUMS="".join(f"{A}  {name}\n" for name in names))
    tracemalloc.start()
    try:
        await planner.make()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500 * len(names) + (4 << 20)
