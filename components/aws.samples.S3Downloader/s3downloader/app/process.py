"""The process around the daemon: its signals, its exit status, and when it may exit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn

from ..core import logs
from ..core.errors import DownloaderError, ErrorCode
from ..system import allocator
from .start_limit import Starts

__all__ = ["MayEnd", "run_until_stopped"]

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_STOPPED, _FAILED, _REFUSED = 0, 1, 2
_BEGIN_AGAIN = -1
"""Instead of an exit status: the program is to begin anew in the same process."""

_CONFIGURATION = {
    ErrorCode.INVALID_FIELD,
    ErrorCode.INVALID_STATE,
    ErrorCode.DESTINATION_NOT_WRITABLE,
}
_PAUSE = 15.0
_STARTS = "starts.json"
"""In the component's work folder, where the nucleus runs it: it is there when StateDir is not."""


MayEnd = Callable[[], bool]
"""Tells whether the process, if it ended now, would be started again."""

Serve = Callable[[MayEnd], Coroutine[Any, Any, None]]
"""Serves until it is cancelled."""


def run_until_stopped(serve: Serve, *, by_nucleus: bool) -> NoReturn:
    """Run `serve` until SIGTERM or SIGINT, then exit.

    The status is 0 when it was stopped, 2 for a configuration that is refused, and 1 for all else
    that ends it, so that who started it starts it again. A nucleus does so a few times an hour
    only: where it might not, the program begins anew in the same process instead, after a pause;
    but not for a parameter that is wrong, which no time mends.
    """
    allocator.limit_pools()
    logs.configure("INFO")
    starts = None
    if by_nucleus:
        starts = Starts(Path(_STARTS))
        starts.record()
    status = _run(serve(starts.would_restart if starts else lambda: True), starts)
    sys.stdout.flush()
    if status == _BEGIN_AGAIN:
        _exec_again()
    os._exit(status)  # at once: a thread may still wait for a network that is silent


def _exec_again() -> NoReturn:
    """Execute the program in the place of this one, with none of its files and sockets."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) > sys.stderr.fileno():
            with contextlib.suppress(OSError):
                os.set_inheritable(int(entry.name), False)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)  # one that comes now ends it
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _run(serving: Coroutine[Any, Any, None], starts: Starts | None) -> int:
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()
    task = loop.create_task(_serve(serving, starts, stopping))
    for number in _SIGNALS:
        loop.add_signal_handler(number, _stop, loop, task, stopping)
    try:
        return loop.run_until_complete(task)
    except asyncio.CancelledError:
        log.info("stopped")
        return _STOPPED


async def _serve(
    serving: Coroutine[Any, Any, None], starts: Starts | None, stopping: asyncio.Event
) -> int:
    status, may_pass = _FAILED, True
    try:
        await serving
    except DownloaderError as error:
        log.critical("%s", error)
        may_pass = error.code is not ErrorCode.INVALID_FIELD
        status = _REFUSED if error.code in _CONFIGURATION else _FAILED
    except Exception:
        log.critical("the downloader failed", exc_info=True)
    if stopping.is_set() or not may_pass or starts is None or starts.would_restart():
        return status
    log.warning(
        "the nucleus might not start the component once more within the hour: in %.0f s it begins"
        " anew in the same process",
        _PAUSE,
    )
    await asyncio.sleep(_PAUSE)
    return _BEGIN_AGAIN


def _stop(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[int], stopping: asyncio.Event
) -> None:
    """Cancel `task`; a second signal does not disturb it while it ends."""
    stopping.set()
    for number in _SIGNALS:
        loop.add_signal_handler(number, lambda: None)
    task.cancel()
