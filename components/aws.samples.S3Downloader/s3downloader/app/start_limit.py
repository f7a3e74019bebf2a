"""When the component was started lately, and so whether the nucleus would start it once more."""

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

MOST = 3
WINDOW = 3_660.0
"""So many starts within so many seconds, and a nucleus does not start the component again.

Nucleus lite: `StartLimitBurst=3` an hour in the component's unit; a minute is for imprecision. The
Java nucleus takes a component that fails a third time in an hour for broken.
"""


class _Record(msgspec.Struct):
    """The starts since the device did, in seconds of its uptime."""

    boot_id: str
    starts: list[float]


class Starts:
    """The starts of the component within the last hour, in a file that outlives the process.

    Times are the uptime of the device, which no clock sets; starts before the last boot do not
    count. A file that cannot be read counts as none. One that cannot be written tells nothing, and
    then a process is taken to be the last one for half an hour.
    """

    def __init__(
        self,
        path: Path,
        *,
        started: float | None = None,
        uptime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        boot_id: str | None = None,
    ) -> None:
        """`started` is when this process was; executing a program in its place changes nothing."""
        self._path = path
        self._uptime = uptime
        self._started = _started() if started is None else started
        self._boot_id = boot_id or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._recorded = False

    def record(self) -> None:
        """Record that this process was started."""
        record = _Record(self._boot_id, sorted({*self._recent(), self._started}))
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            new.write_bytes(msgspec.json.encode(record))
            new.replace(self._path)
            self._recorded = True
        except OSError as error:
            log.warning("the start could not be recorded in %s: %s", self._path, error)

    def would_restart(self) -> bool:
        """Whether the nucleus would start the component again if it ended now."""
        if not self._recorded:
            return self._uptime() - self._started > WINDOW / 2
        return len({*self._recent(), self._started}) < MOST

    def _recent(self) -> list[float]:
        try:
            record = msgspec.json.decode(self._path.read_bytes(), type=_Record)
        except (OSError, *DECODE_ERRORS):
            return []
        now = self._uptime()
        same_boot = record.boot_id == self._boot_id
        return [start for start in record.starts if same_boot and 0 <= now - start < WINDOW]


def _started() -> float:
    """Return the uptime at which this process was started (proc(5), field 22 of stat)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")
