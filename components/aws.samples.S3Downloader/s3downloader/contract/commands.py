"""Defines every command, each as a struct.

The name of a command is the name of its struct in snake_case. Names of commands and fields are
accepted in camelCase too. A field without a default is required.
"""

from __future__ import annotations

import msgspec

from ..core.errors import DownloaderError, ErrorCode
from ..core.objects import Layout, SourceRef
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
    """The field of all commands.

    Delivery is at least once: a command with a repeated `command_id` gets the same response again,
    and nothing is done twice. If it is left out, an id is generated.
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
    """Download one object, or all objects below a prefix.

    A prefix is a `key` that ends in `/`, or an empty one for the whole bucket. The default of
    `destination` is DownloadDir, and that of `download_id` is a generated id. With `model_meta` the
    model is registered when the download is complete.
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
            check_sha256(self.sha256, self.layout)
        check_limit(self.engine, self.max_bandwidth)

    @property
    def source(self) -> SourceRef:
        """Where to download from."""
        return SourceRef("s3", self.bucket, self.key)

    @property
    def layout(self) -> Layout:
        """Whether to download one object or all below `key`."""
        return "tree" if self.key == "" or self.key.endswith("/") else "file"

    @property
    def options(self) -> Options:
        """The options of the download's record."""
        return msgspec.convert(self, Options, from_attributes=True)


class Pause(Command, frozen=True, kw_only=True):
    """Pause a download. The bytes that have arrived are kept."""

    download_id: DownloadId


class Resume(Command, frozen=True, kw_only=True):
    """Continue a paused, failed or waiting download. Only what is missing is fetched."""

    download_id: DownloadId


class Cancel(Command, frozen=True, kw_only=True):
    """End a download and remove its staged files."""

    download_id: DownloadId


class List(Command, frozen=True, kw_only=True):
    """List the downloads (the default), the objects in a bucket, or the models.

    `bucket` and `key` are only for `list_type` `s3`, which requires `bucket`. `key` is the prefix
    of the keys to list. `next_token` requests the next page.
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
                'bucket and key are only for list_type "s3"; add "list_type":"s3" to list'
                " objects, or leave bucket and key out",
                field="list_type",
                given=self.list_type,
            )


class Details(Command, frozen=True, kw_only=True):
    """Show one download with its options, and its files in pages. Also accepted as `getdetails`."""

    download_id: DownloadId
    next_token: NextToken | None = None


class Status(Command, frozen=True, kw_only=True):
    """Show the present status: downloads and disk space."""


class DiskSpace(Command, frozen=True, kw_only=True):
    """Show the space on DownloadDir's file system. Also accepted as `disk-space`."""


class Limits(Command, frozen=True, kw_only=True):
    """Show or set bandwidth limits, in bytes per second, 0 for none.

    With `max_bandwidth` it sets the device's limit; with `download_id` too, the limit of that
    download. Null as `max_bandwidth` returns the device to the configured limit, and removes the
    limit of a download. Without `max_bandwidth` it changes nothing, and `download_id` selects the
    download to show.
    """

    max_bandwidth: MaxBandwidth | msgspec.UnsetType | None = msgspec.UNSET
    download_id: DownloadId | None = None
    next_token: NextToken | None = None


class ModelList(Command, frozen=True, kw_only=True):
    """List the models of the registry."""

    next_token: NextToken | None = None


class ModelGet(Command, frozen=True, kw_only=True):
    """Show one model of the registry."""

    model_id: ModelId


class ModelDelete(Command, frozen=True, kw_only=True):
    """Remove a model from the registry and the shadow. Its published files stay.

    The versions retained of them are removed, unless another model has the same `local_path`.
    """

    model_id: ModelId


class ModelRollback(Command, frozen=True, kw_only=True):
    """Swap the files of a model with the newest version that `publish: replace` retained of them.

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
    """Return whether `command` changes nothing."""
    if isinstance(command, Limits):
        return command.max_bandwidth is msgspec.UNSET
    return isinstance(command, _READING)
