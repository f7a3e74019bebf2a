"""Configuration and component updates over IPC."""

from __future__ import annotations

import asyncio
import itertools
from typing import Literal

import pytest
from awsiot.greengrasscoreipc.client import GreengrassCoreIPCClient
from awsiot.greengrasscoreipc.model import (
    ReportedLifecycleState,
    SubscribeToValidateConfigurationUpdatesRequest,
)

from s3downloader.aio import timeout
from s3downloader.messaging import greengrass_config
from s3downloader.messaging.bus import Message
from s3downloader.messaging.greengrass_config import (
    answer_component_updates,
    get_configuration,
    report_running,
    watch_configuration,
)
from s3downloader.messaging.ipc import IpcClient

from .conftest import COMPONENT, StartNucleus
from .inbox import Inbox


async def test_the_configuration_is_read_and_watched(start_nucleus: StartNucleus) -> None:
    changes = Inbox()
    configuration = {"TopicPrefix": "p", "Nested": {"a": 1}}
    async with start_nucleus(configuration=configuration) as nucleus, IpcClient() as ipc:
        assert (await get_configuration(ipc)).items() >= configuration.items()

        await watch_configuration(ipc, lambda: changes(Message("changed", b"")))
        nucleus.set_configuration(COMPONENT, {"Nested": {"a": 2}})
        await changes.count(1)
        assert (await get_configuration(ipc))["Nested"] == {"a": 2}


async def test_the_watch_outlives_the_connection(start_nucleus: StartNucleus) -> None:
    changes = Inbox()
    async with start_nucleus(configuration={"a": 0}) as nucleus, IpcClient() as ipc:
        await watch_configuration(ipc, lambda: changes(Message("changed", b"")))
        await nucleus.drop_connection(COMPONENT)
        async with timeout(10):
            for number in itertools.count(1):
                nucleus.set_configuration(COMPONENT, {"a": number})
                if changes.messages:
                    break
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(("defer_seconds", "milliseconds"), [(0, 0), (1.5, 1500)])
async def test_the_question_about_an_update_is_answered_at_once(
    start_nucleus: StartNucleus, defer_seconds: float, milliseconds: int
) -> None:
    async with start_nucleus() as nucleus, IpcClient() as ipc:
        await answer_component_updates(ipc, lambda _: defer_seconds)
        assert await nucleus.propose_update(within=5) == {COMPONENT: milliseconds}
        nucleus.finish_update()
        assert await nucleus.propose_update("second", within=5) == {COMPONENT: milliseconds}


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
    assert "does not take the report" in caplog.text
    assert "WARNING" not in caplog.text


async def test_a_nucleus_that_never_asks_is_no_trouble(
    start_nucleus: StartNucleus, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An operation that the local nucleus does not know, as nucleus lite does not know the real one.
    monkeypatch.setattr(
        GreengrassCoreIPCClient,
        "new_subscribe_to_component_updates",
        GreengrassCoreIPCClient.new_subscribe_to_validate_configuration_updates,
    )
    monkeypatch.setattr(
        greengrass_config,
        "SubscribeToComponentUpdatesRequest",
        SubscribeToValidateConfigurationUpdatesRequest,
    )
    caplog.set_level("INFO", "s3downloader")
    async with start_nucleus("lite"), IpcClient() as ipc:
        await answer_component_updates(ipc, lambda _: 0)
        await get_configuration(ipc)
    assert "no subscription to component updates" in caplog.text
    assert "WARNING" not in caplog.text
