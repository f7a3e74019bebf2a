"""Bandwidth limits by configuration and by command take effect at once, and survive a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from s3downloader.core.records import State

from .harness import NULL, Harness, Message, reaches


@pytest.fixture(autouse=True)
def bucket(harness: Harness) -> None:
    harness.source.objects = {"a": 10, "b": 10}
    harness.engine.hold("a")


async def at_work(harness: Harness, **fields: Any) -> None:
    await harness.download("a", "x", **fields)
    await harness.engine.stands_at("a")


async def in_force(harness: Harness, **fields: Any) -> tuple[int, int]:
    """Send `limits`; return the device's limit, and that of the configuration."""
    response = await harness.ask("limits", **fields)
    assert response["success"] is True, response
    return response["max_bandwidth"], response["configured_max_bandwidth"]


async def test_limits_tells_what_is_in_force(harness: Harness) -> None:
    harness.component = {"MaxBandwidth": "5000"}
    async with harness.running():
        await at_work(harness, max_bandwidth=700)
        await harness.download("b", "done")
        await harness.completed("done")
        response = await harness.ask("limits")
        assert (response["max_bandwidth"], response["configured_max_bandwidth"]) == (5_000, 5_000)
        shown = {
            "download_id": "x",
            "status": "downloading",
            "max_bandwidth": 700,
            "bytes_per_second": 0,
        }
        assert response["downloads"] == [shown]
        share = harness.engine.shares["x"]
        assert (share.limit, share.limited) == (700, True)
        assert (await harness.ask("limits", download_id="done"))["downloads"][0]["status"] == (
            "completed"
        )


async def test_a_limit_on_a_download_holds_at_once_and_after_a_restart(harness: Harness) -> None:
    async with harness.running():
        await at_work(harness)
        share = harness.engine.shares["x"]
        assert (share.limit, share.limited) == (0, False)
        response = await harness.ask("limits", download_id="x", max_bandwidth=700)
        assert [limit["max_bandwidth"] for limit in response["downloads"]] == [700]
        assert (share.limit, share.limited) == (700, True)
    async with harness.running():
        await harness.engine.stands_at("a")
        assert harness.engine.shares["x"].limit == 700
        assert (await harness.ask("details", download_id="x"))["details"]["options"][
            "max_bandwidth"
        ] == 700
        await harness.ask("limits", download_id="x", max_bandwidth=NULL)
        assert not harness.engine.shares["x"].limited
        harness.engine.release()
        await harness.completed("x")


@pytest.mark.parametrize(
    ("step", "holds"),
    [("record", reaches(State.DOWNLOADING)), ("outdated", lambda _: True)],
    ids=["as it changes", "planning"],
)
async def test_a_limit_set_while_the_record_changes_is_not_lost(
    harness: Harness, step: str, holds: Callable[[Any], bool]
) -> None:
    async with harness.running():
        gate = harness.hold(step, holds)
        await harness.download("a", "x")
        await gate.reached()
        command_id = await harness.send_and_wait("limits", download_id="x", max_bandwidth=700)
        gate.open()
        await harness.engine.stands_at("a")
        await harness.responses(command_id)
        assert harness.engine.shares["x"].limit == 700
        assert await harness.listed() == {"x": "downloading"}
    async with harness.running():
        await harness.engine.stands_at("a")
        assert harness.engine.shares["x"].limit == 700


async def test_a_limit_that_cannot_be_written_is_not_set(harness: Harness) -> None:
    async with harness.running():
        await at_work(harness)
        for fields in ({}, {"download_id": "x"}):
            with harness.disk.full("INSERT INTO (notes|downloads)|INSERT OR REPLACE INTO notes"):
                assert not (await harness.ask("limits", max_bandwidth=700, **fields))["success"]
        assert not harness.engine.shares["x"].limited
        response = await harness.ask("limits")
        assert response["max_bandwidth"] == response["downloads"][0]["max_bandwidth"] == 0


async def test_the_device_s_limit_holds_at_once_and_after_a_restart(harness: Harness) -> None:
    harness.component = {"MaxBandwidth": 9_000}
    async with harness.running():
        await at_work(harness)
        for limit in (0, 500):
            assert await in_force(harness, max_bandwidth=limit) == (limit, 9_000)
            assert harness.engine.shares["x"].limited is bool(limit)
    async with harness.running():
        assert await in_force(harness) == (500, 9_000)
        harness.reconfigure(LogLevel="ERROR")
        assert await in_force(harness) == (500, 9_000)


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_changed_configuration_replaces_the_limit_of_a_command(
    harness: Harness, restarts: bool
) -> None:
    async with harness.running():
        await at_work(harness)
        assert await in_force(harness, max_bandwidth=500) == (500, 0)
        if not restarts:
            harness.reconfigure(MaxBandwidth=800)
            assert await in_force(harness) == (800, 800)
            assert harness.engine.shares["x"].limited
    harness.component = {"MaxBandwidth": 800}
    async with harness.running():
        assert await in_force(harness) == (800, 800)
    harness.component = {}
    async with harness.running():
        assert await in_force(harness) == (0, 0)


async def test_null_returns_the_device_to_the_configuration(harness: Harness) -> None:
    harness.component = {"MaxBandwidth": 9_000}
    async with harness.running():
        assert await in_force(harness, max_bandwidth=500) == (500, 9_000)
        assert await in_force(harness, max_bandwidth=NULL) == (9_000, 9_000)
    async with harness.running():
        assert await in_force(harness) == (9_000, 9_000)


async def test_what_heeds_no_limit_is_given_none(harness: Harness) -> None:
    async with harness.running():
        refused = await harness.download("a", "x", engine="s5cmd", max_bandwidth=700)
        assert (refused["error_code"], refused["error_details"]["field"]) == (
            "invalid_field",
            "max_bandwidth",
        )
        await at_work(harness, engine="s5cmd", max_bandwidth=0)
        refused = await harness.ask("limits", download_id="x", max_bandwidth=700)
        assert refused["error_code"] == "invalid_field"
        assert 'engine "s5cmd"' in refused["error"]


async def test_a_limit_for_nothing_is_refused(harness: Harness) -> None:
    async with harness.running():
        refused = await harness.ask("limits", download_id="x", max_bandwidth=700)
        assert refused["error_code"] == "download_not_found"
        await harness.download("b", "done")
        await harness.completed("done")
        refused = await harness.ask("limits", download_id="done", max_bandwidth=700)
        assert refused["error_code"] == "invalid_state"
        refused = await harness.ask("limits", max_bandwidth=-1)
        assert refused["error_code"] == "invalid_field"


async def test_limits_come_page_by_page(harness: Harness) -> None:
    harness.configuration["MaxPayloadBytes"] = 2_000
    names = [f"{n:02}" for n in range(40)]
    async with harness.running():
        for name in names:
            await harness.download("a", name, name)
        shown: list[str] = []
        page: Message = {"next_token": None}
        while "next_token" in page:
            page = await harness.ask("limits", next_token=page["next_token"])
            shown += [limit["download_id"] for limit in page["downloads"]]
        assert shown == names
