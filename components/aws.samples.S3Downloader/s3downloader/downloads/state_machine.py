"""Changes the records of downloads: allowed by the table, on disk first, announced after."""

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
"""States whose record needs no sync of its own: no event tells them, and a loss of power that takes
them leaves the download queued, or downloading, from where it comes to them again."""


class CommandContext(NamedTuple):
    """A command on a download: its id, and how to make its response once it is carried out."""

    command_id: str
    make_response: Callable[[Download], bytes]


class StateMachine:
    """The one writer of the records of downloads.

    An `async` method records its change now, in one step with its events and response, and
    returns once that is on disk. A change of state or options, once begun, is carried out even if
    the caller is cancelled. The other methods change the record in memory, and the store gets that
    with the next change that is recorded.

    A change of state raises INVALID_STATE unless TRANSITIONS allows it. A change of state or
    options that the store refuses raises its error, and changes nothing.
    """

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        max_bytes: Callable[[], int],
        on_change: Callable[[ActiveDownload], None],
    ) -> None:
        """`max_bytes` bounds each message; `on_change` is called after each change of a state."""
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
        """Enter CANCELLED; the store forgets the files with it."""
        await self._advance(active, State.CANCELLED, events.cancelled, context=context)

    async def resume(self, active: ActiveDownload, context: CommandContext) -> None:
        """Enter QUEUED by a command, from where the timeout counts anew."""
        await self._advance(
            active, State.QUEUED, events.resumed, context=context, active_seconds=0.0
        )

    async def amend(
        self, active: ActiveDownload, options: Options, context: CommandContext
    ) -> None:
        """Record changed options; the state stays."""
        await uninterrupted(self._amend(active, options, context))

    # --- Steps of a download ---------------------------------------------------------------------

    async def begin_plan(self, active: ActiveDownload) -> None:
        """Enter PLANNING with the next plan's number."""
        await self._advance(active, State.PLANNING, plan=active.download.plan + 1)

    async def begin_fetch(self, active: ActiveDownload) -> None:
        """Enter DOWNLOADING; announced the first time only."""
        announced = () if active.download.started else (events.started,)
        await self._advance(active, State.DOWNLOADING, *announced, started=True)

    async def begin_verification(self, active: ActiveDownload) -> None:
        """Enter VERIFYING with the next plan's number, as the source is listed again."""
        await self._advance(active, State.VERIFYING, plan=active.download.plan + 1)

    async def begin_publishing(self, active: ActiveDownload, exchange: Exchange | None) -> None:
        """Enter PUBLISHING; `exchange` is how a `publish: replace` puts the files in place."""
        await self._advance(active, State.PUBLISHING, publish_began=True, exchange=exchange)

    async def complete(
        self, active: ActiveDownload, *announced: Announcement, also: Change
    ) -> None:
        """Enter COMPLETED, together with what `also` records of models and versions."""
        await self._advance(active, State.COMPLETED, events.completed, *announced, also=also)

    async def wait(self, active: ActiveDownload, failure: Failure) -> None:
        """Enter WAITING, because of a failure that passes by itself."""
        await self._advance(active, State.WAITING, failure=failure)

    async def fail(self, active: ActiveDownload, failure: Failure) -> None:
        """Enter FAILED."""
        await self._advance(active, State.FAILED, events.failed, failure=failure)

    async def queue(self, active: ActiveDownload) -> None:
        """Enter QUEUED by itself: after a wait, or to begin again."""
        await self._advance(active, State.QUEUED)

    # --- What is recorded with the next change ---------------------------------------------------

    def requeue(self, active: ActiveDownload) -> None:
        """Let a download be queued on which nobody works though its record says so.

        A restart would queue it as well. One that is publishing stays so.
        """
        if active.download.state is not State.PUBLISHING:
            self._update(active, state=State.QUEUED)

    def planned(self, active: ActiveDownload, totals: Totals) -> None:
        """Take over the sums of a plan's files."""
        self._update(active, **totals._asdict())

    def files_done(self, active: ActiveDownload, count: int) -> None:
        """Count so many more files as done; the store has each of them already."""
        self._update(active, files_done=active.download.files_done + count)

    async def save_progress(self, downloads: Iterable[ActiveDownload]) -> None:
        """Record how far the downloads at work are, and how long work and time to it took."""
        at_work = [active for active in downloads if active.ages and not active.writing.locked()]
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
            # Another method may have changed other fields meanwhile: these go with the next change.
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
    """Return what a record says of how far a download is, and how long that took."""
    return {
        "seconds": active.seconds(now),
        "active_seconds": active.active_seconds(now),
        "bytes_done": active.meter.bytes_done,
    }


def invalid_state(download: Download, why: str) -> DownloaderError:
    """Return the error that names the state of `download`; `why` ends its sentence."""
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
    """Raise INVALID_STATE unless a command may let `download` go on."""
    if download.state not in (State.PAUSED, State.FAILED, State.WAITING):
        raise invalid_state(download, "; only a paused, failed or waiting one can be resumed")
