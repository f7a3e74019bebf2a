"""The component is rolled back to an older version and deployed again, on the same state."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from s3downloader.store.migrations import schema
from sandbox.device import SOURCE, MqttDevice
from sandbox.servers import Broker, ObjectServer

from ..store.newer import ADDS, add_everything, added
from .conftest import make_bench
from .recorded import arrived, objects_of, put_objects, restore, version_in
from .test_upgrade import BEFORE, check_all_goes_on, schema_version

MiB = 1 << 20

FIELDS = {
    "    numworkers: int = 256\n": '    more: str = ""\n',
    "    download_id: str\n    command_id: str\n": (
        "    priority: int = 5\n    caller: dict[str, str] = {}\n"
    ),
}
"""What a newer downloader adds to records, by the line after which it is added."""


def newer_component(directory: Path) -> Path:
    """Return a component with another step in its migrations, and more fields in records."""
    component = directory / "newer"
    shutil.copytree(SOURCE, component, ignore=shutil.ignore_patterns("__pycache__"))
    store = component / "s3downloader" / "store"
    step = f'Step("""{ADDS}""", oldest_reader={schema().version})'
    with (store / "migrations.py").open("a") as migrations:
        migrations.write(f"\nMIGRATIONS = (*MIGRATIONS, {step})\n")
    with (store / "schema.sql").open("a") as tables:
        tables.write(f";\n{ADDS}")
    records = component / "s3downloader" / "core" / "records.py"
    text = records.read_text()
    for line, field in FIELDS.items():
        assert text.count(line) == 1
        text = text.replace(line, line + field)
    records.write_text(text)
    return component


def of_downloads(found: dict[str, Any]) -> dict[str, Any]:
    """Return the additions to downloads, and to their own rows in other tables."""
    kinds = ("downloads", "jobs", "marks", "log", "format")
    return {name: row for name, row in found.items() if name.split()[0] in kinds}


async def test_an_older_component_works_on_a_newer_state(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> None:
    await put_objects(object_server)
    newer = newer_component(tmp_path)
    async with make_bench("mqtt", tmp_path, broker, object_server, {}) as bench:
        device, operator, link = bench.device, bench.operator, bench.link
        assert isinstance(device, MqttDevice)
        restore(device.directory, BEFORE)
        device.folder = newer
        link.freeze()
        await device.start()
        await bench.up()
        assert await device.terminate() == 0
        assert schema_version(bench) == schema().version + 1
        add_everything(device.directory / "state")
        before = added(device.directory / "state")

        device.folder = SOURCE
        link.thaw()
        await device.start()
        await check_all_goes_on(bench, arrived(BEFORE))
        link.rate = MiB
        await operator.ask(
            "download",
            bucket="models",
            key="recorded/running/",
            destination=f"{bench.downloads}/again",
            download_id="again",
        )
        await operator.progress("again", lambda d: d["status"] == "downloading")
        await operator.ask("pause", download_id="again")
        assert (await operator.ask("model_delete", model_id="queued"))["success"]
        assert await device.terminate() == 0
        assert "what it does not know is kept" in device.log
        assert schema_version(bench) == schema().version + 1

        link.rate = None
        device.folder = newer
        await device.start()
        await operator.ask("resume", download_id="again")
        await operator.event("download_completed", "again")
        assert {path.name: path.read_bytes() for path in (bench.downloads / "again").iterdir()} == {
            name.partition("/")[2]: body for name, body in objects_of("running").items()
        }
        assert (await operator.ask("model_rollback", model_id="vlm"))["success"]
        assert version_in(bench.downloads) == "v3"
        assert await device.terminate() == 0
        after = of_downloads(added(device.directory / "state"))
        kept = {name: after[name] for name in of_downloads(before)}
        stopped = ("downloads paused", "downloads failed", "downloads overdue", "downloads waiting")
        assert kept == of_downloads(before) | {
            name: {k: v for k, v in before[name].items() if k != "failure.more"} for name in stopped
        }, "but for what was said of failures that are over"
        assert not list((device.directory / "state").glob("state.damaged-*"))
