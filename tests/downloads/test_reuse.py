"""Published files that have not changed are linked instead of fetched."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from s3downloader.core.checksums import Expected
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.objects import ObjectRef, SourceRef
from s3downloader.core.records import Download, FileRecord
from s3downloader.downloads.planning import reuse
from s3downloader.downloads.publishing.publish import prepare, publish_files
from s3downloader.sources.base import Source
from s3downloader.store import Change, Item, Store

from .support import a_download, tree, write

FILES = {"a": "same", "deep/b": "same too"}
DIGEST = "0123456789abcdef0123456789abcdef"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "state")
    yield store
    await store.close()


def items(**changes: str) -> list[Item]:
    """Return the listing of `FILES`, with an ETag each, and with checksums if the test has some."""
    return [
        Item(
            path,
            ObjectRef(f"v/{path}", len(content), f"{DIGEST}-{number}"),
            changes.get(path, ""),
        )
        for number, (path, content) in enumerate(FILES.items(), 1)
    ]


def changed(item: Item, **changes: Any) -> Item:
    """Return the same listing with another object."""
    return item._replace(object=msgspec.structs.replace(item.object, **changes))


async def published(store: Store, root: Path, listed: list[Item], checksum: str = "") -> None:
    """Publish `FILES` as an earlier download did."""
    write(root / "m", FILES)
    download = msgspec.structs.replace(a_download(root), download_id="earlier")
    await planned(store, download, listed)
    files = [
        msgspec.structs.replace(file, checksum=checksum) async for file in store.files("earlier")
    ]
    await reuse.record_published(download, files, store)


async def planned(store: Store, download: Download, listed: list[Item]) -> None:
    await store.record(Change(downloads=[download]))
    await store.plan(download.download_id, 1, listed)
    prepare(download)


class Checksums:
    """A source with the checksums that the test sets, by the names of objects."""

    def __init__(self, **values: str) -> None:
        self.values = values
        self.error: DownloaderError | None = None
        self.asked: list[ObjectRef] = []

    async def checksum(self, wanted: ObjectRef) -> Expected | None:
        self.asked.append(wanted)
        if self.error:
            raise self.error
        value = self.values.get(wanted.name)
        return Expected(algorithm="CRC64NVME", value=value) if value else None


SAME_A = {"v/a": "same", "v/deep/b": "other"}
"""Checksums of which only the first is that of the published file."""


async def taken(
    store: Store, download: Download, checksums: Checksums | None = None
) -> list[FileRecord]:
    source = cast(Source, checksums or Checksums())
    return [
        file async for batch in reuse.stage_unchanged(download, store, source) for file in batch
    ]


def staged(download: Download) -> dict[str, str]:
    return tree(Path(download.staging, "files"))


async def test_unchanged_files_are_linked(store: Store, tmp_path: Path) -> None:
    await published(store, tmp_path, items())
    download = a_download(tmp_path)
    await planned(store, download, items())
    assert [file.path for file in await taken(store, download)] == ["a", "deep/b"]
    assert staged(download) == FILES
    _, absent = publish_files(download, [file async for file in store.files("d")])
    assert absent == []
    assert tree(tmp_path / "m") == FILES
    assert staged(download) == {}, "a rename onto the same inode leaves its source"


@pytest.mark.parametrize("way", ["link", "copy"])
async def test_without_shared_blocks_files_are_linked_or_copied(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr("fcntl.ioctl", refuse)
    if way == "copy":
        monkeypatch.setattr(os, "link", refuse)
    await published(store, tmp_path, items())
    download = a_download(tmp_path)
    await planned(store, download, items())
    assert len(await taken(store, download)) == 2
    assert staged(download) == FILES
    here, there = tmp_path / "m" / "a", Path(download.staging, "files", "a")
    assert here.samefile(there) is (way == "link")


async def test_an_object_uploaded_anew_is_known_by_its_checksum(
    store: Store, tmp_path: Path
) -> None:
    await published(store, tmp_path, items(), checksum="CRC64NVME:same")
    source = Checksums(**SAME_A)
    download = a_download(tmp_path)
    await planned(store, download, [changed(item, validator="anew-2") for item in items()])
    assert [(f.path, f.checksum) for f in await taken(store, download, source)] == [
        ("a", "CRC64NVME:same")
    ]
    assert source.asked == [ObjectRef("v/a", 4, "anew-2"), ObjectRef("v/deep/b", 8, "anew-2")]


async def test_where_nothing_can_be_made_of_a_file_it_is_fetched(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "not supported")

    for name in ("link", "copy_file_range"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr("fcntl.ioctl", refuse)
    await published(store, tmp_path, items())
    download = a_download(tmp_path)
    await planned(store, download, items())
    assert await taken(store, download) == []
    assert staged(download) == {}


async def test_a_file_that_somebody_touched_is_fetched(store: Store, tmp_path: Path) -> None:
    await published(store, tmp_path, items())
    (tmp_path / "m" / "a").write_text("mine")
    place = tmp_path / "m" / "deep" / "b"
    place.replace(tmp_path / "moved")
    place.symlink_to(tmp_path / "moved")
    download = a_download(tmp_path)
    await planned(store, download, items())
    assert await taken(store, download) == []


async def test_another_version_of_an_object_is_fetched(store: Store, tmp_path: Path) -> None:
    await published(store, tmp_path, items())
    download = a_download(tmp_path)
    a, b = items()
    await planned(
        store, download, [changed(a, validator="other"), changed(b, size=b.object.size + 1)]
    )
    assert await taken(store, download) == []


@pytest.mark.parametrize(
    ("before", "now"), [(f"W/{DIGEST}", DIGEST), (DIGEST, f"W/{DIGEST}"), (DIGEST, DIGEST)]
)
async def test_a_weak_etag_is_of_the_same_version(
    store: Store, tmp_path: Path, before: str, now: str
) -> None:
    await published(store, tmp_path, [changed(item, validator=before) for item in items()])
    download = a_download(tmp_path)
    await planned(store, download, [changed(item, validator=now) for item in items()])
    assert len(await taken(store, download)) == 2


@pytest.mark.parametrize(
    "etag", ["Wed, 25 Nov 2026 11:00:00 GMT", "7", "W/7", f"{DIGEST}0", f"{DIGEST}-", DIGEST[1:]]
)
@pytest.mark.parametrize("checksum", ["", "CRC64NVME:same"])
async def test_a_validator_that_is_no_digest_proves_no_other_object(
    store: Store, tmp_path: Path, etag: str, checksum: str
) -> None:
    """The object's checksum does, if the object store has one."""
    listed = [changed(item, validator=etag) for item in items()]
    await published(store, tmp_path, listed, checksum)
    download = msgspec.structs.replace(
        a_download(tmp_path), source=SourceRef("s3", "others", "v2/")
    )
    await planned(store, download, listed)
    proven = ["a"] if checksum else []
    assert [f.path for f in await taken(store, download, Checksums(**SAME_A))] == proven


