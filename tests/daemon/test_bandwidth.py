"""Limits: set by configuration and by command, in force at once, and still after a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from s3downloader.core.records import State

from .rig import NULL, Message, Rig, reaches


@pytest.fixture(autouse=True)
def bucket(rig: Rig) -> None:
    rig.source.objects = {"a": 10, "b": 10}
    rig.engine.hold("a")


async def at_work(rig: Rig, **fields: Any) -> None:
    await rig.download("a", "x", **fields)
    await rig.engine.stands_at("a")


async def in_force(rig: Rig, **fields: Any) -> tuple[int, int]:
    """Send `limits`; return the device's limit, and that of the configuration."""
    response = await rig.ask("limits", **fields)
    assert response["success"] is True, response
    return response["max_bandwidth"], response["configured_max_bandwidth"]


async def test_limits_tells_what_is_in_force(rig: Rig) -> None:
    rig.component = {"MaxBandwidth": "5000"}
    async with rig.running():
        await at_work(rig, max_bandwidth=700)
        await rig.download("b", "done")
        await rig.completed("done")
        response = await rig.ask("limits")
        assert (response["max_bandwidth"], response["configured_max_bandwidth"]) == (5_000, 5_000)
        shown = {
            "download_id": "x",
            "status": "downloading",
            "max_bandwidth": 700,
            "bytes_per_second": 0,
        }
        assert response["downloads"] == [shown]
        share = rig.engine.shares["x"]
        assert (share.limit, share.limited) == (700, True)
        assert (await rig.ask("limits", download_id="done"))["downloads"][0]["status"] == (
            "completed"
        )


async def test_a_limit_on_a_download_holds_at_once_and_after_a_restart(rig: Rig) -> None:
    async with rig.running():
        await at_work(rig)
        share = rig.engine.shares["x"]
        assert (share.limit, share.limited) == (0, False)
        response = await rig.ask("limits", download_id="x", max_bandwidth=700)
        assert [limit["max_bandwidth"] for limit in response["downloads"]] == [700]
        assert (share.limit, share.limited) == (700, True)
    async with rig.running():
        await rig.engine.stands_at("a")
        assert rig.engine.shares["x"].limit == 700
        assert (await rig.ask("details", download_id="x"))["details"]["options"][
            "max_bandwidth"
        ] == 700
        await rig.ask("limits", download_id="x", max_bandwidth=NULL)
        assert not rig.engine.shares["x"].limited
        rig.engine.release()
        await rig.completed("x")


@pytest.mark.parametrize(
    ("step", "holds"),
    [("record", reaches(State.DOWNLOADING)), ("outdated", lambda _: True)],
    ids=["as it changes", "planning"],
)
async def test_a_limit_set_while_the_record_changes_is_not_lost(
    rig: Rig, step: str, holds: Callable[[Any], bool]
) -> None:
    async with rig.running():
        gate = rig.hold(step, holds)
        await rig.download("a", "x")
        await gate.reached()
        command_id = await rig.send_and_wait("limits", download_id="x", max_bandwidth=700)
        gate.open()
        await rig.engine.stands_at("a")
        await rig.responses(command_id)
        assert rig.engine.shares["x"].limit == 700
        assert await rig.listed() == {"x": "downloading"}
    async with rig.running():
        await rig.engine.stands_at("a")
        assert rig.engine.shares["x"].limit == 700


async def test_a_limit_that_cannot_be_written_is_not_set(rig: Rig) -> None:
    async with rig.running():
        await at_work(rig)
        for fields in ({}, {"download_id": "x"}):
            with rig.disk.full("INSERT INTO (notes|downloads)|INSERT OR REPLACE INTO notes"):
                assert not (await rig.ask("limits", max_bandwidth=700, **fields))["success"]
        assert not rig.engine.shares["x"].limited
        response = await rig.ask("limits")
        assert response["max_bandwidth"] == response["downloads"][0]["max_bandwidth"] == 0


async def test_the_device_s_limit_holds_at_once_and_after_a_restart(rig: Rig) -> None:
    rig.component = {"MaxBandwidth": 9_000}
    async with rig.running():
        await at_work(rig)
        for limit in (0, 500):
            assert await in_force(rig, max_bandwidth=limit) == (limit, 9_000)
            assert rig.engine.shares["x"].limited is bool(limit)
    async with rig.running():
        assert await in_force(rig) == (500, 9_000)
        rig.reconfigure(LogLevel="ERROR")
        assert await in_force(rig) == (500, 9_000)


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_changed_configuration_ends_the_limit_of_a_command_for_good(
    rig: Rig, restarts: bool
) -> None:
    async with rig.running():
        await at_work(rig)
        assert await in_force(rig, max_bandwidth=500) == (500, 0)
        if not restarts:
            rig.reconfigure(MaxBandwidth=800)
            assert await in_force(rig) == (800, 800)
            assert rig.engine.shares["x"].limited
    rig.component = {"MaxBandwidth": 800}
    async with rig.running():
        assert await in_force(rig) == (800, 800)
    rig.component = {}
    async with rig.running():
        assert await in_force(rig) == (0, 0)


async def test_null_returns_the_device_to_the_configuration(rig: Rig) -> None:
    rig.component = {"MaxBandwidth": 9_000}
    async with rig.running():
        assert await in_force(rig, max_bandwidth=500) == (500, 9_000)
        assert await in_force(rig, max_bandwidth=NULL) == (9_000, 9_000)
    async with rig.running():
        assert await in_force(rig) == (9_000, 9_000)


async def test_what_heeds_no_limit_is_given_none(rig: Rig) -> None:
    async with rig.running():
        refused = await rig.download("a", "x", engine="s5cmd", max_bandwidth=700)
        assert (refused["error_code"], refused["error_details"]["field"]) == (
            "invalid_field",
            "max_bandwidth",
        )
        await at_work(rig, engine="s5cmd", max_bandwidth=0)
        refused = await rig.ask("limits", download_id="x", max_bandwidth=700)
        assert refused["error_code"] == "invalid_field"
        assert 'engine "s5cmd"' in refused["error"]


async def test_a_limit_for_nothing_is_refused(rig: Rig) -> None:
    async with rig.running():
        refused = await rig.ask("limits", download_id="x", max_bandwidth=700)
        assert refused["error_code"] == "download_not_found"
        await rig.download("b", "done")
        await rig.completed("done")
        refused = await rig.ask("limits", download_id="done", max_bandwidth=700)
        assert refused["error_code"] == "invalid_state"
        refused = await rig.ask("limits", max_bandwidth=-1)
        assert refused["error_code"] == "invalid_field"


async def test_limits_come_page_by_page(rig: Rig) -> None:
    rig.configuration["MaxPayloadBytes"] = 2_000
    names = [f"{n:02}" for n in range(40)]
    async with rig.running():
        for name in names:
            await rig.download("a", name, name)
        shown: list[str] = []
        page: Message = {"next_token": None}
        while "next_token" in page:
            page = await rig.ask("limits", next_token=page["next_token"])
            shown += [limit["download_id"] for limit in page["downloads"]]
        assert shown == names
