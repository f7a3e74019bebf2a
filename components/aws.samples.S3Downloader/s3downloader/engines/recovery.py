"""Reports the complete files that an earlier fetch left in the staging folder, for both engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Container

from ..core.records import FileRecord
from .base import Sink
from .staging import Staging, matches_leftover
from .verification import Verifier

__all__ = ["report_leftovers"]


async def report_leftovers(
    staging: Staging,
    files: AsyncIterable[FileRecord],
    verifier: Verifier,
    sink: Sink,
    *,
    excluded: Container[int] = (),
) -> None:
    """Report to `sink` those of `files` that are complete in `staging` and pass `verifier`.

    `excluded` are numbers of files that are not touched. Files that are neither complete nor can
    be continued are removed. Raises OSError, and DownloaderError if a checksum is needed and cannot
    be requested.
    """
    left = await asyncio.to_thread(staging.leftovers)
    if not left:
        return
    found = [
        file
        async for file in files
        if file.number in left
        and file.number not in excluded
        and matches_leftover(file, left[file.number])
    ]
    here = (await asyncio.to_thread(staging.move_arrived, found)).complete
    complete = (await verifier.verify_staged(staging, here)).good
    if complete:
        sink.progress(sum(file.size for file in complete))
        await sink.finished(complete)
