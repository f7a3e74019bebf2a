"""The installation of an s5cmd of another version than that in the package."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3downloader.engines.s5cmd.program import S5cmd, installed_binary, packaged_binary
from sandbox.device import SOURCE
from sandbox.servers import Broker, ObjectServer

from ..e2e.conftest import make_bench
from ..support import PATIENCE, ManualClock, assert_backs_off, eventually
from .releases import Releases, serving

SCRIPT = SOURCE / "install_s5cmd.sh"
TOOLS = ("awk", "chmod", "cut", "mkdir", "mv", "python3", "rm", "sha256sum", "sync", "tar", "gzip")


@pytest.fixture
def releases(tmp_path: Path) -> Iterator[Releases]:
    (tmp_path / "releases").mkdir()
    with serving(tmp_path / "releases") as releases:
        yield releases


def install(
    version: str,
    folder: Path,
    source: Releases | str,
    *,
    path: str | None = None,
    umask: int = -1,
) -> subprocess.CompletedProcess[str]:
    url = source if isinstance(source, str) else source.url
    return subprocess.run(
        ["/bin/sh", str(SCRIPT), version, str(folder)],
        env={"PATH": path or os.environ["PATH"], "S5CMD_RELEASES": url},
        capture_output=True,
        text=True,
        check=False,
        umask=umask,
    )


def programs(folder: Path, *, machine: str | None = None) -> str:
    """Return a PATH without curl, with a `uname` that reports the given architecture."""
    folder.mkdir()
    for name in TOOLS:
        found = sys.executable if name == "python3" else shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    uname = folder / "uname"
    uname.write_text(f"#!/bin/sh\necho {machine or os.uname().machine}\n")
    uname.chmod(0o755)
    return str(folder)


@pytest.mark.parametrize("with_curl", [True, False])
def test_a_version_is_fetched_once_and_stays(
    tmp_path: Path, releases: Releases, with_curl: bool
) -> None:
    releases.publish("2.9.1")
    path = None if with_curl else programs(tmp_path / "programs")
    folder = tmp_path / "state"
    first = install("2.9.1", folder, releases, path=path)
    assert first.returncode == 0, first.stderr
    binary = folder / "s5cmd-2.9.1" / "s5cmd"
    version = subprocess.run([str(binary), "version"], capture_output=True, text=True, check=True)
    assert version.stdout == "v2.9.1-made\n"
    count = len(releases.paths)
    assert install("2.9.1", folder, releases, path=path).returncode == 0
    assert len(releases.paths) == count
    assert [path.name for path in folder.iterdir()] == ["s5cmd-2.9.1"]


def test_nobody_else_can_change_it_whatever_the_umask(tmp_path: Path, releases: Releases) -> None:
    releases.publish("2.9.1")
    folder = tmp_path / "state"
    assert install("2.9.1", folder, releases, umask=0).returncode == 0
    installed = [folder, folder / "s5cmd-2.9.1", folder / "s5cmd-2.9.1" / "s5cmd"]
    assert [oct(path.stat().st_mode & 0o777) for path in installed] == 3 * ["0o755"]


def test_a_wrong_checksum_installs_nothing(tmp_path: Path, releases: Releases) -> None:
    releases.publish("2.9.1", checksum="0" * 64)
    ended = install("2.9.1", tmp_path / "state", releases)
    assert ended.returncode == 1
    assert f"the release states {'0' * 64}; nothing was installed" in ended.stderr
    assert [*(tmp_path / "state").iterdir()] == []


def test_a_release_without_the_checksum_installs_nothing(
    tmp_path: Path, releases: Releases
) -> None:
    releases.publish("2.9.1")
    (releases.folder / "v2.9.1" / "s5cmd_checksums.txt").write_text("")
    ended = install("2.9.1", tmp_path / "state", releases)
    assert "the release states no checksum of s5cmd_2.9.1_Linux-" in ended.stderr
    assert [*(tmp_path / "state").iterdir()] == []


@pytest.mark.parametrize("with_curl", [True, False])
def test_an_unknown_version_is_told(tmp_path: Path, releases: Releases, with_curl: bool) -> None:
    path = None if with_curl else programs(tmp_path / "programs")
    ended = install("9.9.9", tmp_path / "state", releases, path=path)
    assert ended.returncode == 1
    assert "there is no s5cmd 9.9.9" in ended.stderr


@pytest.mark.parametrize("with_curl", [True, False])
def test_no_network_is_told(tmp_path: Path, with_curl: bool) -> None:
    path = None if with_curl else programs(tmp_path / "programs")
    ended = install("2.9.1", tmp_path / "state", "http://127.0.0.1:9", path=path)
    assert ended.returncode == 1
    assert "cannot be reached; is there a network?" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_unknown_machine_is_told(tmp_path: Path, releases: Releases) -> None:
    path = programs(tmp_path / "programs", machine="sparc64")
    ended = install("2.9.1", tmp_path / "state", releases, path=path)
    assert ended.returncode == 1
    assert "there is no s5cmd for sparc64; x86_64 and aarch64" in ended.stderr
    assert releases.paths == []


def test_a_program_that_does_not_run_here_is_told(tmp_path: Path, releases: Releases) -> None:
    releases.publish("2.9.1", program=b"\x7fELF of another machine")
    ended = install("2.9.1", tmp_path / "state", releases)
    assert ended.returncode == 1
    assert "s5cmd 2.9.1 does not run on this device" in ended.stderr
    assert [*(tmp_path / "state").iterdir()] == []


@pytest.mark.parametrize("version", ["", "newest", "2.3.0/../x", "..", "1.2.", ".1"])
def test_what_is_no_version_is_refused(tmp_path: Path, releases: Releases, version: str) -> None:
    ended = install(version, tmp_path / "state", releases)
    assert ended.returncode == 1
    assert "is no version of s5cmd" in ended.stderr
    assert releases.paths == []


async def version_of(tool: S5cmd) -> str:
    """Return the version of s5cmd that the next download uses."""
    async with tool.run("version", retry_count=0) as process:
        [line] = await process.read()
    return line.error


async def test_the_package_s_own_serves_its_version(tmp_path: Path) -> None:
    tool = S5cmd()
    await tool.use_version(
        "2.3.0", installer=tmp_path / "none", folder=tmp_path, clock=ManualClock()
    )
    assert (await version_of(tool)).startswith("v2.3.0")


async def test_another_version_is_installed_and_found_again(
    tmp_path: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S5CMD_RELEASES", releases.url)
    releases.publish("2.9.1")
    assert installed_binary("2.9.1", tmp_path) is None
    tool = S5cmd()
    await tool.use_version("2.9.1", installer=SCRIPT, folder=tmp_path, clock=ManualClock())
    assert await version_of(tool) == "v2.9.1-made"
    installed = installed_binary("2.9.1", tmp_path)
    assert installed == tmp_path / "s5cmd-2.9.1" / "s5cmd"
    tool = S5cmd(binary=installed)
    await tool.use_version(
        "2.9.1", installer=tmp_path / "none", folder=tmp_path, clock=ManualClock()
    )


async def test_the_bundled_s5cmd_serves_until_another_is_installed(
    tmp_path: Path,
    releases: Releases,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("S5CMD_RELEASES", releases.url)
    tool, clock = S5cmd(), ManualClock()
    adopting = asyncio.create_task(
        tool.use_version("2.9.1", installer=SCRIPT, folder=tmp_path / "state", clock=clock)
    )
    waits = [await clock.next_sleep()]
    clock.wake()
    waits.append(await clock.next_sleep())
    assert_backs_off(waits, 60.0, 3_600.0)
    assert (await version_of(tool)).startswith("v2.3.0")
    warning = caplog.messages[0]
    assert warning.startswith("S5cmdVersion requests 2.9.1, but s5cmd 2.3.0 is still used: ")
    assert "there is no s5cmd 2.9.1" in warning
    releases.publish("2.9.1")
    clock.wake()
    await adopting
    assert await version_of(tool) == "v2.9.1-made"


async def test_a_silent_server_holds_neither_the_start_nor_the_end_up(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    silent.settimeout(PATIENCE)
    configuration = {"S5cmdVersion": "2.9.1"}
    with silent:
        async with make_bench("mqtt", tmp_path, broker, object_server, configuration) as bench:
            address = f"http://127.0.0.1:{silent.getsockname()[1]}"
            bench.device.environment["S5CMD_RELEASES"] = address
            await bench.device.start()
            await bench.up()
            connection, _ = await asyncio.to_thread(silent.accept)
            with connection:
                assert await bench.device.terminate() == 0


async def test_the_daemon_works_with_the_version_that_is_asked_for(
    tmp_path: Path, releases: Releases, broker: Broker, object_server: ObjectServer
) -> None:
    releases.publish("2.9.1", program=packaged_binary().read_bytes())
    await object_server.make("other-s5cmd/model", 1 << 20)
    configuration = {"S5cmdVersion": "2.9.1"}
    async with make_bench("mqtt", tmp_path, broker, object_server, configuration) as bench:
        bench.device.environment["S5CMD_RELEASES"] = releases.url
        await bench.device.start()
        await bench.up()
        await eventually(lambda: "s5cmd 2.9.1 is used from now on" in bench.device.log)
        await bench.operator.ask("download", bucket="models", key="other-s5cmd/", download_id="d")
        await bench.operator.event("download_completed", "d")
        assert (bench.downloads / "model").stat().st_size == 1 << 20
        installed = bench.device.directory / "state" / "s5cmd-2.9.1" / "s5cmd"
        assert installed.read_bytes() == packaged_binary().read_bytes()
        assert "is what runs" not in bench.device.log
