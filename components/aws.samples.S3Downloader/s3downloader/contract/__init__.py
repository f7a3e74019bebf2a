"""The contract: every message as a typed struct, to and from JSON."""

from . import commands, responses
from .decode import decode_command, peek
from .encode import encode
from .fields import GENERATED

__all__ = [
    "GENERATED",
    "commands",
    "decode_command",
    "encode",
    "peek",
    "responses",
]
