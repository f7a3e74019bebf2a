"""The daemon starts, stops, loses its messaging, and gets another configuration."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from s3downloader.core.aio import timeout
from sandbox.device import COMPONENT
from sandbox.servers import Broker, ObjectServer
from sandbox.shadow_service import ShadowService
from sandbox.shadows import ShadowDocuments

from ..support import PATIENCE, eventually
from .conftest import Bench, make_bench

MAIN = Path(__file__).parents[2] / "components" / COMPONENT / "main.py"


def run_main(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(MAIN), *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--thing-name"),
        (["--thing-name", "t"], "--mqtt-url"),
        (["--thing-name", "t", "--messaging", "greengrass"], "nucleus"),
        (["--thing-name", "t", "--messaging", "pigeon"], "pigeon"),
        (["--thing-name", "t", "--mqtt-url", "http://x"], "mqtt"),
        (
            ["--thing-name", "t", "--mqtt-url", "mqtt://127.0.0.1", "--log-level", "LOUD"],
            "LogLevel",
        ),
        (
            ["--thing-name", "t", "--mqtt-url", "mqtt://127.0.0.1", "--config", "/nowhere"],
            "/nowhere",
        ),
        (
            ["--thing-name", "t", "--mqtt-url", "mqtts://127.0.0.1", "--ca", "/nowhere.pem"],
            "/nowhere.pem",
        ),
    ],
)
def test_bad_arguments_end_it_with_status_2_and_a_sentence(arguments: list[str], says: str) -> None:
    ended = run_main(*arguments)
    assert ended.returncode == 2
    assert says in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_an_environment_value_that_is_not_allowed_is_named() -> None:
    ended = run_main(
        "--thing-name", "t", "--mqtt-url", "mqtt://127.0.0.1", S3DOWNLOADER_PROCESS_INTERVAL="soon"
    )
    assert ended.returncode == 2
    assert "ProcessInterval is 'soon'" in ended.stdout


async def test_a_second_process_on_the_same_state_is_refused(bench: Bench, broker: Broker) -> None:
    state = bench.device.directory / "state"
    ended = run_main(
        *("--thing-name", "other", "--mqtt-url", f"mqtt://127.0.0.1:{broker.port}"),
        *("--state-dir", str(state)),
    )
    assert ended.returncode == 2
    assert "another process has the state" in ended.stdout


async def test_events_wait_for_the_broker_in_order_over_a_restart(
    tmp_path: Path, object_server: ObjectServer
) -> None:
    await object_server.make("offline/a", 6 << 20)
    async with (
        Broker(tmp_path / "broker") as broker,
        make_bench("mqtt", tmp_path, broker, object_server, {}) as bench,
    ):
        await bench.device.start()
        await bench.up()
        bench.link.freeze_after(2 << 20)
        await bench.operator.ask("download", bucket="models", key="offline/a", download_id="o")
        await bench.operator.event("download_started", "o")
        await broker.stop()
        bench.link.thaw()
        done = bench.downloads / "a"
        await eventually(done.exists)
        await bench.device.kill()
        await broker.start()
        async with type(bench.operator)(broker.port, bench.device.thing_name) as operator:
            await bench.device.start()
            await operator.event("download_completed", "o")
            assert operator.events("o") == ["download_completed"]


async def test_a_damaged_state_is_set_aside_and_told(
    bench: Bench, object_server: ObjectServer
) -> None:
    await object_server.put("damaged/a", b"abc")
    for name in ("kept", "lost"):
        await bench.operator.ask("download", bucket="models", key="damaged/a", download_id=name)
        await bench.operator.event("download_completed", name)
    assert await bench.device.terminate() == 0
    path = bench.device.directory / "state" / "state.db"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'{"download_id":"lost"', b'{"download_id":"lOst"'))
    bench.operator.received.clear()
    await bench.device.start()
    notice = await bench.operator.wait_for(lambda h: h.message.get("level") == "warning")
    assert "set aside" in notice["message"]
    assert "lost: 1 download (lost)" in notice["message"]
    listed = (await bench.operator.ask("list"))["downloads"]
    assert [(d["download_id"], d["status"]) for d in listed] == [("kept", "completed")]
    await bench.operator.ask("download", bucket="models", key="damaged/a", download_id="lost")
    await bench.operator.event("download_completed", "lost")
    assert await bench.device.terminate() == 0
    bench.operator.received.clear()
    await bench.device.start()
    assert len((await bench.operator.ask("list"))["downloads"]) == 2
    assert not [h for h in bench.operator.received if h.message.get("level")]


async def test_a_lost_nucleus_ends_it_with_status_1(greengrass: Bench) -> None:
    assert greengrass.nucleus is not None
    await greengrass.nucleus.restart(forget_tokens=True)
    assert await greengrass.device.wait() == 1
    assert "messaging is lost" in greengrass.device.log


async def test_a_dropped_connection_is_replaced(
    greengrass: Bench, object_server: ObjectServer
) -> None:
    await object_server.put("dropped/a", b"abc")
    assert greengrass.nucleus is not None
    nucleus, operator = greengrass.nucleus, greengrass.operator
    await nucleus.drop_connection(COMPONENT)
    await eventually(lambda: nucleus.connected(COMPONENT))
    operator.received.clear()
    await operator.wait_for(lambda h: h.topic == "status", within=70)
    await operator.ask("download", bucket="models", key="dropped/a", download_id="d")
    await operator.event("download_completed", "d")


async def test_configuration_changes_while_it_runs(
    greengrass: Bench, object_server: ObjectServer
) -> None:
    await object_server.make("live/a", 3 << 20)
    assert greengrass.nucleus is not None
    nucleus, operator = greengrass.nucleus, greengrass.operator
    nucleus.set_configuration(COMPONENT, {"AllowedSources": ["s3://other/*"], "LogLevel": "DEBUG"})
    pid = greengrass.device.pid

    async with timeout(PATIENCE):
        while (await operator.ask("list", list_type="s3", bucket="models"))["success"]:
            continue
    nucleus.set_configuration(COMPONENT, {"LogLevel": "LOUD"})
    notice = await operator.wait_for(lambda h: h.message.get("level") == "warning")
    assert "LogLevel" in notice["message"]
    assert greengrass.device.pid == pid


async def test_it_answers_a_component_update_at_once(greengrass: Bench) -> None:
    assert greengrass.nucleus is not None
    answers = await greengrass.nucleus.propose_update()
    assert answers == {COMPONENT: 0}


async def test_it_reports_that_it_runs_once_it_hears_commands(greengrass: Bench) -> None:
    nucleus = greengrass.nucleus
    assert nucleus is not None
    await eventually(lambda: nucleus.states(COMPONENT) == ["RUNNING"])


async def test_an_update_waits_for_what_could_not_go_on(
    greengrass: Bench, object_server: ObjectServer
) -> None:
    await object_server.make("deferred/a", 4 << 20)
    nucleus, operator = greengrass.nucleus, greengrass.operator
    assert nucleus is not None

    async def under_way(engine: str) -> None:
        await operator.ask(
            "download", bucket="models", key="deferred/a", download_id=engine, engine=engine
        )
        await operator.event("download_started", engine)

    greengrass.link.rate = 64 << 10  # a minute each
    await under_way("s5cmd")
    assert await nucleus.propose_update("one") == {COMPONENT: 0}
    nucleus.set_configuration(COMPONENT, {"DeferUpdateSeconds": 600})
    async with timeout(PATIENCE):
        while await nucleus.propose_update("two") != {COMPONENT: 10_000}:
            continue
    await operator.ask("cancel", download_id="s5cmd")
    assert await nucleus.propose_update("two") == {COMPONENT: 0}
    await under_way("ranged")
    assert await nucleus.propose_update("three") == {COMPONENT: 0}


async def test_over_mqtt_the_shadow_is_reached_by_its_topics(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> None:
    shadows = ShadowDocuments()
    async with (
        ShadowService(shadows, broker.port),
        make_bench("mqtt", tmp_path, broker, object_server, {}) as bench,
    ):
        await bench.device.start()
        await bench.up()
        await bench.operator.ask("model_add", model_meta={"model_id": "m", "model_version": "1"})
        thing = bench.device.thing_name

        def reported() -> Any:
            if "models" not in shadows.names(thing):
                return None
            return shadows.get(thing, "models")["state"].get("reported", {}).get("models", {})

        await eventually(lambda: "m" in (reported() or {}))
        await bench.operator.ask("model_delete", model_id="m")
        await eventually(lambda: reported() == {})


async def test_without_a_shadow_service_the_registry_works_and_warns(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> None:
    async with make_bench("mqtt", tmp_path, broker, object_server, {}) as bench:
        await bench.device.start()
        await bench.up()
        await bench.operator.ask("model_add", model_meta={"model_id": "m"})
        assert (await bench.operator.ask("model_get", model_id="m"))["success"]
        await bench.operator.wait_for(lambda h: h.message.get("error_code") == "shadow_unavailable")


async def test_the_state_is_one_file_that_sqlite_reads(bench: Bench) -> None:
    await bench.operator.ask("status", command_id="kept")
    assert await bench.device.terminate() == 0
    with sqlite3.connect(bench.device.directory / "state" / "state.db") as connection:
        assert connection.execute("SELECT command_id FROM answers").fetchall() == [("kept",)]
    connection.close()


async def test_the_log_has_a_line_a_record_and_no_secrets(
    bench: Bench, object_server: ObjectServer
) -> None:
    await bench.operator.ask("download", bucket="models", key="nothing", download_id="n")
    await bench.operator.event("download_error", "n")
    for secret in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert object_server.environment[secret] not in bench.device.log
    assert all(line[:4].isdigit() for line in bench.device.log.splitlines())
