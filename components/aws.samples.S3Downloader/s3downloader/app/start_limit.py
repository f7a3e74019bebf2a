"""Records the component's starts, to predict whether the nucleus would start it again."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from ..core.decoding import DECODE_ERRORS

__all__ = ["Starts"]

log = logging.getLogger(__name__)

MAX_STARTS = 3
WINDOW = 3_660.0
"""A nucleus does not start the component again after MAX_STARTS starts within WINDOW seconds.

Nucleus lite has `StartLimitBurst=3` per hour in the component's unit. The Java nucleus marks a
component as broken when it fails the third time within an hour. WINDOW has a minute of tolerance.
"""


class _Record(msgspec.Struct):
    """The starts since the last boot, in seconds of uptime."""

    boot_id: str
    starts: list[float]


class Starts:
    """The component's starts within the last hour, in a file.

    Times are the device's uptime, which does not depend on its clock. Starts before the last boot
    do not count. If the file cannot be read, there were no starts. If it cannot be written, starts
    are not known: then this class assumes for the first half hour of a process that the nucleus
    would not start the component again.
    """

    def __init__(
        self,
        path: Path,
        *,
        started: float | None = None,
        uptime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        boot_id: str | None = None,
    ) -> None:
        """`path` is the file. `uptime` returns seconds since the boot.

        `started` is the uptime at which this process started. Starting over in the same process
        does not change it.
        """
        self._path = path
        self._uptime = uptime
        self._started = _started() if started is None else started
        self._boot_id = boot_id or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._recorded = False

    def record(self) -> None:
        """Write the start of this process to the file."""
        record = _Record(self._boot_id, sorted({*self._recent(), self._started}))
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            new.write_bytes(msgspec.json.encode(record))
            new.replace(self._path)
            self._recorded = True
        except OSError as error:
            log.warning("the start could not be recorded in %s: %s", self._path, error)

    def would_restart(self) -> bool:
        """Return whether the nucleus would start the component again if it ended now."""
        if not self._recorded:
            return self._uptime() - self._started > WINDOW / 2
        return len({*self._recent(), self._started}) < MAX_STARTS

    def _recent(self) -> list[float]:
        try:
            record = msgspec.json.decode(self._path.read_bytes(), type=_Record)
        except (OSError, *DECODE_ERRORS):
            return []
        now = self._uptime()
        same_boot = record.boot_id == self._boot_id
        return [start for start in record.starts if same_boot and 0 <= now - start < WINDOW]


def _started() -> float:
    """Return the uptime in seconds at which this process started (proc(5), field 22 of stat)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")