async def test_without_a_validator_no_version_is_the_same(store: Store, tmp_path: Path) -> None:
    await published(store, tmp_path, [changed(item, validator="") for item in items()])
    download = a_download(tmp_path)
    await planned(store, download, [changed(item, validator="") for item in items()])
    assert await taken(store, download) == []


async def test_an_object_that_is_not_as_listed_is_fetched(store: Store, tmp_path: Path) -> None:
    """If a listing has other ETags than the objects."""
    await published(store, tmp_path, items(), checksum="CRC64NVME:same")
    source = Checksums()
    source.error = DownloaderError(ErrorCode.SOURCE_CHANGED, "it has another ETag")
    download = a_download(tmp_path)
    await planned(store, download, [changed(item, validator="anew-2") for item in items()])
    assert await taken(store, download, source) == []


async def test_a_checksum_that_is_asked_for_decides(store: Store, tmp_path: Path) -> None:
    await published(store, tmp_path, items(a="5a", **{"deep/b": "5b"}))
    download = a_download(tmp_path)
    a, b = items(a="5a")
    await planned(store, download, [changed(a, validator="other"), b._replace(sha256="5c")])
    assert [file.path for file in await taken(store, download)] == ["a"]


async def test_what_is_gone_is_forgotten(store: Store, tmp_path: Path) -> None:
    await published(store, tmp_path, items())
    (tmp_path / "m" / "a").unlink()
    places = [f"{tmp_path}/m/{path}" for path in FILES]
    await reuse.delete_missing(store, excluded=(places[0],))
    assert len(await store.published(places)) == 2
    await reuse.delete_missing(store, excluded=())
    assert [known.file for known in await store.published(places)] == [places[1]]
