"""A component on both kinds of nucleus: it fails, loses a dependency, and is deployed again."""

from __future__ import annotations

import asyncio
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from sandbox.nucleus import Nucleus, Recipe, StartLimitError, Unit, run_component
from sandbox.nucleus.nucleus import TOKEN_EXCHANGE

from ..support import ManualClock, eventually
from .support import Component

HOUR = 3_600.0


class EndingService:
    """A service that ends when the test says so, with the status that it gives."""

    def __init__(self) -> None:
        self.runs: list[asyncio.Future[int]] = []

    async def start(self) -> None:
        self.runs.append(asyncio.get_running_loop().create_future())

    async def wait(self) -> int:
        return await asyncio.shield(self.runs[-1])

    async def stop(self) -> None:
        if self.runs and not self.runs[-1].done():
            self.end(-signal.SIGTERM)

    def end(self, status: int) -> None:
        self.runs[-1].set_result(status)


def recipe(dependency: str) -> Recipe:
    return Recipe("a", {}, {}, [], {TOKEN_EXCHANGE: dependency})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def service() -> EndingService:
    return EndingService()


async def fail(unit: Unit, service: EndingService, clock: ManualClock, status: int = 1) -> None:
    """Let the service fail, and let the second pass after which it is started again."""
    starts = unit.starts
    service.end(status)
    assert await clock.next_sleep() == 1
    clock.wake()
    await eventually(lambda: unit.starts > starts or unit.state == "failed")


@pytest.mark.parametrize("status", [1, -signal.SIGKILL])
async def test_lite_starts_a_component_three_times_an_hour(
    lite: Nucleus, service: EndingService, clock: ManualClock, status: int
) -> None:
    async with Unit(service, lite, recipe("SOFT"), clock) as unit:
        await fail(unit, service, clock, status)
        await fail(unit, service, clock, status)
        assert (unit.state, unit.starts) == ("active", 3)
        await fail(unit, service, clock, status)
        assert (unit.state, unit.starts) == ("failed", 3)
        with pytest.raises(StartLimitError):
            await unit.start()
        unit.reset_failed()
        await unit.start()
        assert (unit.state, unit.starts) == ("active", 4)


async def test_starts_of_more_than_an_hour_ago_do_not_count(
    lite: Nucleus, service: EndingService, clock: ManualClock
) -> None:
    async with Unit(service, lite, recipe("SOFT"), clock) as unit:
        for _ in range(5):
            clock.advance(HOUR / 2)
            await fail(unit, service, clock)
        assert (unit.state, unit.starts) == ("active", 6)


async def test_java_sets_no_such_limit(
    nucleus: Nucleus, service: EndingService, clock: ManualClock
) -> None:
    async with Unit(service, nucleus, recipe("SOFT"), clock) as unit:
        for _ in range(5):
            await fail(unit, service, clock)
        assert unit.state == "active"


async def test_one_that_has_finished_is_let_be(
    lite: Nucleus, service: EndingService, clock: ManualClock
) -> None:
    async with Unit(service, lite, recipe("SOFT"), clock) as unit:
        service.end(0)
        await eventually(lambda: unit.state == "inactive")
        assert unit.starts == 1


@pytest.mark.parametrize(
    ("dependency", "state"), [("HARD", "inactive"), ("SOFT", "active")], ids=str
)
async def test_on_lite_a_hard_dependency_that_dies_stops_it_for_good(
    lite: Nucleus, service: EndingService, clock: ManualClock, dependency: str, state: str
) -> None:
    async with Unit(service, lite, recipe(dependency), clock) as unit:
        await lite.credentials.crash()
        assert unit.state == state
        await lite.credentials.start()
        assert (unit.state, unit.starts) == (state, 1)


async def test_on_java_a_hard_dependency_binds_nothing(
    nucleus: Nucleus, service: EndingService, clock: ManualClock
) -> None:
    async with Unit(service, nucleus, recipe("HARD"), clock) as unit:
        await nucleus.credentials.crash()
        assert unit.state == "active"
        await nucleus.credentials.start()


async def test_on_lite_a_changed_configuration_restarts_it(
    lite: Nucleus, service: EndingService, clock: ManualClock
) -> None:
    lite.register("a", configuration={"LogLevel": "INFO"})
    async with Unit(service, lite, recipe("SOFT"), clock) as unit:
        for level in ("DEBUG", "INFO", "ERROR", "WARNING"):
            await unit.deploy({"LogLevel": level})
        assert (unit.state, unit.starts) == ("active", 5), "a deployment resets the limit"
    assert lite.configuration("a")["LogLevel"] == "WARNING"


async def test_on_java_a_changed_configuration_does_not(
    nucleus: Nucleus, service: EndingService, clock: ManualClock
) -> None:
    nucleus.register("a")
    async with Unit(service, nucleus, recipe("SOFT"), clock) as unit:
        await unit.deploy({"LogLevel": "DEBUG"})
        assert unit.starts == 1


async def test_java_tells_the_port_of_the_token_exchange(nucleus: Nucleus) -> None:
    assert await told_after_a_crash(nucleus) == {"activePort": nucleus.credentials.port}


async def test_lite_tells_the_port_of_the_token_exchange(lite: Nucleus) -> None:
    assert await told_after_a_crash(lite) == {"port": str(lite.credentials.port)}


async def told_after_a_crash(nucleus: Nucleus) -> dict[str, Any]:
    """Return the configuration of TokenExchangeService after that has crashed and moved."""
    nucleus.register("a")
    before = nucleus.credentials.uri
    async with Component(nucleus.component_environment("a")) as component:
        await nucleus.credentials.crash()
        with pytest.raises(urllib.error.URLError, match="refused"):
            await asyncio.to_thread(urllib.request.urlopen, before)
        await nucleus.credentials.start()
        given = nucleus.component_environment("a")["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
        assert given == nucleus.credentials.uri != before
        answer = await component.call("get_configuration", component_name=TOKEN_EXCHANGE)
    assert isinstance(answer.value, dict)
    return answer.value


@pytest.mark.parametrize(
    ("dependency", "argument"), [("another", "0"), (TOKEN_EXCHANGE, "1")], ids=str
)
async def test_lite_tells_the_address_to_whom_depends_on_it(
    lite: Nucleus, tmp_path: Path, dependency: str, argument: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"ComponentName: a\nComponentDependencies: {{{dependency}: {{}}}}\nManifests:\n"
        "- Platform: {runtime: '*'}\n"
        "  Lifecycle: {run: {Script: env | grep -c ^AWS_CONTAINER_CREDENTIALS_FULL_URI}}\n"
    )
    lite.register("a")
    running = await run_component(lite, Recipe.load(path), artifacts=tmp_path)
    await running.wait()
    await running.stop()
    assert running.log.read_text().split() == [argument]
