"""The records of downloads, files and versions, and the states of a download."""

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
"""The prefix of an id that was generated for a command without one. The sender does not know it,
so its response is not kept for repetitions."""


STAGING = ".s3downloader"
"""The name of the hidden folder with the staging folders and the retained versions."""


class State(str, Enum):
    """The state of a download."""

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
"""The states that a download may enter from each state.

It becomes `queued` again by a resume, at the end of a wait, by a restart of the daemon, and if
staged files were lost before they were published. Except for such a loss, publishing is always
completed: after a restart it continues. After a failure, a resume continues it if the target of a
`publish: replace` has been exchanged already.
"""

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
"""States in which the daemon works on a download, or will do so by itself."""

FINISHED = frozenset({State.COMPLETED, State.CANCELLED})
"""Final states."""


EngineName = Literal["auto", "s5cmd", "ranged"]
Publish = Literal["merge", "replace"]
Origin = Literal["command", "job", "desired"]
"""What requested a download: a command, an AWS IoT job, or the desired state of the shadow."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a download is carried out.

    `numworkers` is the maximum number of concurrent requests of the download, `concurrency` that
    of one file. `part_size` is in bytes; None lets the engine choose it. `max_bandwidth` is in
    bytes per second; None means no limit of its own. `timeout` is in seconds in active states; None
    means none. `keep_versions` is how many earlier versions `publish: replace` retains.
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
    """The error because of which a download failed or waits."""

    code: ErrorCode
    message: str
    details: dict[str, Any] = {}


class Exchange(msgspec.Struct, frozen=True):
    """The exchange of a `publish: replace`, recorded so that an interrupted one can be continued.

    `inode` is that of the new file or directory. It is moved to `version_dir`, a hidden folder
    beside the target, and then exchanges its name with the target. So the replaced file or
    directory is retained in `version_dir`.
    """

    inode: int
    version_dir: str = msgspec.field(name="slot")


class Download(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a download.

    `layout` says whether `source` is one object or all objects below it. It is decided when the
    download is admitted.

    `destination` is the directory that the command names, with links resolved. `staging` is the
    staging folder, on the same file system. `sha256` is the checksum of the one file, or a map from
    paths to checksums, in hex.

    `created_at` and `updated_at` are in seconds since the epoch. `seconds` is the time of work,
    without pauses and waits. `active_seconds` is the time in active states since the command or the
    last resume; `timeout` limits it.

    `bytes_done` never falls while the source stays the same. `plan` counts how often the source was
    listed. `started` is set with the first fetch, `publish_began` with the first publishing,
    `exchange` when a `publish: replace` begins.
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
        """Whether the download has all objects below its source, and not one object."""
        return self.layout == "tree"

    @property
    def replaces(self) -> bool:
        """Whether publishing replaces the target in one step, and retains the earlier one."""
        return self.options.publish == "replace"

    @property
    def target(self) -> str:
        """The path that the download writes: of its file, or of the directory of a tree."""
        if self.is_tree:
            return self.destination
        return str(Path(self.destination, self.source.path.rpartition("/")[2]))


class FileRecord(msgspec.Struct, frozen=True):
    """The record of one file of a download.

    `path` is relative to the destination, with `/` between its parts. `number` is unique in the
    database, and names the file while it is fetched. `name`, `size`, `validator` and `modified` are
    those of its object, see ObjectRef. `done` says that the file is complete. `sha256` is the
    checksum that it must have, in hex, empty if none was given. `checksum` is the checksum by which
    it was verified, such as `CRC64NVME:` and the base64, empty if there was none.

    `attempts` is the number of failed attempts. Until the file is fetched, `error_code` and `error`
    are those of the last failed attempt, and `next_attempt` is when the engine tries again by
    itself, in seconds since the epoch. A `skipped` file is not published.
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
    """A failed attempt at the file `number`, or `count` attempts with the error of the last one.

    `next_attempt` is when the engine tries again by itself, in seconds since the epoch, None for
    never.
    """

    number: int
    code: ErrorCode
    message: str
    next_attempt: float | None = None
    count: int = 1


class Rollback(msgspec.Struct, frozen=True, kw_only=True):
    """An unfinished rollback. It is done when the target has the inode `inode`.

    `models` are the registry's entries after it, `before` those that it replaces, both by model id.
    `responses` are sent after it: pairs of a command's id and the response.
    """

    inode: int
    models: dict[str, dict[str, Any]]
    before: dict[str, dict[str, Any]]
    responses: list[tuple[str, bytes]] = msgspec.field(name="answers")


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier file or directory of `target`, retained at `path`.

    A later version has a higher `number`. `models` are the registry's entries for the target when
    it was replaced, by model id. A version that is `pending_delete` will be deleted.
    """

    number: int
    target: str = msgspec.field(name="place")
    path: str
    models: dict[str, dict[str, Any]] = {}
    pending_delete: bool = msgspec.field(default=False, name="doomed")
    rollback: Rollback | None = None
