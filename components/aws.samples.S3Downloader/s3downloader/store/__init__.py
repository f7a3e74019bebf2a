"""The only memory: one SQLite file that survives the process, the nucleus and the power."""

from .backlog import Backlog
from .database import Database
from .messages import Arrived, Outgoing
from .published import Published
from .store import Change, Item, Store, Totals

__all__ = [
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
