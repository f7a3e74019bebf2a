"""The C library's allocator, told that memory is scarce here.

Buffers of a download come and go on many threads. By default each thread keeps a pool of its own,
and each buffer of some size is asked of the kernel and given back, page by page: mallopt(3).
"""

from __future__ import annotations

import contextlib
import ctypes

__all__ = ["limit_pools", "trim"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h of glibc
_ARENAS = 2
_KEPT = 32 << 20
_BUFFER = 4 << 20

_libc = ctypes.CDLL(None)


def limit_pools() -> None:
    """Have few pools, and keep buffers for the next use; before the first thread is started."""
    with contextlib.suppress(AttributeError):  # another C library than glibc
        _libc.mallopt(_ARENA_MAX, _ARENAS)
        _libc.mallopt(_MMAP_THRESHOLD, _BUFFER)
        _libc.mallopt(_TRIM_THRESHOLD, _KEPT)


def trim() -> None:
    """Give the kernel back what is not in use."""
    with contextlib.suppress(AttributeError):
        _libc.malloc_trim(0)
