"""Changes the states and records of downloads. A change is on disk before it is announced."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from ..contract.encode import encode
from ..core.aio import uninterrupted
from ..core.clock import Clock
from ..core.errors import DownloaderError, ErrorCode
from ..core.records import TRANSITIONS, Download, Exchange, Failure, Options, State
from ..store import Change, Totals
from ..store.outbox import Outbox
from . import events
from .active_download import ActiveDownload
from .events import Announcement

__all__ = ["CommandContext", "StateMachine", "check_resumable", "invalid_state", "require"]

log = logging.getLogger(__name__)

_PASSING = frozenset({State.PLANNING, State.VERIFYING})
"""States whose records are not synced: no event announces them. If a loss of power undoes one, the
download is queued or downloading again, and enters it once more."""


class CommandContext(NamedTuple):
    """The id of a command on a download, and the function that makes its response afterwards."""

    command_id: str
    make_response: Callable[[Download], bytes]


class StateMachine:
    """Changes the records of downloads. Nothing else does.

    An `async` method records its change in one transaction with its events and its response, and
    returns when that is on disk. A change of state or options is completed even if the caller is
    cancelled. The other methods change the record in memory only. The database gets their changes
    with the next recorded one.

    A change of state raises INVALID_STATE unless TRANSITIONS allows it. If the database refuses a
    change of state or options, its error is raised, and nothing changes.
    """

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        max_bytes: Callable[[], int],
        on_change: Callable[[ActiveDownload], None],
    ) -> None:
        """`max_bytes` returns the limit of a message; `on_change` is called after a new state."""
        self._outbox = outbox
        self._clock = clock
        self._max_bytes = max_bytes
        self._on_change = on_change

    # --- Commands --------------------------------------------------------------------------------

    async def open(self, active: ActiveDownload, context: CommandContext) -> None:
        """Record a new download."""
        await uninterrupted(self._enter(active, {}, context=context))

    async def pause(self, active: ActiveDownload, context: CommandContext) -> None:
        """Enter PAUSED."""
        await self._advance(active, State.PAUSED, events.paused, context=context)

    async def cancel(self, active: ActiveDownload, context: CommandContext) -> None:
        """Enter CANCELLED, and delete the records of the files."""
        await self._advance(active, State.CANCELLED, events.cancelled, context=context)

    async def resume(self, active: ActiveDownload, context: CommandContext) -> None:
        """Enter QUEUED by a command. The timeout starts again."""
        await self._advance(
            active, State.QUEUED, events.resumed, context=context, active_seconds=0.0
        )

    async def amend(
        self, active: ActiveDownload, options: Options, context: CommandContext
    ) -> None:
        """Record changed options. The state stays the same."""
        await uninterrupted(self._amend(active, options, context))

    # --- Steps of a download ---------------------------------------------------------------------

    async def begin_plan(self, active: ActiveDownload) -> None:
        """Enter PLANNING, with the number of the next plan."""
        await self._advance(active, State.PLANNING, plan=active.download.plan + 1)

    async def begin_fetch(self, active: ActiveDownload) -> None:
        """Enter DOWNLOADING. It is announced only the first time."""
        announced = () if active.download.started else (events.started,)
        await self._advance(active, State.DOWNLOADING, *announced, started=True)

    async def begin_verification(self, active: ActiveDownload) -> None:
        """Enter VERIFYING, with the number of the next plan: the source is listed again."""
        await self._advance(active, State.VERIFYING, plan=active.download.plan + 1)

    async def begin_publishing(self, active: ActiveDownload, exchange: Exchange | None) -> None:
        """Enter PUBLISHING. `exchange` is that of a `publish: replace`, else None."""
        await self._advance(active, State.PUBLISHING, publish_began=True, exchange=exchange)

    async def complete(
        self, active: ActiveDownload, *announced: Announcement, also: Change
    ) -> None:
        """Enter COMPLETED. `also` has the changes of models and versions in the transaction."""
        await self._advance(active, State.COMPLETED, events.completed, *announced, also=also)

    async def wait(self, active: ActiveDownload, failure: Failure) -> None:
        """Enter WAITING, because of a transient failure."""
        await self._advance(active, State.WAITING, failure=failure)

    async def fail(self, active: ActiveDownload, failure: Failure) -> None:
        """Enter FAILED."""
        await self._advance(active, State.FAILED, events.failed, failure=failure)

    async def queue(self, active: ActiveDownload) -> None:
        """Enter QUEUED without a command: after a wait, or to start again."""
        await self._advance(active, State.QUEUED)

    # --- What is recorded with the next change ---------------------------------------------------

    def requeue(self, active: ActiveDownload) -> None:
        """Set the state to QUEUED, in memory, for a download in an active state that does not run.

        A restart would do the same. A download in PUBLISHING stays in it.
        """
        if active.download.state is not State.PUBLISHING:
            self._update(active, state=State.QUEUED)

    def planned(self, active: ActiveDownload, totals: Totals) -> None:
        """Set the sums over the files of a new plan."""
        self._update(active, **totals._asdict())

    def files_done(self, active: ActiveDownload, count: int) -> None:
        """Add `count` finished files. The database has their records already."""
        self._update(active, files_done=active.download.files_done + count)

    async def save_progress(self, downloads: Iterable[ActiveDownload]) -> None:
        """Record the progress and times of those downloads whose record changes with time."""
        at_work = [
            active
            for active in downloads
            if active.changes_with_time and not active.writing.locked()
        ]
        for active in at_work:
            now = self._clock.monotonic()
            self._update(active, **_progress(active, now))
            active.count_from(now)
        if at_work:
            await self._outbox.record(Change(downloads=[active.download for active in at_work]))

    # --- How a change is made --------------------------------------------------------------------

    def _update(self, active: ActiveDownload, **changes: Any) -> None:
        active.set_record(msgspec.structs.replace(active.download, **changes))

    async def _advance(
        self,
        active: ActiveDownload,
        state: State,
        *announced: Announcement,
        context: CommandContext | None = None,
        also: Change | None = None,
        failure: Failure | None = None,
        **changes: Any,
    ) -> None:
        require(active.download, state)
        changes = {**changes, "state": state, "failure": failure}
        await uninterrupted(self._enter(active, changes, announced, context, also))

    async def _enter(
        self,
        active: ActiveDownload,
        changes: dict[str, Any],
        announced: Sequence[Announcement] = (),
        context: CommandContext | None = None,
        also: Change | None = None,
    ) -> None:
        async with active.writing:
            at = self._clock.now()
            progress = _progress(active, self._clock.monotonic())
            changes = {"updated_at": at, **progress, **changes}
            download = msgspec.structs.replace(active.download, **changes)
            await self._record(download, at, announced, context, also)
            # Another method may have changed other fields meanwhile. The next change records them.
            download = msgspec.structs.replace(active.download, **changes)
            active.enter_state(download, self._clock.monotonic())
        log.info("download %s is %s", download.download_id, download.state.value)
        self._on_change(active)

    async def _amend(
        self, active: ActiveDownload, options: Options, context: CommandContext
    ) -> None:
        async with active.writing:
            download = msgspec.structs.replace(active.download, options=options)
            await self._record(download, self._clock.now(), context=context)
            self._update(active, options=options)

    async def _record(
        self,
        download: Download,
        at: float,
        announced: Sequence[Announcement] = (),
        context: CommandContext | None = None,
        also: Change | None = None,
    ) -> None:
        command_id = context.command_id if context else download.command_id
        await self._outbox.record(
            msgspec.structs.replace(
                also or Change(),
                at=at,
                downloads=[download],
                clear_files=[download.download_id] if download.state is State.CANCELLED else [],
                durable=bool(announced or context) or download.state not in _PASSING,
                responses=[(context.command_id, context.make_response(download))]
                if context
                else [],
                events=[
                    encode(announce(download, command_id, at), self._max_bytes())
                    for announce in announced
                ],
            )
        )


def _progress(active: ActiveDownload, now: float) -> dict[str, Any]:
    """Return the fields of a record that have the progress and the times."""
    return {
        "seconds": active.seconds(now),
        "active_seconds": active.active_seconds(now),
        "bytes_done": active.meter.bytes_done,
    }


def invalid_state(download: Download, why: str) -> DownloaderError:
    """Return the INVALID_STATE error for the state of `download`. `why` ends its sentence."""
    return DownloaderError(
        ErrorCode.INVALID_STATE,
        f"the download {download.download_id!r} is {download.state.value}{why}",
        download_id=download.download_id,
        status=download.state.value,
    )


def require(download: Download, state: State) -> None:
    """Raise INVALID_STATE unless `download` may enter `state` now."""
    if state not in TRANSITIONS[download.state]:
        raise invalid_state(download, f" and cannot become {state.value}")


def check_resumable(download: Download) -> None:
    """Raise INVALID_STATE unless a command may resume `download`."""
    if download.state not in (State.PAUSED, State.FAILED, State.WAITING):
        raise invalid_state(download, "; only a paused, failed or waiting download can be resumed")
