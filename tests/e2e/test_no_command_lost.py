"""Every command is carried out once and answered, whatever ends the daemon."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from sandbox.device import COMPONENT, Device, MqttDevice
from sandbox.link import Link
from sandbox.servers import Broker, ObjectServer

from ..support import eventually
from .conftest import Bench, make_bench

BURST = 100


async def send_burst(bench: Bench, count: int = BURST) -> list[str]:
    """Send many commands at once that each add a model; return their IDs."""
    sending = [
        bench.operator.send(
            "model_add",
            command_id=f"burst-{n}",
            model_meta={"model_id": f"m{n % 10}", "model_version": str(n)},
        )
        for n in range(count)
    ]
    return await asyncio.gather(*sending)


def answers(bench: Bench) -> list[tuple[str, Any]]:
    """Return the answered commands of the burst, with the version of the model in each response."""
    received = [h.message for h in bench.operator.received if h.topic == "responses"]
    responses = [m for m in received if str(m.get("command_id")).startswith("burst-")]
    assert all(m["success"] for m in responses), responses
    return [(m["command_id"], m["model"]["model_version"]) for m in responses]


def count(bench: Bench, query: str) -> int:
    """Return the count of a query of the device's state."""
    work = bench.nucleus.work_folder(COMPONENT) if bench.nucleus else bench.device.directory
    with closing(sqlite3.connect(work / "state" / "state.db")) as state:
        return int(state.execute(query).fetchone()[0])


def arrived(bench: Bench) -> int:
    """Return how many commands of the burst are on disk or answered."""
    return count(
        bench,
        "SELECT count(*) FROM (SELECT command_id FROM inbox UNION SELECT command_id FROM answers)"
        " WHERE command_id LIKE 'burst-%'",
    )


async def all_answered(bench: Bench, ids: list[str]) -> list[tuple[str, Any]]:
    await eventually(lambda: {id_ for id_, _ in answers(bench)} >= set(ids))
    await bench.operator.ask("status")  # a second response would have arrived by now
    return answers(bench)


async def test_after_a_burst_and_a_sigterm_each_is_answered_once(bench: Bench) -> None:
    device = bench.device
    sending = asyncio.create_task(send_burst(bench))
    await eventually(lambda: answers(bench))
    assert await device.terminate() == 0
    ids = await sending
    await device.start()
    responses = await all_answered(bench, ids)
    assert sorted(responses) == sorted((f"burst-{n}", str(n)) for n in range(BURST))


async def test_after_a_burst_and_kill_9_each_is_answered(bench: Bench) -> None:
    device = bench.device
    sending = asyncio.create_task(send_burst(bench))
    await eventually(lambda: answers(bench))
    await device.kill()
    ids = await sending
    await device.start()
    responses = await all_answered(bench, ids)
    assert set(responses) == {(f"burst-{n}", str(n)) for n in range(BURST)}
    models = (await bench.operator.ask("model_list"))["models"]
    versions = {model["model_id"]: model["model_version"] for model in models}
    assert versions == {f"m{n}": str(BURST - 10 + n) for n in range(10)}


async def test_on_greengrass_what_has_arrived_outlives_kill_9(greengrass: Bench) -> None:
    device = greengrass.device
    ids = await send_burst(greengrass)
    await eventually(lambda: arrived(greengrass) == BURST)
    await device.kill()
    await device.start()
    responses = await all_answered(greengrass, ids)
    assert set(responses) == {(f"burst-{n}", str(n)) for n in range(BURST)}


async def test_three_hundred_sent_to_a_stopped_daemon_all_arrive(bench: Bench) -> None:
    assert await bench.device.terminate() == 0
    ids = await send_burst(bench, 300)
    await bench.device.start()
    assert [id_ for id_, _ in await all_answered(bench, ids)] == ids


