"""The cost of a download does not grow with the number of downloads in the list."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from s3downloader.core.objects import SourceRef
from s3downloader.core.records import Download, Options, State
from s3downloader.store import Change, Store

from ..support import ManualClock
from .harness import Harness


class Calls:
    """Counts the calls of Python functions in this thread; a context manager."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Calls:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, argument: Any) -> None:
        self.count += event == "call"


def paused(harness: Harness, number: int) -> Download:
    place = str(harness.downloads / f"paused-{number}")
    return Download(
        download_id=f"paused-{number}",
        command_id="before",
        source=SourceRef("s3", "models", "m/"),
        layout="tree",
        destination=place,
        staging=f"{place}/.s3downloader/0",
        options=Options(),
        state=State.PAUSED,
        created_at=number,
        updated_at=number,
    )


async def calls_of_a_download(harness: Harness, name: str) -> int:
    with Calls() as calls:
        await harness.download(name, name, name)
        await harness.completed(name)
    return calls.count


async def test_the_work_for_a_download_does_not_grow_with_those_listed(
    harness: Harness, clock: ManualClock
) -> None:
    harness.configuration["StatusMinInterval"] = 3_600
    harness.source.objects = dict.fromkeys(["first", "alone", "among"], 10)
    async with harness.running():
        await calls_of_a_download(harness, "first")
        alone = await calls_of_a_download(harness, "alone")
    others = [paused(harness, n) for n in range(500)]
    store = Store(harness.directory / "state")
    await store.record(Change(downloads=others))
    await store.close()
    async with harness.running():
        among = await calls_of_a_download(harness, "among")
    assert among < 2 * alone
