"""Records a state of the present version for the tests:

`python -m tests.e2e.record`.

The real daemon works in the sandbox, and is killed while downloads are running, waiting, queued,
paused, failed, completed and cancelled. It leaves retained versions, models, commands without a
response, and messages that are not published. Run it before a step is added to the migrations. It
takes about a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from s3downloader.engines.disk import Disk
from s3downloader.engines.ranged.journal import Journal
from sandbox.link import Link
from sandbox.servers import Broker, ObjectServer

from ..support import eventually
from .conftest import Bench, make_bench
from .recorded import OBJECTS, PLACE, PREFIX, STATES, Arrived, content, put_objects, rewrite

MiB = 1 << 20
_WAITS = 6
"""The number of waits for the network.

Each is twice as long as the one before, so that the last one outlasts the recording.
"""

_UNSENT_RESPONSES = "SELECT count(*) FROM outbox WHERE is_response"
_UNSENT_EVENTS = "SELECT count(*) FROM outbox WHERE NOT is_response"
_NO_ACCOUNT = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull}


class Recording:
    """A device whose links to the object server and to the broker can be held."""

    def __init__(self, bench: Bench, broker_link: Link, server: ObjectServer) -> None:
        self._bench = bench
        self._link = bench.link
        self._broker_link = broker_link
        self._server = server
        self._operator = bench.operator
        self._numbers = itertools.count(1)
        self._state = bench.device.directory / "state" / "state.db"

    async def run(self) -> None:
        """Bring the device into the state to be recorded, and kill it."""
        await self._bench.device.start()
        await self._bench.up()
        await self._complete()
        await self._pause()
        await self._fail()
        await self._let_wait()
        await self._leave_under_way()
        await self._leave_messages()
        await self._bench.device.kill()

    async def _complete(self) -> None:
        for version in ("v1", "v2", "v3"):
            await self._order(
                f"vlm-{version}",
                f"vlm/{version}/",
                destination=f"{self._bench.downloads}/vlm",
                publish="replace",
                keep_versions=2,
                model_meta={"model_id": "vlm", "model_version": version},
            )
            await self._operator.event("download_completed", f"vlm-{version}")
        await self._order("single", "single", sha256=self._sha256("single"))
        await self._operator.event("download_completed", "single")
        meta = {"model_id": "by-hand", "local_path": "/opt/by-hand", "stages": {"lab": 1}}
        await self._accepted("model_add", model_meta=meta)
        await self._accepted("limits", max_bandwidth=64 * MiB)
        self._link.freeze()
        await self._order("cancelled", "queued", destination=f"{self._bench.downloads}/elsewhere")
        await self._accepted("cancel", download_id="cancelled")
        self._link.thaw()

    async def _pause(self) -> None:
        await self._halt_within("paused", "paused/", 2 * MiB, part_size=MiB)
        await self._accepted("pause", download_id="paused")
        self._link.thaw()

    async def _fail(self) -> None:
        """Leave a failed download:

        one object does not match the command's SHA-256, the other arrives.
        """
        await self._server.put(f"{PREFIX}failed/late", b"not yet" * 50_000)
        sums = {name: self._sha256(f"failed/{name}") for name in ("large", "late")}
        await self._order("failed", "failed/", sha256=sums)
        await self._operator.event("download_error", "failed")

    async def _let_wait(self) -> None:
        """Leave one download that continues first after a start, and one that waits for long."""
        await self._halt_within("first", "first/", MiB, part_size=MiB)
        await self._accepted("pause", download_id="first")
        self._link.thaw()
        await self._halt_within("waiting", "waiting/", MiB, part_size=MiB)
        self._link.cut()
        self._link.thaw()
        for _ in range(_WAITS):
            await self._operator.progress("waiting", lambda d: d["status"] != "waiting", within=60)
            self._operator.received.clear()
            await self._operator.progress("waiting", lambda d: d["status"] == "waiting", within=60)
            self._operator.received.clear()

    async def _leave_under_way(self) -> None:
        self._link.restore()
        meta = {"model_id": "running"}
        await self._halt_within("running", "running/", 3 * MiB, part_size=MiB, model_meta=meta)
        await self._accepted("resume", download_id="first")
        await self._order("queued", "queued", model_meta={"model_id": "queued"})
        await self._order("overdue", "overdue", timeout=30)

    async def _leave_messages(self) -> None:
        """Leave a command that has begun, and a response and an event that are not published."""
        for command_id, key in (("early", f"{PREFIX}vlm/v1/"), ("late", f"{PREFIX}many/")):
            await self._operator.send(
                "list", command_id=command_id, list_type="s3", bucket="models", key=key
            )
        await eventually(lambda: self._count("SELECT count(*) FROM inbox") == 2)
        await self._bench.device.kill()
        before = self._count_status()
        await self._bench.device.start()
        await eventually(lambda: self._count_status() > before, within=15)
        self._broker_link.freeze()
        self._link.rate = 4_000
        self._link.thaw()
        await eventually(lambda: self._count(_UNSENT_RESPONSES), within=30)
        self._link.freeze()
        await eventually(lambda: self._count(_UNSENT_EVENTS), within=60)

    async def _order(self, name: str, key: str, **fields: Any) -> None:
        fields = {"destination": f"{self._bench.downloads}/{name}", **fields}
        await self._accepted(
            "download",
            command_id=name,
            bucket="models",
            key=PREFIX + key,
            download_id=name,
            **fields,
        )

    async def _accepted(self, command: str, **fields: Any) -> None:
        fields = {"command_id": f"recorded-{next(self._numbers)}", **fields}
        response = await self._operator.ask(command, **fields)
        assert response["success"], response

    async def _halt_within(self, name: str, key: str, size: int, **fields: Any) -> None:
        """Start a download, and freeze the link once it has carried so many bytes."""
        before, self._link.rate = self._link.bytes_down, MiB
        await self._order(name, key, **fields)
        await self._link.carried(before + size)
        self._link.freeze()
        self._link.rate = None
        await asyncio.sleep(3)  # the journal is synced every second

    def _sha256(self, name: str) -> str:
        return hashlib.sha256(content(name, OBJECTS[name])).hexdigest()

    def _count(self, query: str) -> int:
        with closing(sqlite3.connect(self._state)) as connection:
            return int(connection.execute(query).fetchone()[0])

    def _count_status(self) -> int:
        return sum(message.topic == "status" for message in self._operator.received)


def keep(device: Path) -> int:
    """Store what a device has left in the folder of states; return the version of its state."""
    with closing(sqlite3.connect(device / "state" / "state.db")) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        report = msgspec.json.encode(_arrived(connection))
        (STATES / f"version-{version}.json").write_bytes(msgspec.json.format(report) + b"\n")
        rewrite(connection, str(device), PLACE)
        lines = [*connection.iterdump(), f"PRAGMA user_version = {version};\n"]
    (STATES / f"version-{version}.sql").write_text("\n".join(lines))
    with tarfile.open(STATES / f"version-{version}.tar.xz", "w:xz") as archive:
        archive.add(device / "downloads", "downloads", filter=_anonymous)
    return int(version)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _arrived(connection: sqlite3.Connection) -> dict[str, Arrived]:
    """Return how much of each unfinished download survives a reboot."""
    found = {}
    done = "SELECT coalesce(sum(size), 0) FROM files WHERE done AND download_id = ?"
    for name, body in connection.execute("SELECT download_id, body FROM downloads").fetchall():
        download = msgspec.json.decode(body)
        if download["state"] in ("completed", "cancelled"):
            continue
        (arrived,) = connection.execute(done, (name,)).fetchone()
        for path in Path(download["staging"]).rglob("*.journal"):
            opened = Journal.open(path, Disk())
            assert opened, path
            arrived += sum(part.done for part in opened[0].synced)
            opened[0].close()
        key = download["key"].removeprefix(PREFIX)
        size = sum(
            size
            for name, size in OBJECTS.items()
            if name == key or (key.endswith("/") and name.startswith(key))
        )
        found[name] = Arrived(download["state"], size, arrived)
    return found


@contextlib.asynccontextmanager
async def _recording(directory: Path) -> AsyncIterator[tuple[Recording, Path]]:
    configuration = {"MaxConcurrentDownloads": 1, "LogLevel": "DEBUG"}
    async with (
        ObjectServer(directory / "objects") as server,
        Broker(directory / "broker") as broker,
        Link(broker.port) as link,
        make_bench(
            "mqtt", directory, broker, server, configuration, broker_port=link.port
        ) as bench,
    ):
        await put_objects(server)
        yield Recording(bench, link, server), bench.device.directory


async def _main() -> None:
    os.environ |= _NO_ACCOUNT
    with tempfile.TemporaryDirectory() as directory:
        async with _recording(Path(directory)) as (recording, device):
            try:
                await recording.run()
            except BaseException:
                print((device / "daemon.log").read_text()[-8_000:])
                raise
            print(f"a state of version {keep(device)} is in {STATES}")


if __name__ == "__main__":
    asyncio.run(_main())