async def test_a_start_that_fails_loses_nothing(bench: Bench) -> None:
    device = bench.device
    assert await device.terminate() == 0
    ids = await send_burst(bench, 5)
    state = device.directory / "state"
    aside = state.rename(device.directory / "aside")
    state.write_text("no directory")
    await device.start()
    assert await device.wait() == 2
    assert f"StateDir {state} cannot be used" in device.log
    await device.stop()
    state.unlink()
    aside.rename(state)
    await device.start()
    assert [id_ for id_, _ in await all_answered(bench, ids)] == ids


async def test_a_second_daemon_takes_nothing_from_the_first(
    bench: Bench, broker: Broker, tmp_path: Path
) -> None:
    first = bench.device
    second = MqttDevice(
        tmp_path / "second",
        first.thing_name,
        first.environment,
        broker_port=broker.port,
        configuration={"StateDir": str(first.directory / "state")},
    )
    ids = await send_burst(bench)
    await second.start()
    assert await second.wait() == 2
    assert "another process has the state" in second.log
    await second.stop()
    assert Counter(id_ for id_, _ in await all_answered(bench, ids)) == Counter(ids)
    assert "was lost" not in first.log, "it kept its connection"


def unpublished(bench: Bench) -> int:
    """Return the number of responses on disk that are not published."""
    return count(bench, "SELECT count(*) FROM outbox WHERE is_response")


async def test_answers_outlive_a_link_that_is_away_and_a_kill(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> None:
    async with (
        Link(broker.port) as link,
        make_bench("mqtt", tmp_path, broker, object_server, {}, broker_port=link.port) as bench,
    ):
        await bench.device.start()
        await bench.up()
        link.freeze_after(10_000, up=True)  # less than half of the responses
        ids = await send_burst(bench)
        await eventually(lambda: link.is_frozen and answers(bench) and unpublished(bench))
        link.cut()
        await eventually(lambda: "was lost" in bench.device.log)
        await bench.device.kill()
        assert unpublished(bench)
        link.thaw()
        link.restore()
        await bench.device.start()
        responses = await all_answered(bench, ids)
        assert set(responses) == {(f"burst-{n}", str(n)) for n in range(BURST)}


async def retain(broker: Broker, bench: Bench, payload: bytes) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        topic = f"s3downloader/{bench.device.thing_name}/commands"
        await client.publish(topic, payload, qos=1, retain=True)


async def forget_session(broker: Broker, bench: Bench) -> None:
    """End the device's session at the broker, as it does after an hour."""
    async with aiomqtt.Client(
        "127.0.0.1",
        broker.port,
        identifier=bench.device.thing_name,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=True,
    ):
        pass


def has_started(device: Device, times: int) -> bool:
    return device.log.count("listening on") == times


def notices(bench: Bench) -> list[str]:
    received = [h.message for h in bench.operator.received]
    return [m["message"] for m in received if m.get("error_code") == "retained_command"]


@pytest.mark.parametrize("first", ["while it runs", "before its session"])
async def test_a_retained_command_is_carried_out_once(
    bench: Bench, broker: Broker, first: str
) -> None:
    device = bench.device
    if first == "before its session":
        assert await device.terminate() == 0
        await forget_session(broker, bench)
    await retain(broker, bench, b'{"command":"disk_space"}')
    if first == "before its session":
        await device.start()
    await eventually(lambda: notices(bench))
    assert "is carried out now" in notices(bench)[0]
    for gap in ("a restart", "a new session"):
        assert await device.terminate() == 0
        starts = device.log.count("listening on")
        if gap == "a new session":
            await forget_session(broker, bench)
        await device.start()
        await eventually(partial(has_started, device, starts + 1))
        await bench.operator.ask("status")
    await eventually(lambda: len(notices(bench)) == 2)
    assert "carried out before" in notices(bench)[1]
    answered = [
        h.message for h in bench.operator.received if h.message.get("command") == "disk_space"
    ]
    assert len(answered) == 1
    await retain(broker, bench, b"")
