"""What is to be fetched: the source's objects, each with a safe path, before a byte moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple, Protocol

from ...core.aio import batches
from ...core.errors import DownloaderError, ErrorCode
from ...core.records import Download
from ...store import Item, Store
from ..publishing.publish import remove_staged
from . import path_safety
from .checksum_manifest import MOST_BYTES, ChecksumManifest, is_manifest

__all__ = ["Differences", "Listing", "make_plan"]


class Listed(Protocol):
    """What a listing tells of an object; `etag` is its validator, which may be empty."""

    @property
    def key(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def etag(self) -> str: ...


class Listing(Protocol):
    """What the plan needs of a source."""

    def list(self, bucket: str, prefix: str) -> AsyncIterator[Listed]:
        """Go through the objects under a prefix, without empty folder markers.

        Raises LISTING_INCOMPLETE rather than leave objects out.
        """

    async def head(self, bucket: str, key: str) -> Listed:
        """Return one object; raise BUCKET_NOT_FOUND or OBJECT_NOT_FOUND."""

    async def read(self, bucket: str, key: str, etag: str, size: int) -> bytes:
        """Return a small object; raise SOURCE_CHANGED if it has another validator or size."""


class Differences(NamedTuple):
    """In what a plan differs from the one before it, new files aside."""

    gone: int
    """How many files have left the source."""
    replaced: int
    """How many are another object now."""
    first_replaced: str
    """The key of one of these, empty for none."""
    left_out: int = 0
    """How many objects cannot become files: they have content, and keys that end in `/`."""
    first_left_out: str = ""
    """The key of one of these, empty for none."""


async def make_plan(download: Download, listing: Listing, store: Store) -> Differences:
    """Bring the files of `download` in the store up to date with the source, as plan `plan`.

    What is done already stays done while its object is the same; what is no longer in the source
    leaves the staging folder too. Each file gets the SHA-256 that the command or a SHA256SUMS gives
    it. Raises UNSAFE_KEY, NO_OBJECTS_MATCHED, INVALID_CHECKSUMS, INVALID_FIELD,
    DESTINATION_NOT_WRITABLE, and the listing's errors.
    """
    found = False
    left_out, first_left_out = 0, ""
    replaced, first_replaced = 0, ""
    sums: list[Item] = []
    destination = Path(download.destination)
    merges = destination.exists() and not (download.replaces and download.is_prefix)
    check_target = path_safety.TargetCheck(destination) if merges else None
    async for items in batches(_items(download, listing)):
        batch = [item for item in items if not item.key.endswith("/")]
        left_out += len(items) - len(batch)
        first_left_out = first_left_out or _first_folder(items)
        found = found or bool(batch)
        for item in batch:
            path_safety.check_path(destination, item.path, item.key)
        sums += [item for item in batch if is_manifest(item.path)]
        if check_target:
            await asyncio.to_thread(check_target, [item.path for item in batch])
        others = await store.plan(download.download_id, download.plan, batch)
        replaced += len(others)
        first_replaced = first_replaced or next(iter(others), "")
    if not found:
        raise DownloaderError(
            ErrorCode.NO_OBJECTS_MATCHED,
            f"there is no object under s3://{download.bucket}/{download.key}"
            + (f" but {left_out} whose key ends in /" if left_out else "")
            + "; check the prefix, or leave the / at its end away to name one object",
        )
    if outdated := await store.outdated(download.download_id, download.plan):
        # The files go before their records: an interruption in between forgets none of them.
        await asyncio.to_thread(remove_staged, download, outdated)
        await store.drop_outdated(download.download_id, download.plan)
    if download.is_prefix:
        await _expect_sums(download, listing, store, sums if download.options.verify else [])
    return Differences(len(outdated), replaced, first_replaced, left_out, first_left_out)


async def _expect_sums(
    download: Download, listing: Listing, store: Store, found: list[Item]
) -> None:
    """Give the files below a prefix the SHA-256 of the command, or else of `found` SHA256SUMS."""
    given = download.sha256 if isinstance(download.sha256, dict) else {}
    if not given and not found:
        await store.expect_nothing(download.download_id)
        return
    sums = ChecksumManifest(given)
    for item in sorted(found, key=lambda item: item.path.count("/")):
        if item.size > MOST_BYTES:
            raise DownloaderError(
                ErrorCode.INVALID_CHECKSUMS,
                f"s3://{download.bucket}/{item.key} has {item.size} bytes, and at most"
                f" {MOST_BYTES} are read; divide it among the folders, or set verify to false",
            )
        text = await _read(download.bucket, item, listing)
        await asyncio.to_thread(sums.add, item.path, text)
    async for batch in batches(store.files(download.download_id)):
        wanted = [(sums.of(file.path), file) for file in batch]
        changed = [(sha256, file.number) for sha256, file in wanted if sha256 != file.sha256]
        if changed:
            await store.expect(changed)
    sums.check_given()


def _first_folder(items: list[Item]) -> str:
    return next((item.key for item in items if item.key.endswith("/")), "")


async def _read(bucket: str, item: Item, listing: Listing) -> bytes:
    """Read an object, by its own validator where its listing tells another.

    Were it replaced just now, the next listing would show that, and the plan be made anew.
    """
    try:
        return await listing.read(bucket, item.key, item.etag, item.size)
    except DownloaderError as error:
        if error.code is not ErrorCode.SOURCE_CHANGED:
            raise
        own = await listing.head(bucket, item.key)
        if own.size != item.size:
            raise
    return await listing.read(bucket, item.key, own.etag, item.size)


async def _items(download: Download, listing: Listing) -> AsyncIterator[Item]:
    if not download.is_prefix:
        listed = await listing.head(download.bucket, download.key)
        name = download.key.rpartition("/")[2]
        sha256 = download.sha256.lower() if isinstance(download.sha256, str) else ""
        yield Item(name, listed.key, listed.size, listed.etag, sha256)
        return
    async for listed in listing.list(download.bucket, download.key):
        yield Item(listed.key[len(download.key) :], listed.key, listed.size, listed.etag)
