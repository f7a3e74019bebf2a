"""Which fault a fetch ends with, where several occur."""

from __future__ import annotations

__all__ = ["Faults"]


class Faults:
    """Keeps the first fault of each kind: of one object, or one that ends the whole fetch."""

    def __init__(self) -> None:
        self._of_object: Exception | None = None
        self._ending: Exception | None = None

    @property
    def decisive(self) -> Exception | None:
        """The first fault that ends the fetch, else the first of one object, else None.

        Whoever hears of a missing object may list the source again and go on, which is of no use
        where the disk was full afterwards.
        """
        return self._ending or self._of_object

    def of_object(self, error: Exception) -> None:
        """Take a fault of one object; the files under way are still fetched."""
        self._of_object = self._of_object or error

    def ending(self, error: Exception) -> None:
        """Take a fault after which nothing more is fetched."""
        self._ending = self._ending or error
