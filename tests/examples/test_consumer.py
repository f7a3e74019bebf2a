"""What the consumer does when the model changes at the very moment at which it is opened.

The nucleus is a stand-in, since the moment must stand still.
`test_model_consumer` has the real one.
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
from nucleus import Named


class Nucleus:
    """Names one model. When the shadow is read for the n-th time, the n-th of `moments` comes.

    It is lost when there are none any more.
    """

    def __init__(self, place: Path) -> None:
        self.news = threading.Event()
        self.shadow = Named("v1", str(place))
        self.moments: list[Callable[[], object]] = []

    @property
    def lost(self) -> bool:
        return not self.moments

    def model_id(self) -> str:
        return "m"

    def named(self, model_id: str) -> Named:
        assert model_id == "m"
        self.news.set()
        self.moments.pop(0)()
        return self.shadow


def nothing() -> None:
    return


def run(stand_in: Nucleus, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Run the consumer until the nucleus is lost; return what it has said."""
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
            stand_in.shadow = Named("v2", str(place))

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
