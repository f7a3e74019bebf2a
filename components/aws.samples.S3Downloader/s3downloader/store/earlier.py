"""Converts JSON texts of earlier versions into the present form.

Up to version 3, a download had `bucket` and `key`. A key that was empty or ended in `/` meant all
objects below it. From version 4 on, a download has `source` and `layout`.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from ..core.decoding import DECODE_ERRORS
from ..core.objects import Layout, SourceRef
from .recovery.sealing import is_intact, is_sealed, seal, unseal

__all__ = ["rewrite_bodies", "upgraded"]


def rewrite_bodies(connection: sqlite3.Connection) -> None:
    """Convert the texts of all downloads into the present form. Damaged ones stay unchanged."""
    rows = connection.execute("SELECT download_id, body FROM downloads").fetchall()
    for download_id, body in rows:
        present = upgraded(download_id, body)
        if present is not body:
            connection.execute(
                "UPDATE downloads SET body = ? WHERE download_id = ?", (present, download_id)
            )


def upgraded(download_id: Any, body: Any) -> Any:
    """Return the text of a download in the present form, with its checksum.

    A text that has this form already is returned unchanged. So is a damaged one: its checksum then
    still shows the damage.
    """
    if not isinstance(download_id, str) or not isinstance(body, bytes):
        return body
    if is_sealed(body) and not is_intact(download_id, body):
        return body
    try:
        fields = msgspec.json.decode(unseal(body), type=dict[str, Any])
    except DECODE_ERRORS:
        return body
    bucket, key = fields.pop("bucket", None), fields.pop("key", None)
    if "source" in fields or not isinstance(bucket, str) or not isinstance(key, str):
        return body
    layout: Layout = "tree" if key == "" or key.endswith("/") else "file"
    fields |= {"source": SourceRef("s3", bucket, key), "layout": layout}
    return seal(download_id, msgspec.json.encode(fields))
