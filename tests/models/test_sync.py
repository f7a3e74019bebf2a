"""The shadow follows the registry, and changes by other writers are merged."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from s3downloader.core.aio import timeout
from s3downloader.core.errors import ErrorCode
from s3downloader.models.registry import Registry
from tests.support import PATIENCE, eventually

from .registry_env import Device, encode

VLM = {"model_id": "vlm-7B", "model_name": "vlm-7B", "model_version": "2.5"}
GATHERING = 0.1
OCR = {"model_id": "ocr", "model_name": "ocr", "model_version": "1.0"}


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


@pytest.fixture
async def registry(device: Device) -> AsyncIterator[Registry]:
    async with device.started() as registry:
        yield registry


async def after_some_time(device: Device, probe: Callable[[], Any]) -> None:
    """Let time pass in steps of 0.1 s until `probe` is true."""

    def step() -> Any:
        device.clock.advance(0.1)
        return probe()

    await eventually(step)


async def at_rest(device: Device) -> None:
    """Let time pass until everything is done, and only the next periodic read is waited for."""
    looks = 0
    async with timeout(PATIENCE):
        while looks < 2:
            await run_loop()
            looks = looks + 1 if min(device.clock.waits, default=0) > 500 else 0
            if device.clock.waits == [GATHERING]:
                device.clock.advance(GATHERING)


async def run_loop() -> None:
    """Let the event loop run until everybody has handled what has happened so far."""
    for _ in range(10):
        await asyncio.sleep(0)


async def backs_off(device: Device, failures: int) -> float:
    """Wait until the next round waits as after so many failures in a row; return how long."""
    most = min(2.0**failures, 300.0)

    def wait() -> float:
        waits = device.clock.waits
        return waits[0] if len(waits) == 1 and most / 2 <= waits[0] <= most else 0.0

    return await eventually(wait)


async def gathered(device: Device) -> None:
    """Let a round start, which waits only for the end of a burst of changes."""
    await eventually(lambda: device.clock.waits == [GATHERING])
    device.clock.advance(GATHERING)


async def next_round(device: Device, failures: int) -> None:
    """Let the next round start, which waits as after so many consecutive failures."""
    device.clock.advance(await backs_off(device, failures) + 0.001)  # the wait is rounded
    await gathered(device)


async def test_the_shadow_shows_the_registry(device: Device, registry: Registry) -> None:
    await registry.add(VLM)
    await registry.add({**OCR, "runtime": {"gpu": True, "threads": 4}})
    await after_some_time(device, lambda: device.follows(registry))

    device.clock.advance(5)
    await registry.add({"model_id": "ocr", "runtime": {"threads": 8}})
    await after_some_time(device, lambda: device.follows(registry))
    assert device.reported()["ocr"]["runtime"] == {"threads": 8}


async def test_a_deleted_model_leaves_the_shadow(device: Device, registry: Registry) -> None:
    await registry.add(VLM)
    await registry.add(OCR)
    await after_some_time(device, lambda: device.follows(registry))
    await registry.delete("ocr")
    await after_some_time(device, lambda: device.follows(registry))
    assert list(device.reported()) == ["vlm-7B"]


async def test_what_was_done_with_the_cloud_away_is_caught_up(device: Device) -> None:
    async with device.started() as registry:
        for meta in (VLM, OCR):
            await registry.add(meta)
        await after_some_time(device, lambda: device.follows(registry))
    device.shadow.available = False
    async with device.started() as registry:
        await registry.delete("ocr")
        await registry.add({"model_id": "vlm-7B", "model_version": "3.0"})
        await registry.add({"model_id": "new"})
    device.write(reported={"models": {"other": {"model_name": "by another"}}})
    assert sorted(device.reported()) == ["ocr", "other", "vlm-7B"]

    device.shadow.available = True
    async with device.started() as registry:
        await at_rest(device)
        assert [model["model_id"] for model in registry.models()] == ["new", "other", "vlm-7B"]
        assert registry.get("vlm-7B")["model_version"] == "3.0"
        assert device.follows(registry)


async def test_nothing_is_sent_or_written_when_nothing_changed(device: Device) -> None:
    async with device.started() as registry:
        await registry.add(VLM)
        await at_rest(device)
    device.shadow.requests.clear()
    device.recorded.clear()
    async with device.started():
        await at_rest(device)
    assert device.shadow.requests == ["get"]
    assert device.recorded == []


async def test_another_writer_is_merged(device: Device, registry: Registry) -> None:
    await registry.add(VLM)
    await registry.add(OCR)
    await at_rest(device)
    changes = {"vlm-7B": {"model_version": "3.0"}, "ocr": None, "new": {"model_name": "n"}}
    device.write(reported={"models": changes, "else": 1})
    await at_rest(device)
    assert registry.models() == [
        {"model_id": "new", "model_name": "n"},
        {**VLM, "model_version": "3.0", "last_updated": 1_700_000_000},
    ]
    assert device.follows(registry)
    assert device.state("reported")["else"] == 1


async def test_what_came_from_outside_is_on_the_disk(device: Device) -> None:
    async with device.started():
        device.write(reported={"models": {"new": {"model_name": "n"}}})
        await at_rest(device)
    async with device.started(syncing=False) as registry:
        assert registry.models() == [{"model_id": "new", "model_name": "n"}]


async def test_both_sides_changed_one_model(device: Device, registry: Registry) -> None:
    await registry.add({**VLM, "note": "old"})
    await at_rest(device)
    device.clock.advance(10)
    now = int(device.clock.now())

    fields = {"model_version": "3.0", "tags": ["theirs"], "last_updated": now + 5}
    device.write(reported={"models": {"vlm-7B": fields}})
    await registry.add({"model_id": "vlm-7B", "model_version": "4.0", "note": "ours"})
    await at_rest(device)
    assert registry.get("vlm-7B") == {
        **VLM,
        "model_version": "3.0",
        "tags": ["theirs"],
        "note": "ours",
        "last_updated": now + 5,
    }
    assert device.follows(registry)


async def test_a_conflict_overwrites_nobody(device: Device, registry: Registry) -> None:
    def write_once() -> None:
        device.shadow.before_update = lambda: None
        device.write(reported={"models": {"other": {"model_name": "by another"}}})

    await registry.add(OCR)
    await at_rest(device)
    device.shadow.requests.clear()
    device.shadow.before_update = write_once
    await registry.add(VLM)
    await at_rest(device)
    assert [model["model_id"] for model in registry.models()] == ["ocr", "other", "vlm-7B"]
    assert device.follows(registry)
    assert device.shadow.requests[:3] == ["update", "get", "update"]
    assert device.warnings == []


async def test_one_who_always_writes_first_is_waited_for(
    device: Device, registry: Registry
) -> None:
    def write() -> None:
        device.write(reported={"count": device.shadow.requests.count("update")})

    await at_rest(device)
    device.shadow.before_update = write
    await registry.add(VLM)
    await after_some_time(device, lambda: device.warnings)
    assert device.shadow.requests.count("update") == 2
    device.shadow.before_update = lambda: None
    await at_rest(device)
    assert device.follows(registry)


async def test_an_update_whose_answer_was_lost(device: Device, registry: Registry) -> None:
    await registry.add(OCR)
    await at_rest(device)
    device.shadow.is_available = False
    await registry.delete("ocr")
    await registry.add(VLM)
    await gathered(device)
    await backs_off(device, 1)
    assert list(device.reported()) == ["vlm-7B"]

    device.shadow.is_available = True
    await registry.add({"model_id": "vlm-7B", "model_version": "3.0"})
    await next_round(device, 1)
    await at_rest(device)
    assert [model["model_version"] for model in registry.models()] == ["3.0"]
    assert device.follows(registry)


async def test_a_wish_is_met_and_the_delta_empties(device: Device, registry: Registry) -> None:
    await registry.add({**VLM, "local_path": "/data/vlm"})
    await at_rest(device)
    device.clock.advance(10)
    now = int(device.clock.now())
    wish = {"vlm-7B": {"model_version": "3.0"}, "ocr": {"model_name": "ocr", "keep": {"a": 1}}}
    device.write(desired={"models": wish})
    assert device.state("delta")
    await at_rest(device)

    vlm, ocr = registry.get("vlm-7B"), registry.get("ocr")
    assert (vlm["model_version"], vlm["local_path"]) == ("3.0", "/data/vlm")
    assert now <= vlm["last_updated"] <= now + 1
    assert ocr.items() >= {"model_id": "ocr", "model_name": "ocr", "keep": {"a": 1}}.items()
    assert device.follows(registry)
    assert device.state("delta") == {}
    assert device.state("desired") == {"models": wish}


async def test_a_wish_is_met_once(device: Device, registry: Registry) -> None:
    device.write(desired={"models": {"vlm-7B": {"model_version": "3.0"}}})
    await at_rest(device)
    await registry.add({"model_id": "vlm-7B", "model_version": "4.0"})
    device.write(reported={"touch": 1})
    await at_rest(device)
    assert registry.get("vlm-7B")["model_version"] == "4.0"
    await registry.delete("vlm-7B")
    device.write(reported={"touch": 2})
    await at_rest(device)
    assert registry.models() == []
    assert device.reported() == {}


async def test_a_wish_taken_back_removes_nothing(device: Device, registry: Registry) -> None:
    device.write(desired={"models": {"vlm-7B": {"model_version": "3.0"}}})
    await at_rest(device)
    device.write(desired={"models": {"vlm-7B": None}})
    await at_rest(device)
    assert registry.get("vlm-7B")["model_version"] == "3.0"


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"note": "x" * 5_000}, ErrorCode.INVALID_FIELD),
        ({"note": "x" * 1_500, "more": "x" * 2_600}, ErrorCode.REGISTRY_FULL),
    ],
)
async def test_a_wish_that_cannot_be_met(
    device: Device, registry: Registry, wish: dict[str, Any], code: ErrorCode
) -> None:
    device.write(desired={"models": {"big": wish, "ocr": {"model_version": "1"}}})
    await at_rest(device)
    device.write(reported={"touch": 1})
    await at_rest(device)
    assert [model["model_id"] for model in registry.models()] == ["ocr"]
    assert [code for code, _ in device.warnings] == [code]
    assert "desired.models.big is ignored" in device.warnings[0][1]


def at(device: Device, path: str) -> Any:
    """Return the value at a path in the shadow."""
    part, *names = path.split(".")
    return functools.reduce(lambda found, name: found[name], names, device.state(part))


@pytest.mark.parametrize(
    ("strange", "path"),
    [
        ({"reported": {"models": "text"}}, "reported.models"),
        ({"reported": {"models": {"m": 7}}}, "reported.models.m"),
        ({"reported": {"models": {"m": {"model_id": "n"}}}}, "reported.models.m"),
        ({"desired": {"models": [1]}}, "desired.models"),
        ({"desired": {"models": {"m": "text"}}}, "desired.models.m"),
    ],
)
async def test_what_is_no_model_is_left_alone(
    device: Device, registry: Registry, strange: dict[str, Any], path: str
) -> None:
    await registry.add({"model_id": "m"})
    await at_rest(device)
    before = registry.get("m")
    (part,) = strange
    device.write(**strange)
    written = at(device, path)
    await at_rest(device)
    device.write(reported={"touch": 1})
    await registry.add(VLM)
    await at_rest(device)

    assert [model["model_id"] for model in registry.models()] == ["m", "vlm-7B"]
    assert registry.get("m") == before
    assert at(device, path) == written
    assert [code for code, _ in device.warnings] == [ErrorCode.INVALID_FIELD]
    assert f"no models: {path};" in device.warnings[0][1]

    device.write(**{part: {"models": None}})
    await at_rest(device)
    assert device.follows(registry)


async def test_a_shadow_that_was_deleted_is_filled_again(
    device: Device, registry: Registry
) -> None:
    await registry.add(VLM)
    await at_rest(device)
    device.service.delete("edge-1", "models")
    device.clock.advance(600)
    await at_rest(device)
    assert [model["model_id"] for model in registry.models()] == ["vlm-7B"]
    assert device.follows(registry)


async def test_a_missed_change_is_found_within_ten_minutes(
    device: Device, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await at_rest(device)
    monkeypatch.setattr(device.service, "_listeners", [])
    device.write(reported={"models": {"new": {"model_name": "n"}}})
    device.clock.advance(590)
    await run_loop()
    assert registry.models() == []
    device.clock.advance(10)
    await at_rest(device)
    assert [model["model_id"] for model in registry.models()] == ["new"]


async def test_a_service_without_room(device: Device, registry: Registry) -> None:
    device.service.max_bytes = 1_000
    device.max_bytes = 4_000
    await registry.add({"model_id": "a", "note": "x" * 700})
    await at_rest(device)
    await registry.add({"model_id": "b", "note": "x" * 701})
    first = len(encode({"models": {model["model_id"]: model for model in registry.models()}}))
    await at_rest(device)
    await registry.add({"model_id": "b", "more": 1})
    await at_rest(device)
    assert [model["model_id"] for model in registry.models()] == ["a", "b"]
    assert [code for code, _ in device.warnings] == [ErrorCode.REGISTRY_FULL]
    assert f"it would take {first} bytes" in device.warnings[0][1]

    await registry.delete("a")
    await at_rest(device)
    assert device.follows(registry)


async def test_no_service_is_said_once(device: Device) -> None:
    device.shadow.available = False
    async with device.started() as registry:
        for failures in range(1, 11):
            await next_round(device, failures)
        await backs_off(device, 11)
        assert [code for code, _ in device.warnings] == [ErrorCode.SHADOW_UNAVAILABLE]
        assert "no shadow service answers" in device.warnings[0][1]

        device.shadow.available = True
        await next_round(device, 11)
        await at_rest(device)
        device.shadow.available = False
        await registry.add(VLM)
        await gathered(device)
        await eventually(lambda: len(device.warnings) == 2)
        assert device.shadow.watchers == 1


async def test_the_registry_works_while_the_service_is_away(
    device: Device, registry: Registry
) -> None:
    await at_rest(device)
    device.shadow.available = False
    await registry.add(VLM)
    await gathered(device)
    await next_round(device, 1)
    wait = await backs_off(device, 2)
    await registry.add(OCR)
    await run_loop()
    assert device.clock.waits == [wait], "a change at the device ended the wait"

    device.shadow.requests.clear()
    device.shadow.available = True
    await next_round(device, 2)
    await at_rest(device)
    assert device.follows(registry)
    assert device.shadow.requests[0] == "get"


async def test_a_message_from_the_service_ends_the_wait(device: Device, registry: Registry) -> None:
    await at_rest(device)
    device.shadow.available = False
    await registry.add(VLM)
    await gathered(device)
    for failures in range(1, 5):
        await next_round(device, failures)
    await backs_off(device, 5)

    device.shadow.available = True
    device.write(reported={"touch": 1})
    await at_rest(device)
    assert device.follows(registry)


async def test_a_burst_of_changes_is_one_update(device: Device, registry: Registry) -> None:
    await at_rest(device)
    device.shadow.requests.clear()
    for n in range(20):
        await registry.add({"model_id": f"m{n}"})
    await at_rest(device)
    assert device.follows(registry)
    assert device.shadow.requests.count("update") == 1


async def test_much_is_sent_in_parts(device: Device, registry: Registry) -> None:
    await at_rest(device)
    for n in range(6):
        await registry.add({"model_id": f"m{n}", "note": "x" * 1_000})
    await at_rest(device)
    assert device.follows(registry)
    assert device.shadow.requests.count("update") == 6


async def test_without_a_shadow_there_is_nothing_to_sync(device: Device) -> None:
    device.way = None
    async with device.started(syncing=False) as registry:
        await registry.sync()
        await registry.add(VLM)
        assert [model["model_id"] for model in registry.models()] == ["vlm-7B"]
    assert device.warnings == []
