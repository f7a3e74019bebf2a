"""What the downloader remembers: downloads, their files, and the one state machine."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, Literal

import msgspec

from .errors import ErrorCode
from .objects import Layout, ObjectRef, SourceRef

__all__ = [
    "ACTIVE",
    "FINISHED",
    "GENERATED",
    "STAGING",
    "TRANSITIONS",
    "Download",
    "EngineName",
    "Exchange",
    "FailedAttempt",
    "Failure",
    "FileRecord",
    "Options",
    "Origin",
    "Publish",
    "Rollback",
    "State",
    "Version",
]

GENERATED = "generated-"
"""How the id of a command begins that brought none: nobody can ask for its answer again."""


STAGING = ".s3downloader"
"""The hidden folder in which files gather until they are whole."""


class State(str, Enum):
    """Where a download stands."""

    QUEUED = "queued"
    PLANNING = "planning"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    PUBLISHING = "publishing"
    COMPLETED = "completed"
    PAUSED = "paused"
    WAITING = "waiting"
    FAILED = "failed"
    CANCELLED = "cancelled"


_INTERRUPTS = {State.QUEUED, State.WAITING, State.PAUSED, State.FAILED, State.CANCELLED}

TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset(
        {State.PLANNING, State.PUBLISHING, State.PAUSED, State.FAILED, State.CANCELLED}
    ),
    State.PLANNING: frozenset({State.DOWNLOADING, *_INTERRUPTS}),
    State.DOWNLOADING: frozenset({State.VERIFYING, *_INTERRUPTS}),
    State.VERIFYING: frozenset({State.DOWNLOADING, State.PUBLISHING, *_INTERRUPTS}),
    State.PUBLISHING: frozenset({State.COMPLETED, State.QUEUED, State.FAILED}),
    State.WAITING: frozenset({State.QUEUED, State.PAUSED, State.FAILED, State.CANCELLED}),
    State.PAUSED: frozenset({State.QUEUED, State.CANCELLED}),
    State.FAILED: frozenset({State.QUEUED, State.CANCELLED}),
    State.COMPLETED: frozenset(),
    State.CANCELLED: frozenset(),
}
"""The states a download may enter from each state. Back to `queued` leads a resume, the end of a
wait, a restart of the daemon, which takes up again whatever was under way, and a loss of files that
were not published yet. But for that, publishing is never left half way: after a restart it is
carried on, and so it is by a resume where the exchange of a `publish: replace` had taken place."""

ACTIVE = frozenset(
    {
        State.QUEUED,
        State.PLANNING,
        State.DOWNLOADING,
        State.VERIFYING,
        State.PUBLISHING,
        State.WAITING,
    }
)
"""States in which the daemon works on a download, or will by itself."""

FINISHED = frozenset({State.COMPLETED, State.CANCELLED})
"""States that nothing leaves."""


EngineName = Literal["auto", "s5cmd", "ranged"]
Publish = Literal["merge", "replace"]
Origin = Literal["command", "job", "desired"]
"""Who asked for a download: a command, an AWS IoT job, or the desired state of the shadow."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a download is carried out.

    `numworkers` is the ceiling of requests in flight for the download, `concurrency` that of one
    file. `part_size` is in bytes, None to have it chosen; `max_bandwidth` in bytes a second, None
    for no limit of its own; `timeout` in seconds of work and waiting, None for none.
    `keep_versions` is how many earlier versions `publish: replace` keeps.
    """

    numworkers: int = 256
    concurrency: int = 5
    retry_count: int = 10
    s3_transfer_acceleration: bool = False
    engine: EngineName = "auto"
    part_size: int | None = None
    max_bandwidth: int | None = None
    timeout: float | None = None
    verify: bool = True
    publish: Publish = "merge"
    keep_versions: int = 1


class Failure(msgspec.Struct, frozen=True):
    """Why a download stopped or waits."""

    code: ErrorCode
    message: str
    details: dict[str, Any] = {}


class Exchange(msgspec.Struct, frozen=True):
    """How a `publish: replace` exchanges its target, so that it can be carried on.

    `inode` is that of the new file or directory. It moves to `version_dir`, a folder beside the
    target, and is exchanged with the target from there; what it replaces is retained there.
    """

    inode: int
    version_dir: str = msgspec.field(name="slot")


class Download(msgspec.Struct, frozen=True, kw_only=True):
    """One download as it is kept in the store. Times are seconds since the epoch.

    `layout` says whether `source` is one object or all below it; it is decided when the download
    is admitted.
    `destination` is the directory the user named, resolved; `staging` the hidden folder on the
    same file system where its files gather until they are whole. `seconds` counts the time spent
    working, without pauses and waits, `active_seconds` that in active states since the command or
    the last resume, which `timeout` bounds. `bytes_done` is the most that was ever there of the
    present source. `started` and `publish_began` say that these points were passed once. `sha256`
    are the checksums that the files must have: of the one file, or by their paths. `plan` counts
    how often the source was listed. `exchange` is set when a `publish: replace` begins.
    """

    download_id: str
    command_id: str
    source: SourceRef
    layout: Layout
    origin: Origin = "command"
    destination: str
    staging: str
    options: Options
    model_meta: dict[str, Any] | None = None
    sha256: str | dict[str, str] | None = None
    state: State = State.QUEUED
    created_at: float
    updated_at: float
    started: bool = False
    publish_began: bool = False
    plan: int = 0
    seconds: float = 0.0
    active_seconds: float = 0.0
    bytes_done: int = 0
    bytes_total: int = 0
    files_done: int = 0
    files_total: int = 0
    checksums_verified: int = 0
    failure: Failure | None = None
    exchange: Exchange | None = None

    @property
    def is_tree(self) -> bool:
        """Whether it brings all objects below its source, not one object."""
        return self.layout == "tree"

    @property
    def replaces(self) -> bool:
        """Whether what stands at its target is exchanged as a whole, and retained."""
        return self.options.publish == "replace"

    @property
    def target(self) -> str:
        """What the download writes: its file, or the directory for a tree."""
        if self.is_tree:
            return self.destination
        return str(Path(self.destination, self.source.path.rpartition("/")[2]))


class FileRecord(msgspec.Struct, frozen=True):
    """One file of a download: the object `name`, `size` bytes, to arrive at `path`.

    `path` is relative to the destination, with `/` between its parts. `number` is unique in the
    store and names the file while it is on its way. `name`, `size`, `validator` and `modified` are
    those of its object, see ObjectRef. `sha256` is the checksum it must have, in hex, where that
    was given. `checksum` is the one it was verified by, such as `CRC64NVME:` with its base64, and
    empty where none was known.

    `attempts` is how many attempts at the file have failed. Until the file arrives, `error_code`
    and `error` say why the last one did, and `next_attempt` when the engine tries again by itself,
    in seconds since the epoch. A `skipped` file is left out of what is published.
    """

    number: int
    path: str
    name: str
    size: int
    validator: str
    modified: float | None = None
    done: bool = False
    sha256: str = ""
    checksum: str = ""
    attempts: int = 0
    error_code: ErrorCode | None = None
    error: str = ""
    next_attempt: float | None = None
    skipped: bool = False

    @property
    def object(self) -> ObjectRef:
        """The object that becomes the file."""
        return ObjectRef(self.name, self.size, self.validator, self.modified)


class FailedAttempt(msgspec.Struct, frozen=True):
    """An attempt at the file `number` that failed, or `count` of them, the last one told.

    `next_attempt` is when the next one follows by itself, in seconds since the epoch, None for
    never.
    """

    number: int
    code: ErrorCode
    message: str
    next_attempt: float | None = None
    count: int = 1


class Rollback(msgspec.Struct, frozen=True, kw_only=True):
    """A rollback under way: `inode` is to stand at the target.

    `models` are the registry's entries that follow from it, `before` those it takes away, and
    `responses` are given to the command once it is done, each with the id of its command.
    """

    inode: int
    models: dict[str, dict[str, Any]]
    before: dict[str, dict[str, Any]]
    responses: list[tuple[str, bytes]] = msgspec.field(name="answers")


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """What stood at `target` once and is retained at `path`, a file or a directory.

    The higher its `number`, the later it was put aside. `models` are the entries that the
    registry had for the target then. One that is `pending_delete` is to be removed.
    """

    number: int
    target: str = msgspec.field(name="place")
    path: str
    models: dict[str, dict[str, Any]] = {}
    pending_delete: bool = msgspec.field(default=False, name="doomed")
    rollback: Rollback | None = None
