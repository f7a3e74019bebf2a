"""The count of starts, and whether the nucleus would start the component once more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s3downloader.app.start_limit import MAX_STARTS, WINDOW, Starts

HOUR = 3_600.0


class Device:
    """A device with an uptime, on which processes of the component start one after the other."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "starts.json"
        self.uptime = 100.0
        self.boot_id = "boot-1"

    def start(self, **options: Any) -> Starts:
        """Start a process. A program that is executed in its place has the same start time."""
        starts = Starts(
            self.file,
            boot_id=self.boot_id,
            uptime=lambda: self.uptime,
            **{"started": self.uptime, **options},
        )
        starts.record()
        return starts


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_the_third_start_within_an_hour_is_the_last(device: Device) -> None:
    answers = []
    for _ in range(MAX_STARTS):
        answers.append(device.start().would_restart())
        device.uptime += 1
    assert answers == [True, True, False]


def test_any_hour_has_three_starts_at_most(device: Device) -> None:
    """For ten hours, each process ends as soon as it is allowed to."""
    began = []
    while device.uptime < 10 * HOUR:
        began.append(device.uptime)
        process = device.start()
        while not process.would_restart():
            device.uptime += 15
        device.uptime += 1
    assert len(began) > 20
    assert all(
        later - early > HOUR for early, later in zip(began, began[MAX_STARTS:], strict=False)
    )


def test_a_program_executed_in_its_place_is_no_start(device: Device) -> None:
    started = device.uptime
    for _ in range(10):
        assert device.start(started=started).would_restart()
        device.uptime += 15


def test_starts_before_a_boot_do_not_count(device: Device) -> None:
    for _ in range(MAX_STARTS):
        device.start()
        device.uptime += 1
    device.boot_id, device.uptime = "boot-2", 90.0
    assert device.start().would_restart()


def test_a_process_that_ran_for_long_may_end(device: Device) -> None:
    for _ in range(MAX_STARTS):
        process = device.start()
        device.uptime += 1
    assert not process.would_restart()
    device.uptime += WINDOW
    assert process.would_restart()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"boot_id":"boot-1"}',
        b'{"boot_id":"boot-1","starts":["x"]}',
    ],
)
def test_a_damaged_record_counts_as_none(device: Device, content: bytes) -> None:
    device.file.write_bytes(content)
    assert device.start().would_restart()
    device.uptime += 1
    assert device.start().would_restart()
    device.uptime += 1
    assert not device.start().would_restart()


def test_starts_in_the_future_do_not_count(device: Device) -> None:
    device.file.write_bytes(b'{"boot_id":"boot-1","starts":[1e9,1e10,1e11]}')
    assert device.start().would_restart()


def test_where_nothing_can_be_recorded_ends_are_rare(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.file = device.file.parent / "missing" / "starts.json"
    process = device.start()
    assert "could not be recorded" in caplog.text
    assert not process.would_restart()
    device.uptime += HOUR / 2 + 60
    assert process.would_restart()


def test_the_start_of_this_process_is_known(tmp_path: Path) -> None:
    for _ in range(MAX_STARTS):
        starts = Starts(tmp_path / "starts.json")
        starts.record()
        assert starts.would_restart(), "one process, however often it asks"
