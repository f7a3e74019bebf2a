"""Moves downloads between states: allowed by the table, on disk first, announced after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from ..contract.encode import encode
from ..core.aio import uninterrupted
from ..core.clock import Clock
from ..core.errors import DownloaderError, ErrorCode
from ..core.records import ACTIVE, TRANSITIONS, Download, Failure, Options, State
from ..store import Change
from ..store.outbox import Outbox
from .active_download import ActiveDownload
from .events import Announcement, started

__all__ = ["CommandContext", "StateMachine", "check_resumable", "invalid_state", "require"]

log = logging.getLogger(__name__)

_PASSING = frozenset({State.PLANNING, State.VERIFYING})
"""States whose record needs no sync of its own: no event tells them, and a loss of power that takes
them leaves the download queued, or downloading, from where it comes to them again."""
_WORKING = frozenset({State.PLANNING, State.DOWNLOADING, State.VERIFYING, State.PUBLISHING})


class CommandContext(NamedTuple):
    """A command on a download: its id, and how to make its response once it is carried out."""

    command_id: str
    make_response: Callable[[Download], bytes]


class StateMachine:
    """Writes what becomes of downloads, together with their events and responses."""

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

    async def open(self, download: Download, context: CommandContext) -> None:
        """Record a new download."""
        await uninterrupted(self._record(download, (), context, Change()))

    async def advance(
        self,
        active: ActiveDownload,
        state: State,
        *,
        events: Sequence[Announcement] = (),
        context: CommandContext | None = None,
        failure: Failure | None = None,
        models: dict[str, Any] | None = None,
        also: Change | None = None,
        **changes: Any,
    ) -> None:
        """Bring `active` into `state`, recorded in one step with its events, response and models.

        `also` has what else is recorded with it.

        Once begun it is carried out, even if the caller is cancelled meanwhile.
        """
        require(active.download, state)
        if state is State.DOWNLOADING and not active.download.started:
            events, changes = (*events, started), {**changes, "started": True}
        also = msgspec.structs.replace(also or Change(), models=models or {})
        entering = self._enter(active, state, events, context, also, failure, changes)
        await uninterrupted(entering)

    async def save_progress(self, downloads: Iterable[ActiveDownload]) -> None:
        """Write down how far the downloads at work are, and how long work and time to it took."""
        at_work = [
            active for active in downloads if _is_aging(active) and not active.writing.locked()
        ]
        for active in at_work:
            active.download = msgspec.structs.replace(
                active.download, **self._times(active), bytes_done=active.meter.bytes_done
            )
            active.active_since = self._clock.monotonic()
            if active.working_since is not None:
                active.working_since = active.active_since
        if at_work:
            await self._outbox.record(Change(downloads=[active.download for active in at_work]))

    async def amend(
        self, active: ActiveDownload, options: Options, context: CommandContext
    ) -> None:
        """Record changed options and the response to it; the state stays."""
        await uninterrupted(self._amend(active, options, context))

    async def _amend(
        self, active: ActiveDownload, options: Options, context: CommandContext
    ) -> None:
        async with active.writing:
            before = active.download.options
            active.download = msgspec.structs.replace(active.download, options=options)
            try:
                await self._record(active.download, (), context, Change())
            except DownloaderError:
                active.download = msgspec.structs.replace(active.download, options=before)
                raise

    def _times(self, active: ActiveDownload) -> dict[str, float]:
        """Return the record's durations as they are now."""
        now, since = self._clock.monotonic(), active.working_since
        return {
            "seconds": active.download.seconds + (0.0 if since is None else now - since),
            "active_seconds": active.download.active_seconds + active.unsaved_active_seconds(now),
        }

    async def _enter(
        self,
        active: ActiveDownload,
        state: State,
        events: Sequence[Announcement],
        context: CommandContext | None,
        also: Change,
        failure: Failure | None,
        changes: dict[str, Any],
    ) -> None:
        async with active.writing:
            changes = {**self._times(active), "bytes_done": active.meter.bytes_done, **changes}
            download = msgspec.structs.replace(
                active.download,
                state=state,
                updated_at=self._clock.now(),
                failure=failure,
                **changes,
            )
            await self._record(download, events, context, also)
            active.download = download
            active.entered = self._clock.monotonic()
            active.working_since = active.entered if state in _WORKING else None
            active.active_since = active.entered if state in ACTIVE else None
        log.info("download %s is %s", download.download_id, state.value)
        self._on_change(active)

    async def _record(
        self,
        download: Download,
        events: Sequence[Announcement],
        context: CommandContext | None,
        also: Change,
    ) -> None:
        command_id = context.command_id if context else download.command_id
        at = download.updated_at
        await self._outbox.record(
            msgspec.structs.replace(
                also,
                at=at,
                downloads=[download],
                clear_files=[download.download_id] if download.state is State.CANCELLED else [],
                durable=bool(events or context) or download.state not in _PASSING,
                responses=[(context.command_id, context.make_response(download))]
                if context
                else [],
                events=[
                    encode(announce(download, command_id, at), self._max_bytes())
                    for announce in events
                ],
            )
        )


def _is_aging(active: ActiveDownload) -> bool:
    """Tell whether a download's record ages: it is at work, or its timeout runs."""
    timed = active.active_since is not None and active.download.options.timeout is not None
    return timed or active.working_since is not None


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
