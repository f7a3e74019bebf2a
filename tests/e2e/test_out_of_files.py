"""The process has no free file descriptors: a download waits, and continues when it has."""

from __future__ import annotations

import resource
from functools import partial
from pathlib import Path

import pytest

from sandbox.operator import DeviceMessage
from sandbox.servers import ObjectServer

from .conftest import Bench, sha256

MiB = 1 << 20


class Files:
    """Limits the number of open files of a process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = resource.prlimit(pid, resource.RLIMIT_NOFILE)

    def allow(self, more: int) -> None:
        """Allow so many more open files than now. (A new descriptor is the lowest free number.)"""
        taken = {int(entry.name) for entry in Path(f"/proc/{self._pid}/fd").iterdir()}
        free = (number for number in range(self._before[0]) if number not in taken)
        limit = next(number for count, number in enumerate(free) if count == more)
        resource.prlimit(self._pid, resource.RLIMIT_NOFILE, (limit, self._before[1]))

    def allow_all(self) -> None:
        resource.prlimit(self._pid, resource.RLIMIT_NOFILE, self._before)


def waits_or_completes(download_id: str, received: DeviceMessage) -> bool:
    if received.topic == "status":
        shown = received.message.get("downloads", [])
        return any((d["download_id"], d["status"]) == (download_id, "waiting") for d in shown)
    return (received.message.get("event"), received.message.get("download_id")) == (
        "download_completed",
        download_id,
    )


@pytest.mark.parametrize("engine", ["ranged", "s5cmd"])
async def test_a_download_without_free_descriptors_waits_and_goes_on(
    bench: Bench, object_server: ObjectServer, engine: str
) -> None:
    operator = bench.operator
    key = f"files/{engine}"
    digest = await object_server.make(key, MiB)
    files = Files(bench.device.pid)
    waited = 0
    for more in (0, 1, 2, 4, 6):
        name = f"{engine}-{more}"
        files.allow(more)
        await operator.ask(
            "download",
            bucket="models",
            key=key,
            download_id=name,
            destination=str(bench.downloads / name),
            engine=engine,
        )
        ended = await operator.wait_for(partial(waits_or_completes, name))
        if "event" not in ended:
            waited += 1
            [download] = [d for d in ended["downloads"] if d["download_id"] == name]
            assert download["error_code"] == "resources_exhausted"
            assert "raise ulimit -n" in download["error"]
        files.allow_all()
        await operator.send("resume", download_id=name)
        await operator.event("download_completed", name)
        assert sha256(bench.downloads / name / engine) == digest
        assert operator.events(name).count("download_error") == 0
    assert waited >= 2
    assert bench.leftovers() == []
