"""Distinguishes a damaged write-ahead log from one that a loss of power has torn.

SQLite reads its log up to the first invalid frame, and does not report what follows. Source of the
format: https://sqlite.org/fileformat2.html, section 4.
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
_MAGIC = 0x377F0682  # the lowest bit is the byte order of the checksums


def check_log(connection: sqlite3.Connection, path: Path) -> None:
    """Raise Damage if the log contains transactions that SQLite did not read.

    An invalid transaction had been recorded if another one follows it. A loss of power leaves an
    invalid transaction only at the end. There is one exception, which looks like damage: of the
    last transactions, if they were not durable yet, the disk may have kept only the last.
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
        if _has_unread_transactions(file, header[16:24], read):
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


def _has_unread_transactions(file: BinaryIO, salts: bytes, read: int) -> bool:
    """Tell whether a transaction ends after the first `read` frames, and another frame follows it.

    Only frames with these salts count: others are left from an earlier use of the log.
    """
    ended = False
    while True:
        file.seek(_HEADER + read * (_FRAME_HEADER + _PAGE))
        frame = file.read(_FRAME_HEADER)
        if len(frame) < _FRAME_HEADER or frame[8:16] != salts:
            return False
        if ended:
            return True
        ended = frame[4:8] != bytes(
            4
        )  # the size of the database: set in a transaction's last frame
        read += 1
