"""The log: one line a record on stdout, without secrets."""

from __future__ import annotations

import logging
import re
import sys

__all__ = ["configure", "redact"]

_SECRETS = re.compile(
    r"(?i)((?:X-Amz-[a-z-]+|aws_(?:secret_)?access_key(?:_id)?|aws_session_token|authorization"
    r"|authtoken|password)[\"']?\s*[=:]\s*[\"']?)[^\s&\"',}]+|(?<=://)[^/\s@]+(?=@)"
)


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
        super().__init__(sys.stdout)
        self.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return the record, its traceback included, as one line."""
        return redact(super().format(record)).replace("\n", "\\n")
