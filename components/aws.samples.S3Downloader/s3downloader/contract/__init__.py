"""The messages of the component as typed structs, with their encoding to and from JSON."""

from . import commands, responses
from .decode import decode_command, peek
from .encode import encode
from .fields import new_command_id
from .refit import refit

__all__ = [
    "commands",
    "decode_command",
    "encode",
    "new_command_id",
    "peek",
    "refit",
    "responses",
]
