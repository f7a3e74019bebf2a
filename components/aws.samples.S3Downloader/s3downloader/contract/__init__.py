"""The contract: every message as a typed struct, to and from JSON."""

from . import commands, responses
from .decode import decode_command, peek
from .encode import encode
from .fields import new_command_id
from .paging import item_after, page_token

__all__ = [
    "commands",
    "decode_command",
    "encode",
    "item_after",
    "new_command_id",
    "page_token",
    "peek",
    "responses",
]
