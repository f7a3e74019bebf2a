"""Configuration and component updates over IPC."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest
from awsiot.greengrasscoreipc.model import ReportedLifecycleState

from s3downloader.core.aio import stop, timeout
from s3downloader.messaging.bus import MessagingError
from s3downloader.messaging.greengrass import configuration as greengrass_config
from s3downloader.messaging.greengrass.configuration import (
    answer_component_updates,
    follow_configuration,
    get_configuration,
    get_token_exchange_url,
    report_running,
    wait_for_configuration,
)
from s3downloader.messaging.greengrass.ipc import IpcClient
from sandbox.nucleus import Nucleus
from sandbox.nucleus.nucleus import TOKEN_EXCHANGE

from ..support import PATIENCE, eventually
from .conftest import COMPONENT, StartNucleus


@asynccontextmanager
async def followed(
    ipc: IpcClient, known: dict[str, Any], **options: Any
) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield the configurations that are reported while it is followed."""
    found: list[dict[str, Any]] = []
    following = asyncio.create_task(follow_configuration(ipc, known, found.append, **options))
    yield found
    assert not following.done()
    await stop(following)


async def test_the_configuration_is_read_and_followed(start_nucleus: StartNucleus) -> None:
    configuration = {"TopicPrefix": "p", "Nested": {"a": 1}}
    async with start_nucleus(configuration=configuration) as nucleus, IpcClient() as ipc:
        known = await get_configuration(ipc)
        assert known.items() >= configuration.items()
        nucleus.set_configuration(COMPONENT, {"TopicPrefix": "changed meanwhile"})
        async with followed(ipc, known) as found:
            await eventually(lambda: found)
            nucleus.set_configuration(COMPONENT, {"Nested": {"a": 2}})
            await eventually(lambda: len(found) == 2)
        assert [c["TopicPrefix"] for c in found] == ["changed meanwhile"] * 2
        assert [c["Nested"] for c in found] == [{"a": 1}, {"a": 2}]


async def test_changes_are_told_also_after_a_lost_connection(start_nucleus: StartNucleus) -> None:
    async with (
        start_nucleus(configuration={"a": 0}) as nucleus,
        IpcClient() as ipc,
        followed(ipc, {}) as found,
    ):
        await eventually(lambda: found)
        await nucleus.drop_connection(COMPONENT)
        async with timeout(PATIENCE):
            for number in itertools.count(1):
                nucleus.set_configuration(COMPONENT, {"a": number})
                if len(found) > 1:
                    break
                await asyncio.sleep(0.02)


async def test_a_watch_that_died_silently_is_found_and_renewed(
    start_nucleus: StartNucleus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greengrass_config, "RETRY_INTERVAL", 0.01)
    async with (
        start_nucleus("lite", configuration={"a": 0}) as nucleus,
        IpcClient() as ipc,
        followed(ipc, {}, read_interval=0.1) as found,
    ):
        await eventually(lambda: nucleus.configuration_watchers == 1 and found)
        nucleus.forget_configuration_subscriptions()
        assert nucleus.configuration_watchers == 0
        nucleus.set_configuration(COMPONENT, {"a": 1})
        await eventually(lambda: found[-1]["a"] == 1)
        await eventually(lambda: nucleus.configuration_watchers == 1)


