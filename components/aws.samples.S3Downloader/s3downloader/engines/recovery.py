"""What both engines do with the whole files that an earlier fetch left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Container

from ..core.records import FileRecord
from .base import Sink
from .staging import Staging, is_left
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
    """Report those of `files` that lie whole in `staging` and pass `verifier`.

    Files whose numbers are `excluded` are left as they are. What arrived of a file that is not
    whole, and cannot be continued, is removed.
    """
    left = await asyncio.to_thread(staging.leftovers)
    if not left:
        return
    found = [
        file
        async for file in files
        if file.number in left and file.number not in excluded and is_left(file, left[file.number])
    ]
    here = (await asyncio.to_thread(staging.move_arrived, found)).whole
    whole = (await verifier.verify_staged(staging, here)).good
    if whole:
        sink.progress(sum(file.size for file in whole))
        await sink.finished(whole)
