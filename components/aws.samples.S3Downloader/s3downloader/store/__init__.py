"""The only memory: one SQLite file that survives the process, the nucleus and the power."""

from .database import Database
from .published import Published
from .store import Change, Item, Store

__all__ = ["Change", "Database", "Item", "Published", "Store"]