async def test_a_change_that_cannot_be_read_yet_is_read_later(
    start_nucleus: StartNucleus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(greengrass_config, "RETRY_INTERVAL", 0.01)
    async with (
        start_nucleus("lite", configuration={"a": 0}) as nucleus,
        IpcClient() as ipc,
        followed(ipc, {}) as found,
    ):
        await eventually(lambda: found)
        nucleus.faults.fail_configuration = True
        nucleus.set_configuration(COMPONENT, {"a": 1})
        await eventually(lambda: "cannot be detected" in caplog.text)
        nucleus.faults.fail_configuration = False
        await eventually(lambda: len(found) == 2)
        assert nucleus.configuration_watchers == 1


async def test_a_configuration_that_is_gone_is_no_change(
    start_nucleus: StartNucleus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(greengrass_config, "RETRY_INTERVAL", 0.01)
    async with (
        start_nucleus("lite", configuration={"a": 0}) as nucleus,
        IpcClient() as ipc,
        followed(ipc, {}, read_interval=0.05) as found,
    ):
        await eventually(lambda: found)
        nucleus.replace_configuration(COMPONENT, {})
        await eventually(lambda: "has no configuration" in caplog.text)
        nucleus.replace_configuration(COMPONENT, {"a": 1})
        await eventually(lambda: len(found) == 2)
        assert found[-1] == {"a": 1}


async def test_a_start_waits_for_a_configuration_that_can_be_read(
    start_nucleus: StartNucleus, caplog: pytest.LogCaptureFixture
) -> None:
    async with start_nucleus("lite", configuration={"a": 0}) as nucleus, IpcClient() as ipc:
        nucleus.faults.fail_configuration = True
        reading = asyncio.create_task(wait_for_configuration(ipc))
        await eventually(lambda: "did not return the configuration" in caplog.text)
        nucleus.faults.fail_configuration = False
        async with timeout(PATIENCE):
            assert (await reading)["a"] == "0"


async def test_a_start_does_not_wait_for_a_nucleus_that_is_lost(
    start_nucleus: StartNucleus,
) -> None:
    async with start_nucleus("lite") as nucleus, IpcClient() as ipc:
        nucleus.faults.fail_configuration = True
        reading = asyncio.create_task(wait_for_configuration(ipc))
        await nucleus.restart(forget_tokens=True)
        async with timeout(PATIENCE):
            with pytest.raises(MessagingError, match="must be started again"):
                await reading


@pytest.mark.parametrize(("personality", "host"), [("java", "localhost"), ("lite", "127.0.0.1")])
async def test_the_address_of_the_token_exchange_is_told_as_it_is_now(
    start_nucleus: StartNucleus, personality: Literal["java", "lite"], host: str
) -> None:
    def told_by(nucleus: Nucleus) -> str:
        return f"http://{host}:{nucleus.credentials.port}/2016-11-01/credentialprovider/"

    async with start_nucleus(personality) as nucleus, IpcClient() as ipc:
        before = await get_token_exchange_url(ipc)
        assert before == told_by(nucleus)
        await nucleus.credentials.crash()
        await nucleus.credentials.start()
        assert await get_token_exchange_url(ipc) == told_by(nucleus) != before


@pytest.mark.parametrize(
    ("configuration", "url"),
    [
        ({"port": 0, "activePort": 49152}, "http://localhost:49152/2016-11-01/credentialprovider/"),
        ({"port": 0}, None),
        ({"port": "65536"}, None),
        ({"port": "80@example.com"}, None),
        ({"port": "-1"}, None),
        ({"port": {"a": 1}}, None),
        ({}, None),
    ],
)
async def test_what_is_no_port_tells_no_address(
    start_nucleus: StartNucleus, configuration: dict[str, Any], url: str | None
) -> None:
    async with start_nucleus() as nucleus, IpcClient() as ipc:
        nucleus.register(TOKEN_EXCHANGE, configuration=configuration)
        assert await get_token_exchange_url(ipc) == url


async def test_a_nucleus_that_is_away_tells_no_address(start_nucleus: StartNucleus) -> None:
    async with start_nucleus() as nucleus, IpcClient() as ipc:
        nucleus.faults.refuse_connections = True
        await nucleus.drop_connection(COMPONENT)
        assert await get_token_exchange_url(ipc) is None


@pytest.mark.parametrize(("defer_seconds", "milliseconds"), [(0, 0), (1.5, 1500)])
async def test_the_question_about_an_update_is_answered_at_once(
    start_nucleus: StartNucleus, defer_seconds: float, milliseconds: int
) -> None:
    async with start_nucleus() as nucleus, IpcClient() as ipc:
        await answer_component_updates(ipc, lambda _: defer_seconds)
        assert await nucleus.propose_update() == {COMPONENT: milliseconds}
        nucleus.finish_update()
        assert await nucleus.propose_update("second") == {COMPONENT: milliseconds}


@pytest.mark.parametrize("personality", ["java", "lite"])
async def test_the_nucleus_is_told_that_the_component_runs(
    start_nucleus: StartNucleus, personality: Literal["java", "lite"]
) -> None:
    async with start_nucleus(personality) as nucleus, IpcClient() as ipc:
        await report_running(ipc)
        assert nucleus.states(COMPONENT) == ["RUNNING"]


async def test_a_nucleus_that_takes_no_state_is_no_trouble(
    start_nucleus: StartNucleus, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The operation refuses any other state, as a nucleus without the operation refuses all.
    monkeypatch.setattr(ReportedLifecycleState, "RUNNING", "UNHEARD-OF")
    caplog.set_level("INFO", "s3downloader")
    async with start_nucleus("lite") as nucleus, IpcClient() as ipc:
        await report_running(ipc)
        await get_configuration(ipc)
        assert nucleus.states(COMPONENT) == []
    assert "did not accept" in caplog.text
    assert "WARNING" not in caplog.text


async def test_a_nucleus_that_never_asks_is_no_trouble(
    start_nucleus: StartNucleus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "s3downloader")
    async with start_nucleus("lite"), IpcClient() as ipc:
        await answer_component_updates(ipc, lambda _: 0)
        await get_configuration(ipc)
    assert "no subscription to component updates" in caplog.text
    assert "WARNING" not in caplog.text
