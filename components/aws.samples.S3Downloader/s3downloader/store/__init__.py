"""The state of the downloader in one SQLite file; the inbox and outbox; repair of damage."""

from .backlog import Backlog
from .database import Database
from .files import Item, Totals
from .messages import RESPONSES, Arrived, Outgoing
from .published import Published
from .store import Change, Store

__all__ = [
    "RESPONSES",
    "Arrived",
    "Backlog",
    "Change",
    "Database",
    "Item",
    "Outgoing",
    "Published",
    "Store",
    "Totals",
]
