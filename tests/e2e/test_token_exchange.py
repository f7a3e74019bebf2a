"""Keys from the nucleus's token exchange service, which crashes, moves, or has no keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from s3downloader.core.aio import timeout
from sandbox.device import SOURCE, Device
from sandbox.nucleus import Nucleus
from sandbox.nucleus.nucleus import TOKEN_EXCHANGE
from sandbox.servers import Broker, ObjectServer

from ..support import PATIENCE, eventually
from .conftest import Bench, make_bench

MiB = 1 << 20
FILES = {f"part-{number}": 4 * MiB for number in range(6)}


@pytest.fixture
async def exchanging(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> AsyncIterator[Bench]:
    """A device on nucleus lite, not started, with keys only from the token exchange service."""
    for name, size in FILES.items():
        await object_server.make(f"exchange/{name}", size)
    async with make_bench("lite", tmp_path, broker, object_server, {}, exchanging=True) as bench:
        yield bench


def nucleus_of(bench: Bench) -> Nucleus:
    assert bench.nucleus is not None
    return bench.nucleus


async def start_download(bench: Bench, engine: str) -> None:
    await bench.operator.ask(
        "download",
        bucket="models",
        key="exchange/",
        download_id="x",
        engine=engine,
        numworkers=2,
        retry_count=0,
    )


async def waits_for_credentials(bench: Bench) -> str:
    """Return the text of a download that waits for credentials."""
    received = await bench.operator.wait_for(
        lambda h: (
            h.topic == "status"
            and any(d.get("status") == "waiting" for d in h.message.get("downloads", ()))
        )
    )
    [download] = received["downloads"]
    assert download["error_code"] == "credentials_unavailable"
    return str(download["error"])


async def completes(bench: Bench, pid: int) -> None:
    completed = await bench.operator.event("download_completed", "x", within=60)
    assert completed["files"] == len(FILES)
    assert {name: (bench.downloads / name).stat().st_size for name in FILES} == FILES
    assert bench.device.pid == pid
    assert bench.device.returncode is None, "the process was not started again"


@pytest.mark.parametrize("engine", ["ranged", "s5cmd"])
async def test_a_download_goes_on_when_the_exchange_has_moved(
    exchanging: Bench, engine: str
) -> None:
    exchange = nucleus_of(exchanging).credentials
    exchange.lifetime = timedelta(seconds=2)
    exchanging.link.freeze_after(10 * MiB)
    await exchanging.device.start()
    await exchanging.up()
    pid = exchanging.device.pid
    await start_download(exchanging, engine)
    await exchanging.operator.wait_for(
        lambda h: any(d["progress"] > 20 for d in h.message.get("downloads", ()))
    )
    before, requests = exchange.uri, exchange.requests
    await exchange.crash()
    await exchange.start()
    assert exchange.uri != before
    await eventually(lambda: datetime.now(timezone.utc) > exchange.expires_at)
    exchanging.link.thaw()
    await completes(exchanging, pid)
    assert exchange.requests > requests
    assert exchanging.link.bytes_down <= sum(FILES.values()) + 2 * 4 * MiB


@pytest.mark.parametrize("engine", ["ranged", "s5cmd"])
async def test_a_download_waits_for_an_exchange_that_is_away(
    exchanging: Bench, engine: str
) -> None:
    exchange = nucleus_of(exchanging).credentials
    await exchanging.device.start()
    await exchanging.up()
    pid = exchanging.device.pid
    await exchange.crash()
    await start_download(exchanging, engine)
    assert "no token exchange service listens" in await waits_for_credentials(exchanging)
    await exchange.start()
    await completes(exchanging, pid)


async def test_a_process_ends_where_nobody_tells_the_new_address(exchanging: Bench) -> None:
    nucleus = nucleus_of(exchanging)
    nucleus.register(TOKEN_EXCHANGE, configuration={})
    run_without_waiting(exchanging.device)
    await exchanging.device.start()
    await exchanging.up()
    await start_download(exchanging, "s5cmd")
    await completes(exchanging, exchanging.device.pid)
    await nucleus.credentials.crash()
    await nucleus.credentials.start()
    nucleus.register(TOKEN_EXCHANGE, configuration={})
    exchanging.operator.received.clear()
    await exchanging.operator.send(
        "download", bucket="models", key="exchange/part-1", download_id="y", engine="s5cmd"
    )
    async with timeout(PATIENCE):
        assert await exchanging.device.wait() == 1
    assert "the component must be started again" in exchanging.device.log.splitlines()[-1]
    assert "Traceback" not in exchanging.device.log
    await exchanging.device.start()
    await exchanging.operator.event("download_completed", "y")


def run_without_waiting(device: Device) -> None:
    """Make the daemon decide at once that the service does not come back."""
    artifact = device.directory / "artifacts" / "main-artifact"
    artifact.unlink()
    artifact.mkdir()
    (artifact / "main.py").write_text(
        "import runpy\n"
        "from s3downloader.sources.s3 import credentials\n"
        "credentials._GONE_AFTER = credentials._RECENT = 0\n"
        f"runpy.run_path({str(SOURCE / 'main.py')!r}, run_name='__main__')\n"
    )


async def test_a_download_waits_for_keys_that_aws_does_not_give_yet(exchanging: Bench) -> None:
    exchange = nucleus_of(exchanging).credentials
    kept, exchange.credentials = exchange.credentials, {}
    await exchanging.device.start()
    await exchanging.up()
    pid = exchanging.device.pid
    await start_download(exchanging, "s5cmd")
    assert "has no credentials now" in await waits_for_credentials(exchanging)
    exchange.credentials = kept
    await completes(exchanging, pid)
