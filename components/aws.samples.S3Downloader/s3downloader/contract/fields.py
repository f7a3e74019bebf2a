"""Defines the types of the fields in commands, with their bounds and descriptions.

A description completes the sentence "it is …". Refusals and the JSON Schema quote it. Lengths are
in characters, `max_bytes` in bytes of UTF-8.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import uuid4

from msgspec import Meta

from ..core.records import GENERATED

__all__ = [
    "MODEL_META_EXAMPLE",
    "MODEL_META_LEVELS",
    "MODEL_META_NAMES",
    "Bucket",
    "CommandId",
    "Concurrency",
    "Destination",
    "DownloadId",
    "EngineChoice",
    "KeepVersions",
    "ListType",
    "MaxBandwidth",
    "ModelId",
    "ModelMeta",
    "NamedModelMeta",
    "NextToken",
    "NumWorkers",
    "ObjectKey",
    "PartSize",
    "PublishMode",
    "RetryCount",
    "Sha256",
    "Timeout",
    "TransferAcceleration",
    "Verify",
    "new_command_id",
    "new_id",
]

_NO_CONTROL_CHARACTERS = r"^[^\u0000-\u001f\u007f]*(?!\n)$"
"""In Python `$` alone would also match before a final newline."""

CommandId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=_NO_CONTROL_CHARACTERS,
        description="the command's own id, 1 to 128 bytes without control characters;"
        " a command with a repeated id gets the same response again, and nothing is done twice",
        examples=["cli-1"],
        extra={"max_bytes": 128},
    ),
]

DownloadId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=r"^[^\u0000-\u001f\u007f/]*(?!\n)$",
        description="the id of a download, 1 to 128 bytes without control characters and slashes",
        examples=["vlm-7B-2.5"],
        extra={"max_bytes": 128},
    ),
]

ModelId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=_NO_CONTROL_CHARACTERS,
        description="the id of a model, which is its key in the shadow: 1 to 128 bytes"
        " without control characters",
        examples=["vlm-7B"],
        extra={"max_bytes": 128},
    ),
]

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html, extended by capitals
# and underscores, which old buckets and other object stores have.
Bucket = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=255,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9](?!\n)$",
        description="the name of a bucket, without s3://: 3 to 255 letters, digits, dots,"
        " hyphens and underscores, with a letter or digit first and last",
        examples=["my-data-bucket"],
    ),
]

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
ObjectKey = Annotated[
    str,
    Meta(
        max_length=1024,
        pattern=r"^[^\u0000]*$",
        description="the key of an object, or a prefix that ends in /, for all objects below it,"
        " or empty, for the whole bucket: at most 1,024 bytes of UTF-8",
        examples=["vlm-7B/"],
        extra={"max_bytes": 1024},
    ),
]

Destination = Annotated[
    str,
    Meta(
        max_length=4095,
        pattern=r"^/[^\u0000-\u001f\u007f]*(?!\n)$",
        description="the absolute path of a directory on the device, in one of"
        " AllowedDestinations, without control characters",
        examples=["/data/downloads/model/vlm-7B"],
        extra={"max_bytes": 4095},
    ),
]

NumWorkers = Annotated[
    int,
    Meta(
        ge=1,
        le=1024,
        description="the maximum of requests in flight for the download, a whole number from 1 to"
        " 1024, the usual limit of open files",
        examples=[256],
    ),
]

Concurrency = Annotated[
    int,
    Meta(
        ge=1,
        le=256,
        description="the maximum of requests in flight for one file, a whole number from 1 to 256",
        examples=[5],
    ),
]

RetryCount = Annotated[
    int,
    Meta(
        ge=0,
        le=100,
        description="how often a failed request is repeated, with exponential back-off up to a"
        " minute: a whole number from 0 to 100",
        examples=[10],
    ),
]

TransferAcceleration = Annotated[
    bool,
    Meta(
        description="true to use S3 Transfer Acceleration, which the bucket must have enabled,"
        " or false",
        examples=[False],
    ),
]

EngineChoice = Annotated[
    Literal["auto", "s5cmd", "ranged"],
    Meta(
        description='what fetches the objects: "auto", "s5cmd" or "ranged"; "auto" is "ranged",'
        ' and only "ranged" continues inside a file and obeys bandwidth limits',
        examples=["auto"],
    ),
]

PartSize = Annotated[
    int,
    Meta(
        ge=1 << 20,
        le=1 << 30,
        description="the bytes per request, a whole number from 1048576 (1 MiB) to 1073741824"
        " (1 GiB); if it is left out, 8 to 64 MiB by the size of the object",
        examples=[16 << 20],
    ),
]

MaxBandwidth = Annotated[
    int,
    Meta(
        ge=0,
        le=1 << 40,
        description="the maximum of bytes per second, a whole number; 0 for no limit",
        examples=[2_500_000],
    ),
]

Timeout = Annotated[
    float,
    Meta(
        gt=0,
        le=31_536_000,
        description="the seconds after which the download fails, without pauses: more than 0,"
        " at most 31536000 (a year)",
        examples=[86_400],
    ),
]

Verify = Annotated[
    bool,
    Meta(
        description="true to compare sizes and checksums, or false to compare only sizes",
        examples=[True],
    ),
]

Sha256 = Annotated[
    str | dict[str, str],
    Meta(
        description="the SHA-256 that the file must have, as 64 hex digits; for a prefix an object"
        " that maps paths of files below the prefix to their SHA-256",
        examples=[
            {"config.json": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}
        ],
    ),
]

PublishMode = Annotated[
    Literal["merge", "replace"],
    Meta(
        description='"merge" to rename each file into place, beside what is there, or "replace"'
        " to swap the whole target in one step",
        examples=["merge"],
    ),
]

KeepVersions = Annotated[
    int,
    Meta(
        ge=0,
        le=100,
        description="how many earlier versions of the target publish: replace retains, for"
        " model_rollback: a whole number from 0 to 100",
        examples=[1],
    ),
]

MODEL_META_NAMES = ("model_id", "model_name", "model_version", "local_path")
"""The names in model_meta with a meaning. Other fields are kept as they are given."""

MODEL_META_LEVELS = 3
"""Maximum levels of nested objects and lists in model_meta.

