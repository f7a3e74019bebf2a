"""Progress never decreases, and the rate is that of the last ten seconds."""

from __future__ import annotations

from s3downloader.downloads.active_download import Meter

from ..support import ManualClock


def test_progress_keeps_its_peak_when_a_file_starts_again() -> None:
    meter = Meter(ManualClock())
    meter.restart(100, keep_peak=True)
    meter.progress(50)
    assert (meter.bytes_done, meter.bytes_on_disk) == (150, 150)
    meter.restart(100, keep_peak=True)
    assert (meter.bytes_done, meter.bytes_on_disk) == (150, 100)
    meter.progress(20)
    assert meter.bytes_done == 150
    meter.progress(70)
    assert meter.bytes_done == 170


def test_a_changed_source_starts_the_count_anew() -> None:
    meter = Meter(ManualClock(), bytes_done=500)
    meter.restart(10, keep_peak=False)
    assert meter.bytes_done == 10


def test_a_file_that_settles_is_not_counted_twice() -> None:
    meter = Meter(ManualClock())
    meter.progress(80)
    meter.add_finished(80)
    assert (meter.bytes_done, meter.bytes_on_disk) == (80, 80)


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    clock = ManualClock()
    meter = Meter(clock)
    meter.restart(0, keep_peak=False)
    for second in range(1, 31):
        clock.time += 1
        meter.progress(second * 10 if second <= 20 else 200 + (second - 20) * 50)
    assert round(meter.bytes_per_second()) == 50
    clock.time += 1_000
    assert meter.bytes_per_second() < 1
