"""Tunes glibc's allocator for a device with little memory.

A download allocates and frees buffers on many threads. By default each thread gets an arena of its
own, and each large buffer is mapped from the kernel and unmapped again. Source: mallopt(3).
"""

from __future__ import annotations

import contextlib
import ctypes

__all__ = ["limit_pools", "trim"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h of glibc
_ARENAS = 2
_TRIM_BYTES = 32 << 20
_MMAP_BYTES = 4 << 20

_libc = ctypes.CDLL(None)


def limit_pools() -> None:
    """Limit the number of arenas, and let them keep freed buffers.

    Call it before the first thread is started.
    """
    with contextlib.suppress(AttributeError):  # the C library is not glibc
        _libc.mallopt(_ARENA_MAX, _ARENAS)
        _libc.mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
        _libc.mallopt(_TRIM_THRESHOLD, _TRIM_BYTES)


def trim() -> None:
    """Return unused memory to the kernel."""
    with contextlib.suppress(AttributeError):
        _libc.malloc_trim(0)
