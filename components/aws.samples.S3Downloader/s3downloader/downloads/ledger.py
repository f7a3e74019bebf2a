"""Moves downloads between states: allowed by the table, on disk first, announced after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from ..aio import uninterrupted
from ..clock import Clock
from ..contract.encode import encode
from ..errors import DownloaderError, ErrorCode
from ..outbox import Outbox
from ..records import TRANSITIONS, Download, Failure, State
from ..store import Change
from .entry import Entry
from .events import Announcement, started

__all__ = ["Asked", "Ledger", "check_resumable", "require"]

log = logging.getLogger(__name__)

_WORKING = frozenset({State.PLANNING, State.DOWNLOADING, State.VERIFYING, State.PUBLISHING})


class Asked(NamedTuple):
    """A command on a download: its id, and what to answer once it has been carried out."""

    command_id: str
    answer: Callable[[Download], bytes]


class Ledger:
    """Writes what becomes of downloads, together with the events and answers that tell it."""

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        max_bytes: Callable[[], int],
        on_change: Callable[[], None],
    ) -> None:
        """`max_bytes` bounds each message; `on_change` is called after every change of a state."""
        self._outbox = outbox
        self._clock = clock
        self._max_bytes = max_bytes
        self._on_change = on_change

    async def open(self, download: Download, asked: Asked) -> None:
        """Record a new download."""
        await uninterrupted(self._record(download, (), asked, Change()))

    async def advance(
        self,
        entry: Entry,
        state: State,
        *,
        events: Sequence[Announcement] = (),
        asked: Asked | None = None,
        failure: Failure | None = None,
        models: dict[str, Any] | None = None,
        also: Change | None = None,
        **changes: Any,
    ) -> None:
        """Bring `entry` into `state`, recorded in one step with its events, answer and models.

        `also` has what else is recorded with it.

        Once begun it is carried out, even if the caller is cancelled meanwhile.
        """
        require(entry.download, state)
        if state is State.DOWNLOADING and not entry.download.started:
            events, changes = (*events, started), {**changes, "started": True}
        also = msgspec.structs.replace(also or Change(), models=models or {})
        entering = self._enter(entry, state, events, asked, also, failure, changes)
        await uninterrupted(entering)

    async def save_progress(self, entries: Iterable[Entry]) -> None:
        """Write down how far the downloads at work are, and for how long they have worked."""
        at_work = [e for e in entries if e.working_since is not None and not e.entering]
        for entry in at_work:
            entry.download = msgspec.structs.replace(
                entry.download,
                seconds=entry.download.seconds + self._worked(entry),
                bytes_done=entry.meter.bytes_done,
            )
            entry.working_since = self._clock.monotonic()
        if at_work:
            await self._outbox.record(Change(downloads=[entry.download for entry in at_work]))

    def _worked(self, entry: Entry) -> float:
        """Return the seconds of work that are not in the record yet."""
        since = entry.working_since
        return 0.0 if since is None else self._clock.monotonic() - since

    async def _enter(
        self,
        entry: Entry,
        state: State,
        events: Sequence[Announcement],
        asked: Asked | None,
        also: Change,
        failure: Failure | None,
        changes: dict[str, Any],
    ) -> None:
        download = msgspec.structs.replace(
            entry.download,
            state=state,
            updated_at=self._clock.now(),
            seconds=entry.download.seconds + self._worked(entry),
            bytes_done=entry.meter.bytes_done,
            failure=failure,
            **changes,
        )
        entry.entering = True
        try:
            await self._record(download, events, asked, also)
        finally:
            entry.entering = False
        entry.download = download
        entry.entered = self._clock.monotonic()
        entry.working_since = entry.entered if state in _WORKING else None
        log.info("download %s is %s", download.download_id, state.value)
        self._on_change()

    async def _record(
        self,
        download: Download,
        events: Sequence[Announcement],
        asked: Asked | None,
        also: Change,
    ) -> None:
        command_id = asked.command_id if asked else download.command_id
        at = download.updated_at
        await self._outbox.record(
            msgspec.structs.replace(
                also,
                at=at,
                downloads=[download],
                unplanned=[download.download_id] if download.state is State.CANCELLED else [],
                answers=[(asked.command_id, asked.answer(download))] if asked else [],
                events=[
                    encode(announce(download, command_id, at), self._max_bytes())
                    for announce in events
                ],
            )
        )


def require(download: Download, state: State) -> None:
    """Raise INVALID_STATE unless `download` may enter `state` now."""
    if state not in TRANSITIONS[download.state]:
        raise DownloaderError(
            ErrorCode.INVALID_STATE,
            f"the download {download.download_id!r} is {download.state.value} and cannot become"
            f" {state.value}",
            download_id=download.download_id,
            status=download.state.value,
        )


def check_resumable(download: Download) -> None:
    """Raise INVALID_STATE unless a command may let `download` go on."""
    if download.state not in (State.PAUSED, State.FAILED, State.WAITING):
        raise DownloaderError(
            ErrorCode.INVALID_STATE,
            f"the download {download.download_id!r} is {download.state.value}; only a paused,"
            " failed or waiting one can be resumed",
            download_id=download.download_id,
            status=download.state.value,
        )
