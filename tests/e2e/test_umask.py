"""The permissions of files on the device: published files follow the user's umask."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from sandbox.device import MqttDevice
from sandbox.servers import Broker, ObjectServer

from .conftest import Bench, make_bench

MiB = 1 << 20
LARGE, SMALL = 9 * MiB, 10


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def modes(folder: Path) -> list[tuple[str, int]]:
    """Return the types and modes of a folder and of everything in it."""
    paths = (folder, *folder.rglob("*"))
    return [("folder" if path.is_dir() else "file", mode(path)) for path in paths]


async def download(bench: Bench, download_id: str, key: str, to: str, **options: Any) -> None:
    destination = str(bench.downloads / to)
    await bench.operator.ask(
        "download",
        bucket="models",
        key=key,
        download_id=download_id,
        destination=destination,
        **options,
    )


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o027, 0o077], ids="{:03o}".format)
@pytest.mark.parametrize("engine", ["ranged", "s5cmd"])
async def test_published_goes_by_the_umask_and_the_rest_is_private(
    tmp_path: Path, broker: Broker, object_server: ObjectServer, engine: str, umask: int
) -> None:
    for name, size in {"large": LARGE, "deep/small": SMALL, "deep/empty": 0}.items():
        await object_server.put(f"umask/{name}", bytes(size))
    async with make_bench("mqtt", tmp_path, broker, object_server, {}) as bench:
        assert isinstance(bench.device, MqttDevice)
        bench.device.wrapper = ["sh", "-c", f'umask {umask:03o}; exec "$@"', "sh"]
        bench.link.freeze_after(4 * MiB)
        await bench.device.start()
        await bench.up()
        await download(bench, "a", "umask/", "new", engine=engine)
        own = bench.downloads / ".s3downloader"
        await bench.operator.wait_for(
            lambda h: any(d["bytes_done"] > MiB for d in h.message.get("downloads", ()))
        )
        assert mode(own) == 0o700
        bench.link.thaw()
        await bench.operator.event("download_completed", "a")
        await download(bench, "b", "umask/deep/small", "one/two", engine=engine)
        await bench.operator.event("download_completed", "b")
        await download(bench, "c", "umask/", "new", engine=engine, publish="replace")
        await bench.operator.event("download_completed", "c")
        published = modes(bench.downloads / "new") + modes(bench.downloads / "one")
        assert set(published) == {("folder", 0o777 & ~umask), ("file", 0o666 & ~umask)}
        assert len(published) == 8
        assert mode(own) == 0o700, "it has the version before"


async def test_an_open_folder_of_an_earlier_version_is_closed(
    bench: Bench, object_server: ObjectServer
) -> None:
    await object_server.put("umask/large", bytes(LARGE))
    own = bench.downloads / ".s3downloader"
    own.mkdir(mode=0o755)
    bench.link.freeze_after(4 * MiB)
    await download(bench, "o", "umask/large", ".")
    await bench.operator.wait_for(
        lambda h: any(d["bytes_done"] > 0 for d in h.message.get("downloads", ()))
    )
    assert mode(own) == 0o700
    bench.link.thaw()
    await bench.operator.event("download_completed", "o")
