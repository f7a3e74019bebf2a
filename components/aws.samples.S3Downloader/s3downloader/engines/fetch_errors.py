"""Decides which error a fetch raises if several occur."""

from __future__ import annotations

__all__ = ["FetchErrors"]


class FetchErrors:
    """Stores the first error of each kind: of one object, or one that ends the fetch."""

    def __init__(self) -> None:
        self._object_error: Exception | None = None
        self._fatal_error: Exception | None = None

    @property
    def decisive(self) -> Exception | None:
        """The error to raise: the first that ends the fetch, else the first of one object, or None.

        An error that ends the fetch has priority. After an error of one object the source may be
        listed and fetched again, which does not help if, for example, the disk is full.
        """
        return self._fatal_error or self._object_error

    def add_object_error(self, error: Exception) -> None:
        """Add an error of one object. Files that have been started are still fetched."""
        self._object_error = self._object_error or error

    def add_fatal_error(self, error: Exception) -> None:
        """Add an error that ends the fetch."""
        self._fatal_error = self._fatal_error or error
