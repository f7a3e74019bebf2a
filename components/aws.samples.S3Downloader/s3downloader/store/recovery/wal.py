"""Tells a log that is damaged from one that a loss of power has torn.

SQLite reads its log up to the first frame that is not valid, and says nothing of what follows. The
format is that of https://sqlite.org/fileformat2.html, section 4.
"""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path
from typing import BinaryIO

from .errors import Damage

__all__ = ["check_log"]

_HEADER, _FRAME_HEADER, _PAGE = 32, 24, 4_096
_WORDS = struct.Struct(">8I")
_MAGIC = 0x377F0682  # the lowest bit tells the order of bytes in check sums


def check_log(connection: sqlite3.Connection, path: Path) -> None:
    """Raise Damage where the log holds transactions that SQLite did not read.

    One that cannot be read had been recorded if another follows it. A loss of power leaves such a
    one at the end, but for a few that were not durable yet: of those it may leave the last alone,
    which cannot be told from damage.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        header = file.read(_HEADER)
        if not header.strip(b"\0"):
            return
        if len(header) == _HEADER and not _is_sound(header):
            raise Damage("the header of the log is damaged", last_changes=True)
        _, read, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if _goes_on(file, header[16:24], read):
            raise Damage("the log is damaged, or a loss of power tore it", last_changes=True)


def _is_sound(header: bytes) -> bool:
    magic, _, page, *_, one, other = _WORDS.unpack(header)
    order = ">" if magic & 1 else "<"
    words = struct.unpack(f"{order}6I", header[:24])
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return magic & ~1 == _MAGIC and page == _PAGE and (one, other) == (first, second)


def _goes_on(file: BinaryIO, salts: bytes, read: int) -> bool:
    """Tell whether a frame of these salts follows a transaction that ends beyond `read` frames."""
    ended = False
    while True:
        file.seek(_HEADER + read * (_FRAME_HEADER + _PAGE))
        frame = file.read(_FRAME_HEADER)
        if len(frame) < _FRAME_HEADER or frame[8:16] != salts:
            return False
        if ended:
            return True
        ended = frame[4:8] != bytes(4)  # only the last frame of a transaction tells the size
        read += 1
