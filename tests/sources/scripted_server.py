"""A real HTTP/1.1 server whose responses the test decides, including wrong ones.

The test gives a function from a request to its reply. Everything else is as usual: Content-Length
is sent, connections are kept open, and a response to HEAD has no body.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from ..connections import LocalServer

__all__ = [
    "LOGIN_PAGE",
    "CorrectAnswers",
    "ReceivedRequest",
    "Reply",
    "ScriptedServer",
    "error_reply",
    "listing_reply",
    "login_page",
]

_TITLE = b"<title>Guest WLAN</title>"
LOGIN_PAGE = b"<!DOCTYPE html>\n<html><head>" + _TITLE + b"</head><body>Log in</body></html>"


@dataclass(frozen=True)
class ReceivedRequest:
    """A request. Key and query are decoded, and names of headers are in lower case."""

    method: str
    target: str
    """The undecoded path and query."""
    headers: Mapping[str, str]

    @property
    def bucket(self) -> str:
        return self._path[0]

    @property
    def key(self) -> str:
        return unquote(self._path[1])

    @property
    def query(self) -> dict[str, str]:
        query = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        return {name: values[0] for name, values in query.items()}

    @property
    def lists(self) -> bool:
        """Whether it requests a page of a listing."""
        return "list-type" in self.query

    @property
    def span(self) -> tuple[int, int] | None:
        """The requested range as its start and the position after its end; None without Range."""
        value = self.headers.get("range")
        if not value:
            return None
        start, _, last = value.removeprefix("bytes=").partition("-")
        return int(start), int(last) + 1

    @property
    def _path(self) -> list[str]:
        bucket, _, key = urlsplit(self.target).path[1:].partition("/")
        return [bucket, key]


@dataclass(frozen=True)
class Reply:
    """A response.

    A header whose value is None is not sent, not even one that a server always sends. The body is
    one piece, or several with events between them, for which the server waits. `chunked` sends each
    piece as a chunk, without Content-Length. `cut` closes the connection after the body.
    """

    status: int = 200
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | Sequence[bytes | asyncio.Event] = b""
    chunked: bool = False
    cut: bool = False

    @property
    def pieces(self) -> Sequence[bytes | asyncio.Event]:
        return [self.body] if isinstance(self.body, bytes) else self.body

    def head(self) -> bytes:
        headers: dict[str, str | None] = {}
        if self.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(
                sum(len(p) for p in self.pieces if isinstance(p, bytes))
            )
        headers |= self.headers
        if self.cut:
            headers["Connection"] = "close"
        phrases = {status.value: status.phrase for status in HTTPStatus}
        lines = [f"HTTP/1.1 {self.status} {phrases.get(self.status, 'Odd')}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class ScriptedServer(LocalServer):
    """Answers each request with the result of `answer`; an async context manager.

    `answer` may be replaced between requests. `requests` has all requests in order.
    """

    def __init__(self, answer: Callable[[ReceivedRequest], Reply]) -> None:
        super().__init__()
        self.answer = answer
        self.requests: list[ReceivedRequest] = []

    @property
    def request_lines(self) -> list[str]:
        """The method and key of each request, or `list` for a page of a listing."""
        return ["list" if a.lists else f"{a.method} {a.key}" for a in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the client closes the connection, or a reply is cut."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._serve_one(reader, writer):
                pass

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a request; return whether the connection stays open."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        method, target, _ = lines[0].split(" ")
        headers = {
            name.lower(): value for name, value in (li.split(": ", 1) for li in lines[1:] if li)
        }
        request = ReceivedRequest(method, target, headers)
        self.requests.append(request)
        reply = self.answer(request)
        writer.write(reply.head())
        for piece in () if method == "HEAD" else reply.pieces:
            if isinstance(piece, asyncio.Event):
                await writer.drain()
                await piece.wait()
            elif reply.chunked:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            else:
                writer.write(piece)
        if reply.chunked and method != "HEAD" and not reply.cut:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return not reply.cut


def login_page(status: int = 200, **headers: str) -> Reply:
    """Return what a captive portal answers to any request."""
    return Reply(status, {"Content-Type": "text/html; charset=utf-8", **headers}, LOGIN_PAGE)


def error_reply(status: int, code: str, message: str = "", **more: str) -> Reply:
    """Return an error response of S3; `more` are further elements of its XML."""
    elements = {"Code": code, "Message": message, **more}
    text = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in elements.items())
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{text}</Error>'.encode()
    return Reply(status, {"Content-Type": "application/xml", "x-amz-request-id": "4442587F"}, body)


def listing_reply(
    entries: Sequence[Mapping[str, str]],
    *,
    truncated: bool | None = False,
    token: str = "",
    encoded: bool = True,
) -> Reply:
    """Return a page of ListObjectsV2.

    Each entry has its elements, such as Key, Size, ETag and LastModified, as they are sent, except
    that XML escapes are added here. If `truncated` is None, IsTruncated is left out.
    """
    contents = "".join(
        "<Contents>"
        + "".join(f"<{name}>{escape(value)}</{name}>" for name, value in entry.items())
        + "</Contents>"
        for entry in entries
    )
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>models</Name>'
        + ("<EncodingType>url</EncodingType>" if encoded else "")
        + ("" if truncated is None else f"<IsTruncated>{str(truncated).lower()}</IsTruncated>")
        + (f"<NextContinuationToken>{escape(token)}</NextContinuationToken>" if token else "")
        + f"<KeyCount>{len(entries)}</KeyCount>{contents}</ListBucketResult>"
    ).encode()
    return Reply(200, {"Content-Type": "application/xml", "x-amz-request-id": "4442587F"}, body)


class CorrectAnswers:
    """Answers as S3 does for `objects`, by key. Tests change single answers."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self.objects = dict(objects)

    def __call__(self, request: ReceivedRequest) -> Reply:
        return self._page(request.query) if request.lists else self._object(request)

    def etag(self, key: str) -> str:
        return hashlib.md5(self.objects[key], usedforsecurity=False).hexdigest()

    def _page(self, query: Mapping[str, str]) -> Reply:
        after = query.get("continuation-token") or query.get("start-after", "")
        keys = sorted(k for k in self.objects if k.startswith(query.get("prefix", "")))
        follow = [key for key in keys if key > after]
        now = follow[: int(query.get("max-keys", "1000"))]
        more = len(follow) > len(now)
        return listing_reply(
            [
                {
                    "Key": quote(key),
                    "LastModified": "2026-11-25T13:02:32.000Z",
                    "ETag": f'"{self.etag(key)}"',
                    "Size": str(len(self.objects[key])),
                }
                for key in now
            ],
            truncated=more,
            token=now[-1] if more else "",
        )

    def _object(self, request: ReceivedRequest) -> Reply:
        data = self.objects.get(request.key)
        if data is None:
            return error_reply(404, "NoSuchKey" if request.key else "NoSuchBucket")
        headers = {
            "ETag": f'"{self.etag(request.key)}"',
            "Last-Modified": "Wed, 25 Nov 2026 13:02:32 GMT",
            "Content-Type": "binary/octet-stream",
            "x-amz-request-id": "4442587F",
        }
        if request.headers.get("if-match", headers["ETag"]) != headers["ETag"]:
            return error_reply(412, "PreconditionFailed")
        if request.span is None:
            return Reply(200, headers, data)
        start, end = request.span
        part = data[start:end]
        if not part:
            return error_reply(416, "InvalidRange", ActualObjectSize=str(len(data)))
        headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        return Reply(206, headers, part)
