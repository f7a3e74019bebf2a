"""Spellings of the names of commands and fields: snake_case, camelCase and aliases."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["nearest", "snake_case", "spellings"]

_ALIASES = {
    "details": ("getdetails", "getDetails"),
    "disk_space": ("disk-space",),
    "numworkers": ("numWorkers",),
}


def snake_case(class_name: str) -> str:
    """Return the name of a class in snake_case: `model_add` for `ModelAdd`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


def spellings(name: str) -> list[str]:
    """Return all accepted spellings of a snake_case name. The name itself comes first."""
    head, *tail = name.split("_")
    camel_case = head + "".join(word.capitalize() for word in tail)
    return list(dict.fromkeys((name, camel_case, *_ALIASES.get(name, ()))))


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the most similar of `names`, or None if none is similar."""
    by_lower_case = {candidate.lower(): candidate for candidate in names}
    matches = get_close_matches(name.lower().replace("-", "_"), by_lower_case, n=1)
    return by_lower_case[matches[0]] if matches else None
