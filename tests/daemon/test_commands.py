"""Each command is carried out once and in order, however often and fast commands arrive."""

from __future__ import annotations

import pytest

from s3downloader.core.records import State

from .harness import Harness, reaches


@pytest.mark.parametrize("first", ["first", None])
@pytest.mark.parametrize("second", ["second", None])
async def test_commands_keep_their_order_with_and_without_an_id(
    harness: Harness, first: str | None, second: str | None
) -> None:
    harness.source.objects = {"a": 10}
    harness.engine.hold("a")
    async with harness.running():
        download = {"bucket": "models", "key": "a", "download_id": "x"}
        await harness.send("download", command_id=first, **download)
        await harness.send("cancel", command_id=second, download_id="x")
        await harness.wait_for_event("download_cancelled", "x")
        assert await harness.listed() == {"x": "cancelled"}


async def test_many_commands_keep_their_order_with_and_without_an_id(harness: Harness) -> None:
    async with harness.running():
        for n in range(60):
            meta = {"model_id": "m", "model_version": str(n)}
            await harness.send("model_add", command_id=f"v{n}" if n % 3 else None, model_meta=meta)
        await harness.until(lambda: len(harness.messages) == 60)
        versions = [message["model"]["model_version"] for message in harness.messages]
        assert versions == [str(n) for n in range(60)]
        assert (await harness.ask("model_get", model_id="m"))["model"]["model_version"] == "59"


async def test_two_additions_to_one_model_at_once_both_stay(harness: Harness) -> None:
    async with harness.running():
        fields = [{"model_name": "vlm"}, {"model_version": "2.5"}, {"note": "kept"}]
        ids = [
            await harness.send("model_add", model_meta={"model_id": "m", **field})
            for field in fields
        ]
        for command_id in ids:
            assert (await harness.responses(command_id))[0]["success"]
        model = (await harness.ask("model_get", model_id="m"))["model"]
        assert [field.items() <= model.items() for field in fields] == [True] * 3


async def test_registering_keeps_what_was_added_to_the_model_meanwhile(
    harness: Harness,
) -> None:
    harness.source.objects = {"a": 10}
    async with harness.running():
        completing = harness.hold("record", reaches(State.COMPLETED))
        await harness.download("a", "x", model_meta={"model_id": "m", "model_version": "2"})
        await completing.reached()
        added = await harness.send("model_add", model_meta={"model_id": "m", "note": "kept"})
        completing.open()
        assert (await harness.responses(added))[0]["success"]
        model = (await harness.ask("model_get", model_id="m"))["model"]
        assert (model["model_version"], model["note"]) == ("2", "kept")
        assert model["local_path"] == str(harness.downloads / "a")


async def send_three_times(harness: Harness) -> None:
    for _ in range(3):
        await harness.send("download", command_id="c", bucket="models", key="a", download_id="x")


async def test_three_deliveries_of_a_command_are_carried_out_once(harness: Harness) -> None:
    harness.source.objects = {"a": 10}
    async with harness.running():
        recording = harness.hold("record", reaches(State.QUEUED))
        await send_three_times(harness)
        await recording.reached()
        recording.open()
        given = await harness.responses("c", 3)
        assert [given[0]["success"], given[1:]] == [True, [given[0]] * 2]
        await harness.completed("x")
        assert harness.events("x") == ["download_started", "download_completed"]


async def test_redelivery_after_a_failed_record_is_carried_out_once(
    harness: Harness,
) -> None:
    harness.source.objects = {"a": 10}
    async with harness.running():
        with harness.disk.full("INTO (downloads|answers)", times=2):
            await send_three_times(harness)
            given = await harness.responses("c", 3)
        assert given[0]["error_code"] == "disk_full"
        assert [given[1]["success"], given[2]] == [True, given[1]]
        await harness.completed("x")


async def test_a_token_of_another_list_is_refused(harness: Harness) -> None:
    async with harness.running():
        for number in range(40):
            await harness.ask("model_add", model_meta={"model_id": f"m{number}", "note": "x" * 300})
        token = (await harness.ask("model_list"))["next_token"]
        assert (await harness.ask("list", list_type="models", next_token=token))["success"]
        for other in (
            {"command": "list"},
            {"command": "limits"},
            {"command": "list", "list_type": "s3", "bucket": "models"},
        ):
            refusal = await harness.ask(**other, next_token=token)
            assert (refusal["success"], refusal["error_code"]) == (False, "invalid_field")
            assert "next_token" in refusal["error"]
