"""Records of published files move with their folders."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from s3downloader.core.records import Rollback, Version
from s3downloader.store import Change, Published, Store

PATHS = ["/d/m", "/d/m-2/a", "/d/m.a", "/d/m/a", "/d/m/é/漢", "/d/m0", "/d/n/b"]
VERSION = Version(
    number=1,
    target="/d/m",
    path="/d/v/m",
    models={"m": {"model_id": "m"}},
    rollback=Rollback(inode=7, models={"m": {}}, before={}, responses=[("c", b"{}")]),
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A store in which each of `PATHS` is published."""
    store = Store(tmp_path)
    await store.record_published(
        [Published(path, 1, f"etag of {path}", "", "", 2, 3) for path in PATHS]
    )
    yield store
    await store.close()


async def known(store: Store) -> dict[str, str]:
    """Return the recorded paths and their ETags."""
    paths = [path async for page in store.published_files() for path in page]
    return {file.file: file.validator for file in await store.published(paths)}


async def test_a_path_moves_with_all_below_it_and_nothing_beside_it(store: Store) -> None:
    await store.record(Change(moved=[("/d/m", "/d/n")]))
    assert await known(store) == {
        "/d/n": "etag of /d/m",
        "/d/n/a": "etag of /d/m/a",
        "/d/n/é/漢": "etag of /d/m/é/漢",
        **{path: f"etag of {path}" for path in ("/d/m-2/a", "/d/m.a", "/d/m0")},
    }


async def test_a_file_is_known_with_the_download_that_wrote_it(store: Store) -> None:
    [of_none] = await store.published(["/d/m/a"])
    assert of_none.download_id == ""
    written = of_none._replace(download_id="d1", mtime_ns=4)
    await store.record_published([written])
    await store.record(Change(moved=[("/d/m", "/d/n")]))
    assert await store.published(["/d/n/a"]) == [written._replace(file="/d/n/a")]


async def test_two_places_change_places(store: Store) -> None:
    moved = [("/d/m", "/d/x"), ("/d/n", "/d/m"), ("/d/x", "/d/n")]
    await store.record(Change(moved=moved))
    await store.record(Change(moved=moved))
    assert await known(store) == {path: f"etag of {path}" for path in PATHS}


async def test_a_version_is_kept_with_its_details_until_it_is_removed(
    store: Store,
) -> None:
    await store.record(Change(versions=[VERSION], moved=[("/d/m", VERSION.path)]))
    assert await store.versions() == [VERSION]
    pending_delete = msgspec.structs.replace(VERSION, pending_delete=True, rollback=None)
    await store.record(Change(versions=[pending_delete]))
    assert await store.versions() == [pending_delete]
    await store.record(Change(deleted_versions=[pending_delete]))
    assert await store.versions() == []
    assert set(await known(store)) == {"/d/m-2/a", "/d/m.a", "/d/m0", "/d/n/b"}


async def test_a_file_that_is_published_again_is_known_as_it_is_now(store: Store) -> None:
    await store.record_published([Published("/d/m/a", 9, "new", "5a", "CRC32:x", 8, 7)])
    assert await store.published(["/d/m/a", "/d/unknown"]) == [
        Published("/d/m/a", 9, "new", "5a", "CRC32:x", 8, 7)
    ]
    await store.delete_published(["/d/m/a"])
    assert await store.published(["/d/m/a"]) == []
