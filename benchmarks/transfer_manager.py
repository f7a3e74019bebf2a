"""Downloads with boto3's transfer manager: `transfer_manager.py BUCKET KEY DIRECTORY`.

A KEY that ends with `/` is a prefix. Endpoint and credentials come from the environment. All other
settings are the defaults of boto3.
"""

from __future__ import annotations

import sys
from pathlib import Path

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager


def main(bucket: str, key: str, directory: Path) -> None:
    """Download the object, or all objects with the prefix, into `directory`."""
    client = boto3.session.Session().client("s3")
    keys = [key]
    if key.endswith("/"):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        keys = [found["Key"] for page in pages for found in page["Contents"]]
    directory.mkdir(parents=True, exist_ok=True)
    with create_transfer_manager(client, TransferConfig()) as manager:
        downloads = [manager.download(bucket, k, str(directory / Path(k).name)) for k in keys]
        for download in downloads:
            download.result()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
