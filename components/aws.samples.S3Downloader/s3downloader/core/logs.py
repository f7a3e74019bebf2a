"""Configures the log: one line per record on stdout, without secrets."""

from __future__ import annotations

import io
import logging
import re
import sys
from itertools import chain

__all__ = ["configure", "redact"]

_SECRETS = re.compile(
    r"(?i)((?:X-Amz-[a-z-]+|aws_(?:secret_)?access_key(?:_id)?|secret_?access_?key"
    r"|session_?token|authorization|authtoken|password)[\"']?\s*[=:]\s*[\"']?)[^\s&\"',}]+|(?<=://)[^/\s@]+(?=@)"
)
_CONTROLS = (
    range(0x20),  # C0: the line ends of ASCII, and ESC, which starts a terminal's sequences
    range(0x7F, 0xA0),  # DEL and C1: the line end NEL, and CSI, which also starts sequences
    range(0x200E, 0x2010),  # marks of the direction of text
    range(0x2028, 0x202F),  # separators of lines and paragraphs; embeddings of direction
    range(0x2066, 0x206A),  # isolates of direction
)
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in chain(*_CONTROLS) if chr(code) != "\t"}


def configure(level: str) -> None:
    """Log records of `level` and above to stdout. A further call changes the level."""
    root = logging.getLogger()
    if not any(isinstance(handler, _Handler) for handler in root.handlers):
        root.addHandler(_Handler())
    root.setLevel(level)
    for library in ("awsiot", "boto3", "botocore", "urllib3"):
        logging.getLogger(library).setLevel(max(root.level, logging.WARNING))


def redact(text: str) -> str:
    """Return `text` with the values of credentials, signatures and passwords replaced by `***`."""
    return _SECRETS.sub(lambda match: f"{match[1] or ''}***", text)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # not subscriptable at run time
    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Without this, a character that the locale cannot encode would lose the record.
            sys.stdout.reconfigure(errors="backslashreplace")
        super().__init__(sys.stdout)
        self.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return the record, with its traceback, as one line that is safe for every terminal.

        Control characters and Unicode's line ends are escaped as in a Python string.
        """
        return redact(super().format(record)).translate(_ESCAPES)
