"""An update of components waits only for downloads that would lose bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3downloader.core.records import State
from s3downloader.core.throttle import Throttle
from s3downloader.downloads.active_download import ActiveDownload
from s3downloader.downloads.policy.deferral import Deferral

from ..support import ManualClock
from .support import a_download


class Device:
    """The deferral of a device with one running download."""

    def __init__(self, directory: Path, longest: float = 25.0, **options: Any) -> None:
        self.clock = ManualClock()
        self.longest = longest
        download = a_download(directory, **{"engine": "s5cmd", **options})
        self.active = ActiveDownload(download, self.clock)
        self.limit = 0
        self.active.share = Throttle(self.clock, lambda: self.limit).open()
        self.enter(State.DOWNLOADING)
        self._deferral = Deferral(lambda: [self.active], lambda: self.longest, self.clock)

    def enter(self, state: State) -> None:
        self.active.set_record(msgspec.structs.replace(self.active.download, state=state))

    def delay_of(self, deployment: str = "first") -> float:
        return self._deferral.seconds(deployment)


def test_a_deployment_waits_so_long_and_no_longer(tmp_path: Path) -> None:
    device = Device(tmp_path)
    waits = []
    while wait := device.delay_of():
        waits.append(wait)
        device.clock.advance(wait)
    assert waits == [10.0, 10.0, 5.0]
    assert device.delay_of("second") == 10.0


def test_it_waits_no_longer_than_the_download_is_under_way(tmp_path: Path) -> None:
    device = Device(tmp_path)
    assert device.delay_of() == 10.0
    device.enter(State.VERIFYING)
    assert device.delay_of() == 0.0


@pytest.mark.parametrize("state", [state for state in State if state is not State.DOWNLOADING])
def test_only_bytes_on_their_way_are_waited_for(tmp_path: Path, state: State) -> None:
    device = Device(tmp_path)
    device.enter(state)
    assert device.delay_of() == 0.0


@pytest.mark.parametrize("engine", ["auto", "ranged"])
def test_what_goes_on_inside_files_is_not_waited_for(tmp_path: Path, engine: str) -> None:
    assert Device(tmp_path, engine=engine).delay_of() == 0.0


def test_under_a_limit_s5cmd_is_not_used_and_not_waited_for(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.limit = 1_000
    assert device.delay_of() == 0.0


def test_a_download_that_has_no_turn_yet_is_not_waited_for(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.active.share = None
    assert device.delay_of() == 0.0


def test_the_parameter_is_live_and_0_never_waits(tmp_path: Path) -> None:
    device = Device(tmp_path, longest=0.0)
    assert device.delay_of() == 0.0
    device.longest = 5.0
    assert device.delay_of() == 5.0
