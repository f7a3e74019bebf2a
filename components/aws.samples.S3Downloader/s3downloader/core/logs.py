"""The log: one line a record on stdout, without secrets."""

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
    range(0x20),  # C0, with every line end of ASCII and the ESC of terminals
    range(0x7F, 0xA0),  # DEL, and C1, with NEL and the CSI of terminals
    range(0x200E, 0x2010),  # marks, embeddings and isolates that turn the direction of what follows
    range(0x2028, 0x202F),  # the separators of lines and paragraphs among them
    range(0x2066, 0x206A),
)
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in chain(*_CONTROLS) if chr(code) != "\t"}


def configure(level: str) -> None:
    """Log to stdout from `level` on; may be called again to change the level."""
    root = logging.getLogger()
    if not any(isinstance(handler, _Handler) for handler in root.handlers):
        root.addHandler(_Handler())
    root.setLevel(level)
    for talkative in ("awsiot", "boto3", "botocore", "urllib3"):
        logging.getLogger(talkative).setLevel(max(root.level, logging.WARNING))


def redact(text: str) -> str:
    """Return `text` without the values of credentials, signatures and passwords in URLs."""
    return _SECRETS.sub(lambda match: f"{match[1] or ''}***", text)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # not subscriptable at run time
    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # What the locale's encoding lacks, and file names that are no UTF-8, cost no record.
            sys.stdout.reconfigure(errors="backslashreplace")
        super().__init__(sys.stdout)
        self.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return the record, its traceback included, as one line for every reader and terminal.

        Control characters, and line ends of Unicode, stand there as Python would write them.
        """
        return redact(super().format(record)).translate(_ESCAPES)
