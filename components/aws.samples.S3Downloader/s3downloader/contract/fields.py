"""The kinds of values in commands: what each is, and its bounds.

A description completes the sentence "it is …": refusals and the JSON Schema both quote it. Lengths
count characters, `max_bytes` bytes of UTF-8.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import uuid4

from msgspec import Meta

__all__ = [
    "GENERATED",
    "MODEL_META_EXAMPLE",
    "MODEL_META_LEVELS",
    "MODEL_META_NAMES",
    "Bucket",
    "CommandId",
    "Concurrency",
    "Destination",
    "DownloadId",
    "ListType",
    "ModelId",
    "ModelMeta",
    "NamedModelMeta",
    "NextToken",
    "NumWorkers",
    "ObjectKey",
    "RetryCount",
    "TransferAcceleration",
    "new_command_id",
    "new_id",
]

_PRESENTABLE = r"^[^\u0000-\u001f\u007f]*(?!\n)$"
"""Text without control characters. In Python `$` alone would let a last newline pass."""

CommandId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=_PRESENTABLE,
        description="the command's own id, 1 to 128 bytes without control characters;"
        " a repeated one gets the same response again and does nothing twice",
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
        pattern=_PRESENTABLE,
        description="the id of a model, which is its key in the shadow: 1 to 128 bytes"
        " without control characters",
        examples=["vlm-7B"],
        extra={"max_bytes": 128},
    ),
]

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html, with the capitals
# and underscores that old buckets and other stores have.
Bucket = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=255,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9](?!\n)$",
        description="the name of a bucket alone, without s3://: 3 to 255 letters, digits, dots,"
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
        description="the key of an object, or a prefix that ends in / for all objects below it:"
        " at most 1,024 bytes of UTF-8",
        examples=["vlm-7B/"],
        extra={"max_bytes": 1024},
    ),
]

Destination = Annotated[
    str,
    Meta(
        max_length=4095,
        pattern=r"^/[^\u0000-\u001f\u007f]*(?!\n)$",
        description="the absolute path of a directory on the device, under one of"
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
        description="the ceiling of requests in flight for the download, a whole number from 1 to"
        " 1024, the usual limit of open files",
        examples=[256],
    ),
]

Concurrency = Annotated[
    int,
    Meta(
        ge=1,
        le=256,
        description="the ceiling of requests in flight for one file, a whole number from 1 to 256",
        examples=[5],
    ),
]

RetryCount = Annotated[
    int,
    Meta(
        ge=0,
        le=100,
        description="how often a failed request is tried again, with exponential back-off to at"
        " most a minute: a whole number from 0 to 100",
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

MODEL_META_NAMES = ("model_id", "model_name", "model_version", "local_path")
"""The names in model_meta that have a meaning; all others are kept as given."""

# `models` and the model's id lie above it, and a shadow allows six levels:
# https://docs.aws.amazon.com/iot/latest/developerguide/device-shadow-error-messages.html
MODEL_META_LEVELS = 3

MODEL_META_EXAMPLE = {"model_id": "vlm-7B", "model_name": "vlm-7B", "model_version": "2.5"}

ModelMeta = Annotated[
    dict[str, Any],
    Meta(
        description="a free-form object about the model, at most 3 levels deep; model_id names it"
        " (default: the last part of the key), model_name and model_version describe it",
        examples=[MODEL_META_EXAMPLE],
    ),
]

NamedModelMeta = Annotated[
    dict[str, Any],
    Meta(
        description="a free-form object about the model, at most 3 levels deep, with its model_id",
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
        description="the next_token of the page before, unchanged; without it the list starts"
        " from the beginning",
        examples=["dmxtLTdC"],
    ),
]


GENERATED = "generated-"
"""How the id of a command begins that brought none."""


def new_command_id() -> str:
    """Return an id for a command that brought none."""
    return f"{GENERATED}{new_id()}"


def new_id() -> str:
    """Return an id that no other command or download has."""
    return uuid4().hex
