"""Runs the daemon's process: its signals, its exit status, and when it may exit."""

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
_START_OVER = -1
"""Returned instead of an exit status if the program must start over in the same process."""

_CONFIGURATION = {
    ErrorCode.INVALID_FIELD,
    ErrorCode.INVALID_STATE,
    ErrorCode.DESTINATION_NOT_WRITABLE,
}
_PAUSE = 15.0
_STARTS_FILE = "starts.json"
"""In the component's work folder, the nucleus's working directory, which exists if StateDir cannot
be used."""


MayEnd = Callable[[], bool]
"""Returns whether the process would be started again if it ended now."""

Serve = Callable[[MayEnd], Coroutine[Any, Any, None]]
"""Runs the daemon until cancelled."""


def run_until_stopped(serve: Serve, *, by_nucleus: bool) -> NoReturn:
    """Run `serve` until SIGTERM or SIGINT, then exit.

    The exit status is 0 after a stop, 2 if the configuration was refused, and 1 after any other
    end, so that the process is started again. A nucleus starts it only a few times an hour
    (`by_nucleus`). If it might not start it again, the program starts over in the same process,
    after a pause. It does not do this for a wrong parameter, which needs a deployment.
    """
    allocator.limit_pools()
    logs.configure("INFO")
    starts = None
    if by_nucleus:
        starts = Starts(Path(_STARTS_FILE))
        starts.record()
    status = _run(serve(starts.would_restart if starts else lambda: True), starts)
    sys.stdout.flush()
    if status == _START_OVER:
        _exec_again()
    os._exit(status)  # does not join threads, which may still wait for the network


def _exec_again() -> NoReturn:
    """Replace this process's program by a new run of it, without open files and sockets."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) > sys.stderr.fileno():
            with contextlib.suppress(OSError):
                os.set_inheritable(int(entry.name), False)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)  # a signal from now on ends the process
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
        "the nucleus might not start the component again within the hour: in %.0f s it starts over"
        " in the same process",
        _PAUSE,
    )
    await asyncio.sleep(_PAUSE)
    return _START_OVER


def _stop(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[int], stopping: asyncio.Event
) -> None:
    """Cancel `task`, and ignore further signals while it ends."""
    stopping.set()
    for number in _SIGNALS:
        loop.add_signal_handler(number, lambda: None)
    task.cancel()
