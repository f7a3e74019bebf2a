"""Collects the SHA-256 of files by path, from the command and from SHA256SUMS objects.

Source of the format: "cksum output modes" in the manual of GNU coreutils.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from posixpath import normpath

from ...core.errors import DownloaderError, ErrorCode

__all__ = ["MOST_BYTES", "ChecksumManifest", "is_manifest", "parse_manifest"]

MOST_BYTES = 16 << 20
"""Maximum size of a SHA256SUMS, in bytes. This is enough for about 100,000 files."""

_NAME = "SHA256SUMS"
_LINE = re.compile(r"(\\?)(?P<sha256>[0-9A-Fa-f]{64}) [ *](?P<name>.+)")
_TAGGED = re.compile(r"(\\?)SHA256 ?\((?P<name>.+)\) ?= ?(?P<sha256>[0-9A-Fa-f]{64})")
_ESCAPES = {r"\\": "\\", r"\n": "\n", r"\r": "\r"}
_ESCAPED = re.compile(r"\\.?")
_SHOWN = 60


def is_manifest(path: str) -> bool:
    """Tell whether the file at `path` is a SHA256SUMS, for files in its folder and below."""
    return path.rpartition("/")[2] == _NAME


class ChecksumManifest:
    """The required SHA-256 of a download's files, by their paths below the prefix.

    `given` are those of the command, in hex. They have priority over those of a SHA256SUMS. If
    several SHA256SUMS name a file, the one added last has priority. Takes about 250 bytes per file.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = {path: bytes.fromhex(sha256) for path, sha256 in given.items()}
        self._found: dict[str, bytes] = {}
        self._missing = set(given)

    def add(self, path: str, text: bytes) -> None:
        """Add the SHA256SUMS at `path`, whose content is `text`. Raises INVALID_CHECKSUMS.

        A line for the SHA256SUMS itself is ignored: no file can contain its own SHA-256. Such a
        line occurs if the file existed already while it was written.
        """
        folder = path.removesuffix(_NAME)
        for name, sha256 in parse_manifest(text, path):
            if name != _NAME:
                self._found[folder + name] = sha256

    def of(self, path: str) -> str:
        """Return the SHA-256 that the file must have, in hex. Empty if there is none."""
        self._missing.discard(path)
        return (self._given.get(path) or self._found.get(path, b"")).hex()

    def check_given(self) -> None:
        """Raise INVALID_FIELD if the command names a file for which `of` was never called."""
        if not self._missing:
            return
        path = min(self._missing)
        raise DownloaderError(
            ErrorCode.INVALID_FIELD,
            f"sha256 names {path!r}, but there is no such object below the key; paths are relative"
            " to the key, and upper and lower case matter",
            field="sha256",
            given=sorted(self._missing)[:10],
        )


def parse_manifest(text: bytes, source: str) -> Iterator[tuple[str, bytes]]:
    r"""Yield each file's path below the folder of a SHA256SUMS, and its SHA-256.

    Accepts what `sha256sum` writes in text and binary mode, and with `--tag` (the format of BSD).
    Also accepts `./path`; names with the escapes `\n`, `\r` and `\\` in lines that begin with a
    backslash; empty lines, comments, and the line ends of Windows. A path that leads out of the
    folder is ignored. Raises INVALID_CHECKSUMS with `source` and the number of the line.
    """
    for number, raw in enumerate(_lines(text), 1):
        try:
            line = raw.decode()
        except UnicodeDecodeError:
            raise _invalid_line(source, number, "is not UTF-8") from None
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line) or _TAGGED.fullmatch(line)
        if not match:
            raise _invalid_line(source, number, f"has no SHA-256 and name: {line[:_SHOWN]!r}")
        path = normpath(_unescaped(match["name"]) if match[1] else match["name"])
        if not path.startswith(("/", "../")):
            yield path, bytes.fromhex(match["sha256"])


def _lines(text: bytes) -> Iterable[bytes]:
    """Yield the lines without their line ends. Does not copy the complete text."""
    start = 3 if text.startswith(b"\xef\xbb\xbf") else 0
    while start < len(text):
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        yield text[start:end].removesuffix(b"\r")
        start = end + 1


def _unescaped(name: str) -> str:
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[0], found[0]), name)


def _invalid_line(source: str, number: int, why: str) -> DownloaderError:
    return DownloaderError(
        ErrorCode.INVALID_CHECKSUMS,
        f"line {number} of {source} {why}; write the file with sha256sum, or remove it",
        line=number,
    )
