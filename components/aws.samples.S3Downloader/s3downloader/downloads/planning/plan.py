"""Plans a download: lists its source into the database, and checks every path before the fetch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from ...core.aio import batches
from ...core.errors import DownloaderError, ErrorCode
from ...core.objects import ObjectRef
from ...core.records import Download
from ...sources.base import Source
from ...store import Item, Store
from ..publishing.publish import remove_staged
from . import path_safety
from .checksum_manifest import MOST_BYTES, ChecksumManifest, is_manifest

__all__ = ["Differences", "make_plan"]


class Differences(NamedTuple):
    """How a plan differs from the one before it. New files are not counted."""

    removed: int
    """The number of files whose objects are no longer in the source."""
    replaced: int
    """The number of files whose objects have changed."""
    first_replaced: str
    """The name of one of these objects. Empty if there is none."""
    left_out: int = 0
    """The number of objects that cannot become files: they have content, and end in `/`."""
    first_left_out: str = ""
    """The name of one of these objects. Empty if there is none."""


async def make_plan(download: Download, source: Source, store: Store) -> Differences:
    """List the source, and update the records of the files of `download`.

    The number of the plan is `download.plan`. A file that is done stays done if its object has not
    changed. Files that are no longer in the source are also removed from the staging folder. Each
    file gets the SHA-256 that the command or a SHA256SUMS has for it. Raises UNSAFE_KEY,
    NO_OBJECTS_MATCHED, INVALID_CHECKSUMS, INVALID_FIELD, DESTINATION_NOT_WRITABLE, and the errors
    of the source.
    """
    found = False
    left_out, first_left_out = 0, ""
    replaced, first_replaced = 0, ""
    sums: list[Item] = []
    destination = Path(download.destination)
    merges = destination.exists() and not (download.replaces and download.is_tree)
    check_target = path_safety.TargetCheck(destination) if merges else None
    async for items in batches(_items(download, source)):
        batch = [item for item in items if not item.object.name.endswith("/")]
        left_out += len(items) - len(batch)
        first_left_out = first_left_out or _first_folder(items)
        found = found or bool(batch)
        for item in batch:
            path_safety.check_path(destination, item.path, item.object.name)
        sums += [item for item in batch if is_manifest(item.path)]
        if check_target:
            await asyncio.to_thread(check_target, [item.path for item in batch])
        others = await store.plan(download.download_id, download.plan, batch)
        replaced += len(others)
        first_replaced = first_replaced or next(iter(others), "")
    if not found:
        raise DownloaderError(
            ErrorCode.NO_OBJECTS_MATCHED,
            f"there is no object below {download.source}"
            + (f", except {left_out} with a key that ends in /" if left_out else "")
            + "; check the prefix, or omit the / at its end to name one object",
        )
    if outdated := await store.outdated(download.download_id, download.plan):
        # Files are removed before their records. An interruption then leaves no unknown file.
        await asyncio.to_thread(remove_staged, download, outdated)
        await store.drop_outdated(download.download_id, download.plan)
    if download.is_tree:
        await _set_checksums(download, source, store, sums if download.options.verify else [])
    return Differences(len(outdated), replaced, first_replaced, left_out, first_left_out)


async def _set_checksums(
    download: Download, source: Source, store: Store, found: list[Item]
) -> None:
    """Record the SHA-256 of a tree's files, from the command and from the `found` SHA256SUMS."""
    given = download.sha256 if isinstance(download.sha256, dict) else {}
    if not given and not found:
        await store.clear_sha256(download.download_id)
        return
    sums = ChecksumManifest(given)
    for item in sorted(found, key=lambda item: item.path.count("/")):
        if item.object.size > MOST_BYTES:
            raise DownloaderError(
                ErrorCode.INVALID_CHECKSUMS,
                f"{download.source.uri_of(item.object.name)} has {item.object.size} bytes, and at"
                f" most {MOST_BYTES} are allowed; write one for each folder, or set verify to"
                " false",
            )
        text = await _read(source, item.object)
        await asyncio.to_thread(sums.add, item.path, text)
    async for batch in batches(store.files(download.download_id)):
        wanted = [(sums.of(file.path), file) for file in batch]
        changed = [(sha256, file.number) for sha256, file in wanted if sha256 != file.sha256]
        if changed:
            await store.set_sha256(changed)
    sums.check_given()


def _first_folder(items: list[Item]) -> str:
    return next((item.object.name for item in items if item.object.name.endswith("/")), "")


async def _read(source: Source, listed: ObjectRef) -> bytes:
    """Read a small object. If its validator is not that of its listing, request its own.

    If the object was replaced just now, the next listing shows it, and a new plan is made.
    """
    try:
        return await source.read_small(listed)
    except DownloaderError as error:
        if error.code is not ErrorCode.SOURCE_CHANGED:
            raise
        own = await source.stat(listed.name)
        if own.size != listed.size:
            raise
    return await source.read_small(own)


async def _items(download: Download, source: Source) -> AsyncIterator[Item]:
    path = download.source.path
    if not download.is_tree:
        sha256 = download.sha256.lower() if isinstance(download.sha256, str) else ""
        yield Item(path.rpartition("/")[2], await source.stat(path), sha256)
        return
    async for listed in source.list():
        yield Item(listed.name[len(path) :], listed)
