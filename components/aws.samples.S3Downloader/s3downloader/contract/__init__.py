"""The contract: every message as a typed struct, to and from JSON."""

from . import commands, responses
from .decode import decode_command, peek
from .encode import encode
from .fields import GENERATED
from .paging import item_after, page_token
from .refit import refit

__all__ = [
    "GENERATED",
    "commands",
    "decode_command",
    "encode",
    "item_after",
    "page_token",
    "peek",
    "refit",
    "responses",
]
