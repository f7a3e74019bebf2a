"""Every command that the device understands, one struct each.

A command's name is its struct's name in snake_case. Names of commands and of fields are accepted
in camelCase too. A field without a default must be given.
"""

from __future__ import annotations

import msgspec

from ..core.errors import DownloaderError, ErrorCode
from ..core.records import Options
from .checks import check_limit, check_model_meta, check_sha256
from .fields import (
    Bucket,
    CommandId,
    Concurrency,
    Destination,
    DownloadId,
    EngineChoice,
    KeepVersions,
    ListType,
    MaxBandwidth,
    ModelId,
    ModelMeta,
    NamedModelMeta,
    NextToken,
    NumWorkers,
    ObjectKey,
    PartSize,
    PublishMode,
    RetryCount,
    Sha256,
    Timeout,
    TransferAcceleration,
    Verify,
    new_command_id,
    new_id,
)
from .names import snake_case

__all__ = [
    "COMMANDS",
    "Cancel",
    "Command",
    "Details",
    "DiskSpace",
    "Download",
    "Limits",
    "List",
    "ModelAdd",
    "ModelDelete",
    "ModelGet",
    "ModelList",
    "ModelRollback",
    "Pause",
    "Resume",
    "Status",
    "name_of",
    "only_reads",
]


class Command(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="command",
    tag=snake_case,
):
    """What all commands have.

    Delivery is at least once: a repeated `command_id` gets the same response again, and does
    nothing twice. It is generated where it is left out.
    """

    command_id: CommandId = msgspec.field(default_factory=new_command_id)

    @property
    def command(self) -> str:
        """The name of the command."""
        return name_of(type(self))


def name_of(kind: type[Command]) -> str:
    """Return the name of a command."""
    return str(kind.__struct_config__.tag)


class Download(Command, frozen=True, kw_only=True):
    """Download an object, or with a `key` that ends in `/` all objects below it.

    `destination` is DownloadDir where it is left out, and `download_id` is generated. A download
    with `model_meta` registers its model when it is complete.
    """

    bucket: Bucket
    key: ObjectKey
    destination: Destination | None = None
    numworkers: NumWorkers = 256
    concurrency: Concurrency = 5
    retry_count: RetryCount = 10
    s3_transfer_acceleration: TransferAcceleration = False
    engine: EngineChoice = "auto"
    part_size: PartSize | None = None
    max_bandwidth: MaxBandwidth | None = None
    timeout: Timeout | None = None
    verify: Verify = True
    sha256: Sha256 | None = None
    publish: PublishMode = "merge"
    keep_versions: KeepVersions = 1
    download_id: DownloadId = msgspec.field(default_factory=new_id)
    model_meta: ModelMeta | None = None

    def __post_init__(self) -> None:
        if self.model_meta is not None:
            check_model_meta(self.model_meta)
        if self.sha256 is not None:
            check_sha256(self.sha256, whole=self.key == "" or self.key.endswith("/"))
        check_limit(self.engine, self.max_bandwidth)

    @property
    def options(self) -> Options:
        """How to carry it out."""
        return msgspec.convert(self, Options, from_attributes=True)


class Pause(Command, frozen=True, kw_only=True):
    """Pause a download; what has arrived is kept."""

    download_id: DownloadId


class Resume(Command, frozen=True, kw_only=True):
    """Take a paused or failed download up again, from what it has."""

    download_id: DownloadId


class Cancel(Command, frozen=True, kw_only=True):
    """Give a download up; what has arrived is deleted."""

    download_id: DownloadId


class List(Command, frozen=True, kw_only=True):
    """List the downloads (the default), the objects in a bucket, or the models.

    `bucket` and `key` go with `list_type` `s3` alone, which needs the `bucket`; `key` is the
    prefix of the keys to list. `next_token` asks for the page after.
    """

    list_type: ListType = "downloads"
    bucket: Bucket | None = None
    key: ObjectKey = ""
    next_token: NextToken | None = None

    def __post_init__(self) -> None:
        if self.list_type == "s3" and self.bucket is None:
            raise DownloaderError(
                ErrorCode.MISSING_FIELD,
                'list with list_type "s3" needs bucket; send for example'
                ' {"command":"list","list_type":"s3","bucket":"my-data-bucket"}',
                fields=["bucket"],
            )
        if self.list_type != "s3" and (self.bucket is not None or self.key):
            raise DownloaderError(
                ErrorCode.INVALID_FIELD,
                'bucket and key go with list_type "s3" alone; add "list_type":"s3" to list'
                " objects, or leave bucket and key out",
                field="list_type",
                given=self.list_type,
            )


class Details(Command, frozen=True, kw_only=True):
    """Everything about one download, its files paged. Also accepted as `getdetails`."""

    download_id: DownloadId
    next_token: NextToken | None = None


class Status(Command, frozen=True, kw_only=True):
    """The device now: active downloads and disk space."""


class DiskSpace(Command, frozen=True, kw_only=True):
    """The disk that DownloadDir lies on. Also accepted as `disk-space`."""


class Limits(Command, frozen=True, kw_only=True):
    """The limits in force; with `max_bandwidth` the device's is set, with `download_id` too that
    download's own.

    For the device null returns to the configuration, for a download it takes its limit away.
    """

    max_bandwidth: MaxBandwidth | msgspec.UnsetType | None = msgspec.UNSET
    download_id: DownloadId | None = None
    next_token: NextToken | None = None


class ModelList(Command, frozen=True, kw_only=True):
    """List the models of the registry."""

    next_token: NextToken | None = None


class ModelGet(Command, frozen=True, kw_only=True):
    """One model of the registry."""

    model_id: ModelId


class ModelDelete(Command, frozen=True, kw_only=True):
    """Remove a model from the registry and from the shadow; its files stay.

    Earlier versions that were kept for `model_rollback` are removed.
    """

    model_id: ModelId


class ModelRollback(Command, frozen=True, kw_only=True):
    """Exchange the files of a model with the version before, which `publish: replace` kept.

    The registry's entry becomes what it was then. A second rollback goes forward again.
    """

    model_id: ModelId


class ModelAdd(Command, frozen=True, kw_only=True):
    """Add a model to the registry, or update it."""

    model_meta: NamedModelMeta

    def __post_init__(self) -> None:
        check_model_meta(self.model_meta, needs_id=True)


COMMANDS: tuple[type[Command], ...] = (
    Download,
    Pause,
    Resume,
    Cancel,
    List,
    Details,
    Status,
    DiskSpace,
    Limits,
    ModelList,
    ModelGet,
    ModelDelete,
    ModelAdd,
    ModelRollback,
)

_READING = (List, Details, Status, DiskSpace, ModelList, ModelGet)


def only_reads(command: Command) -> bool:
    """Tell whether `command` leaves everything as it is."""
    if isinstance(command, Limits):
        return command.max_bandwidth is msgspec.UNSET
    return isinstance(command, _READING)