A shadow allows six levels, of which `state`, `reported` and `models` are above it:
https://docs.aws.amazon.com/iot/latest/developerguide/device-shadow-error-messages.html
"""

MODEL_META_EXAMPLE = {"model_id": "vlm-7B", "model_name": "vlm-7B", "model_version": "2.5"}

ModelMeta = Annotated[
    dict[str, Any],
    Meta(
        description="a free-form object that describes the model, at most 3 levels deep, with"
        " model_id (default: the last part of the key), model_name and model_version",
        examples=[MODEL_META_EXAMPLE],
    ),
]

NamedModelMeta = Annotated[
    dict[str, Any],
    Meta(
        description="a free-form object that describes the model, at most 3 levels deep, with"
        " its model_id",
        examples=[MODEL_META_EXAMPLE],
        extra_json_schema={"anyOf": [{"required": ["model_id"]}, {"required": ["modelId"]}]},
    ),
]

ListType = Annotated[
    Literal["downloads", "s3", "models"],
    Meta(
        description='what to list: "downloads", "s3" (objects in a bucket) or "models"',
        examples=["downloads"],
    ),
]

NextToken = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1400,
        description="the next_token of the previous page, unchanged; without it the list starts"
        " from the beginning",
        examples=["dmxtLTdC"],
    ),
]


def new_command_id() -> str:
    """Return a generated id for a command without one."""
    return f"{GENERATED}{new_id()}"


def new_id() -> str:
    """Return a unique id, 32 hex digits."""
    return uuid4().hex
