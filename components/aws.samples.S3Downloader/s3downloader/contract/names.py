"""The spellings of names: snake_case, camelCase, and the aliases in use."""

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
    """Return `model_add` for `ModelAdd`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


def spellings(name: str) -> list[str]:
    """Return all accepted spellings of a snake_case name, itself first."""
    head, *tail = name.split("_")
    camel_case = head + "".join(word.capitalize() for word in tail)
    return list(dict.fromkeys((name, camel_case, *_ALIASES.get(name, ()))))


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that was probably meant by `name`."""
    by_lower_case = {candidate.lower(): candidate for candidate in names}
    matches = get_close_matches(name.lower().replace("-", "_"), by_lower_case, n=1)
    return by_lower_case[matches[0]] if matches else None
