"""The process around the daemon: its signals and its exit status."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn

from . import allocator, logs
from .errors import DownloaderError, ErrorCode

__all__ = ["run_until_stopped"]

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_STOPPED, _FAILED, _REFUSED = 0, 1, 2
_CONFIGURATION = {
    ErrorCode.INVALID_FIELD,
    ErrorCode.INVALID_STATE,
    ErrorCode.DESTINATION_NOT_WRITABLE,
}


def run_until_stopped(serving: Coroutine[Any, Any, None]) -> NoReturn:
    """Run `serving` until SIGTERM or SIGINT, then exit.

    The status is 0 when it was stopped, 2 for a configuration that is refused, and 1 for all else
    that ends it, so that the nucleus starts it again.
    """
    allocator.spare()
    logs.configure("INFO")
    status = _run(serving)
    sys.stdout.flush()
    os._exit(status)  # at once: a thread may still wait for a network that is silent


def _run(serving: Coroutine[Any, Any, None]) -> int:
    loop = asyncio.new_event_loop()
    task = loop.create_task(serving)
    for number in _SIGNALS:
        loop.add_signal_handler(number, _stop, loop, task)
    try:
        loop.run_until_complete(task)
    except asyncio.CancelledError:
        log.info("stopped")
        return _STOPPED
    except DownloaderError as error:
        log.critical("%s", error)
        return _REFUSED if error.code in _CONFIGURATION else _FAILED
    except Exception:
        log.critical("the downloader failed", exc_info=True)
    return _FAILED


def _stop(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    """Cancel `task`; a second signal does not disturb it while it ends."""
    for number in _SIGNALS:
        loop.add_signal_handler(number, lambda: None)
    task.cancel()
