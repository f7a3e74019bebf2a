"""The consumer, while the model changes just as it is opened.

The nucleus is a stand-in, because the test must act at exact moments. `test_model_consumer` uses
the real one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

import nucleus
from consumer import Consumer
from nucleus import ModelEntry


class Nucleus:
    """A stand-in whose shadow has one model.

    When the shadow is read for the n-th time, the n-th function in `moments` is called. After the
    last one, the connection is lost.
    """

    def __init__(self, place: Path) -> None:
        self.changed = threading.Event()
        self.shadow = ModelEntry("v1", str(place))
        self.moments: list[Callable[[], object]] = []

    @property
    def lost(self) -> bool:
        return not self.moments

    def model_id(self) -> str:
        return "m"

    def entry(self, model_id: str) -> ModelEntry:
        assert model_id == "m"
        self.changed.set()
        self.moments.pop(0)()
        return self.shadow


def nothing() -> None:
    return


def run(stand_in: Nucleus, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Run the consumer until the nucleus is lost; return what it has logged."""
    caplog.set_level("INFO", "consumer")
    Consumer(cast(nucleus.Nucleus, stand_in)).run()
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("files_move", "shadow_moves"), [(True, False), (False, True), (True, True)]
)
def test_what_moves_while_it_is_opened_is_opened_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, files_move: bool, shadow_moves: bool
) -> None:
    place, following = tmp_path / "m", tmp_path / "new"
    place.write_text("one")
    following.write_text("three")
    stand_in = Nucleus(place)

    def move() -> None:
        if files_move:
            following.rename(place)
        if shadow_moves:
            stand_in.shadow = ModelEntry("v2", str(place))

    stand_in.moments = [nothing, move, nothing, nothing]
    message, opened = run(stand_in, caplog)
    assert message == "m v1 was replaced while it was opened"
    opening = json.loads(opened.removeprefix("opened "))
    assert opening["version"] == ("v2" if shadow_moves else "v1")
    assert opening["files"]["m"]["size"] == (5 if files_move else 3)


def test_what_vanishes_is_waited_for_and_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "m"
    stand_in = Nucleus(place)
    stand_in.moments = [nothing, nothing, lambda: place.write_text("one"), nothing]
    missing, opened = run(stand_in, caplog)
    assert missing.startswith("m v1 cannot be opened yet: ")
    assert opened.startswith("opened ")
