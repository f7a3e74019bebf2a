"""An object as an honest store answers for it, for tests to change in one thing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from s3downloader.records import FileRecord
from tests.lying_store import Asked, Reply, error_reply

__all__ = ["Served", "file_of"]


@dataclass(frozen=True)
class Served:
    """One object; what is None is not told. Conditions and ranges are heeded."""

    content: bytes
    etag: str | None = "0123456789abcdef0123456789abcdef-3"
    modified: str | None = "Wed, 25 Nov 2026 10:00:00 GMT"
    more: dict[str, str | None] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> Reply:
        if self._is_another(asked):
            return error_reply(412, "PreconditionFailed")
        if not asked.span or asked.method == "HEAD":
            return Reply(200, self.named, self.content)
        start, end = asked.span
        if start >= len(self.content):
            return error_reply(416, "InvalidRange")
        told = {"Content-Range": f"bytes {start}-{end - 1}/{len(self.content)}"}
        return Reply(206, {**self.named, **told}, self.content[start:end])

    @property
    def named(self) -> dict[str, str | None]:
        """What tells that it is this object."""
        etag = self.etag and (self.etag if self.etag.startswith("W/") else f'"{self.etag}"')
        return {"ETag": etag, "Last-Modified": self.modified, **self.more}

    def whole(self, asked: Asked) -> Reply:
        """Answer as if no range had been asked for."""
        return self(replace(asked, headers={**asked.headers, "range": ""}))

    def _is_another(self, asked: Asked) -> bool:
        wanted = asked.headers.get("if-match", "").strip('"')
        since = asked.headers.get("if-unmodified-since")
        return bool(wanted and wanted != self.etag) or bool(since and since != self.modified)


def file_of(
    served: Served,
    path: str = "model",
    *,
    number: int = 1,
    etag: str | None = None,
    sha256: str = "",
) -> FileRecord:
    """Return the file that an object is to become, listed with its own ETag unless one is given."""
    listed = served.etag or "" if etag is None else etag
    return FileRecord(number, path, path, len(served.content), listed, sha256=sha256)
