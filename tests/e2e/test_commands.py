"""The examples of the documentation work unchanged, and repeated commands are harmless."""

from __future__ import annotations

import json
from typing import Any

from sandbox.operator import DeviceMessage
from sandbox.servers import ObjectServer

from .conftest import Bench

META = '"model_meta":{"model_id":"vlm-7B","model_name":"vlm-7B","model_version":"2.5"}'


async def response_to(bench: Bench, payload: str) -> dict[str, Any]:
    """Send a payload unchanged, and return the response."""
    bench.operator.received.clear()
    await bench.operator.send_bytes(payload.encode())
    return await bench.operator.wait_for(
        lambda h: h.topic == "responses" and "event" not in h.message
    )


async def test_every_example_runs_unchanged(either: Bench, object_server: ObjectServer) -> None:
    await object_server.make("vlm-7B/weights", 6 << 20)
    either.link.rate = 128 << 10  # so that the download outlasts the examples
    examples = [
        f'{{"command":"download","bucket":"models","key":"vlm-7B/","downloadId":"d-1",{META}}}',
        '{"command":"details","download_id":"d-1"}',
        '{"command":"getdetails","downloadId":"d-1"}',
        '{"command":"pause","downloadId":"d-1"}',
        '{"command":"list","listType":"downloads","commandId":"cli-1"}',
        '{"command":"resume","downloadId":"d-1"}',
        '{"command":"cancel","downloadId":"d-1"}',
        f'{{"command":"model_add",{META}}}',
        '{"command":"model_list"}',
        '{"command":"list","list_type":"models"}',
        '{"command":"model_get","model_id":"vlm-7B"}',
        '{"command":"model_delete","model_id":"vlm-7B"}',
        '{"command":"list"}',
        '{"command":"list","list_type":"s3","bucket":"models","key":"vlm-7B/"}',
        '{"command":"disk_space"}',
        '{"command":"disk-space"}',
        '{"command":"status"}',
        '{"command":"limits","maxBandwidth":2500000}',
        '{"command":"limits","max_bandwidth":null}',
        '{"command":"limits"}',
    ]
    for example in examples:
        response = await response_to(either, example)
        assert response["success"] is True, (example, response)
        assert response["command_id"]
        assert response["message"]
    assert (await response_to(either, examples[4]))["command_id"] == "cli-1"


async def test_each_response_has_what_was_asked(bench: Bench, object_server: ObjectServer) -> None:
    await object_server.put("asked/a", b"abc")
    operator = bench.operator
    await operator.ask("download", bucket="models", key="asked/a", download_id="a")
    await operator.event("download_completed", "a")

    [listed] = (await operator.ask("list"))["downloads"]
    assert {name: listed[name] for name in ("status", "progress", "files_done")} == {
        "status": "completed",
        "progress": 100.0,
        "files_done": 1,
    }
    details = await operator.ask("details", download_id="a")
    assert details["details"]["options"]["numworkers"] == 256
    assert [(f["path"], f["size"], f["done"]) for f in details["files"]] == [("a", 3, True)]
    [shown] = (await operator.ask("list", list_type="s3", bucket="models", key="asked/"))["objects"]
    assert (shown["key"], shown["size"]) == ("asked/a", 3)
    status = await operator.ask("status")
    assert (status["active_downloads"], status["device_id"]) == (0, bench.device.thing_name)
    limits = await operator.ask("limits", max_bandwidth=2_500_000)
    assert (limits["max_bandwidth"], limits["configured_max_bandwidth"]) == (2_500_000, 0)
    space = (await operator.ask("disk_space"))["disk_space"]
    assert 0 < space["free"] < space["total"]


async def test_objects_are_listed_page_by_page(bench: Bench, object_server: ObjectServer) -> None:
    keys = [f"listed/{n:03}" for n in range(130)]
    for key in keys:
        await object_server.put(key, b"x")
    found: list[str] = []
    token: dict[str, Any] = {}
    while len(found) < len(keys):
        page = await bench.operator.ask(
            "list", list_type="s3", bucket="models", key="listed/", **token
        )
        found += [listed["key"] for listed in page["objects"]]
        token = {"next_token": page.get("next_token")}
    assert found == keys
    assert token == {"next_token": None}


async def test_a_repeated_command_runs_once_and_gets_the_same_response(
    bench: Bench, object_server: ObjectServer
) -> None:
    await object_server.put("repeated/a", b"abc")
    operator = bench.operator
    command: dict[str, Any] = {"bucket": "models", "key": "repeated/a", "download_id": "r"}
    command["command_id"] = "once"
    first = await operator.ask("download", **command)
    refused = await operator.ask("pause", download_id="nope", command_id="refused")
    await operator.event("download_completed", "r")

    assert await repeated(bench, "download", command) == first
    assert (
        await repeated(bench, "pause", {"download_id": "nope", "command_id": "refused"}) == refused
    )
    await bench.device.kill()
    await bench.device.start()
    await bench.up()
    assert await repeated(bench, "download", command) == first
    assert (
        await repeated(bench, "pause", {"download_id": "nope", "command_id": "refused"}) == refused
    )
    assert operator.events("r") == ["download_started", "download_completed"]


async def repeated(bench: Bench, command: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Send a command again, and return the next message."""
    earlier, operator = list(bench.operator.received), bench.operator
    operator.received[:] = [
        h for h in earlier if h.message.get("command_id") != fields["command_id"]
    ]
    response = await operator.ask(command, **fields)
    operator.received[:0] = [h for h in earlier if h not in operator.received]
    return response


async def test_a_burst_is_answered_once_each(bench: Bench) -> None:
    operator = bench.operator
    ids = [await operator.send("status", command_id=f"burst-{n}") for n in range(300)]
    for command_id in ids:
        await operator.response(command_id)
    await operator.ask("status")
    answers = [h.message["command_id"] for h in operator.received if "success" in h.message]
    assert sorted(a for a in answers if a.startswith("burst-")) == sorted(ids)


async def test_a_response_comes_before_the_events_that_follow(
    bench: Bench, object_server: ObjectServer
) -> None:
    await object_server.put("order/a", b"abc")
    operator = bench.operator
    for n in range(10):
        await operator.send(
            "download",
            bucket="models",
            key="order/a",
            destination=f"{bench.downloads}/{n}",
            command_id=f"o{n}",
            download_id=f"o{n}",
        )
    for n in range(10):
        await operator.event("download_completed", f"o{n}")

        def concerns(received: DeviceMessage, command_id: str = f"o{n}") -> bool:
            return received.message.get("command_id") == command_id

        kinds = [h.message.get("event", "response") for h in operator.received if concerns(h)]
        assert kinds == ["response", "download_started", "download_completed"]


async def test_payloads_stay_below_the_limit_of_nucleus_lite(bench: Bench) -> None:
    operator = bench.operator
    for n in range(40):
        meta = {"model_id": f"m{n}", "note": "x" * 100}
        await operator.ask("model_add", model_meta=meta)
    models: list[str] = []
    token: dict[str, Any] = {}
    while True:
        page = await operator.ask("model_list", **token)
        assert len(json.dumps(page, separators=(",", ":"))) <= 7_000
        models += [model["model_id"] for model in page["models"]]
        if "next_token" not in page:
            break
        token = {"next_token": page["next_token"]}
    assert models == sorted(f"m{n}" for n in range(40))
