"""Writes a state with rows in all tables, and reads all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s3downloader.core.errors import ErrorCode
from s3downloader.core.objects import ObjectRef, SourceRef
from s3downloader.core.records import (
    Download,
    Exchange,
    FailedAttempt,
    Failure,
    FileRecord,
    Options,
    Rollback,
    State,
    Version,
)
from s3downloader.store import Change, Item, Published, Store

AT = 1_700_000_000.5


def a_download(number: int, state: State) -> Download:
    name = f"d-{number}"
    replacing = state is State.PUBLISHING
    return Download(
        download_id=name,
        command_id=f"c-{number}",
        source=SourceRef("s3", "models", f"{name}/"),
        layout="tree",
        destination=f"/data/{name}",
        staging=f"/data/.s3downloader/{number:016x}",
        options=Options(publish="replace" if replacing else "merge"),
        model_meta={"model_id": f"m-{number}", "model_version": "2.5"},
        sha256={"weights-0.bin": f"{number:064x}"},
        state=state,
        created_at=AT + number,
        updated_at=AT + number,
        started=True,
        publish_began=state in (State.PUBLISHING, State.COMPLETED),
        plan=1,
        seconds=12.5,
        bytes_done=1_000,
        bytes_total=6_000,
        files_done=2,
        files_total=6,
        failure=Failure(ErrorCode.TIMEOUT, "the store is silent", {"tries": 3})
        if state in (State.FAILED, State.WAITING)
        else None,
        exchange=Exchange(7, f"/data/.s3downloader/versions/{number}") if replacing else None,
    )


def a_version(number: int) -> Version:
    return Version(
        number=number,
        target=f"/data/d-{number}",
        path=f"/data/.s3downloader/versions/{number:016x}/d-{number}",
        models={f"m-{number}": {"model_id": f"m-{number}"}},
        rollback=Rollback(inode=7, models={}, before={}, responses=[("c", b"{}")])
        if number == 2
        else None,
    )


async def write_everything(directory: Path) -> None:
    """Write a state with rows in all tables to `directory`, and close it."""
    store = Store(directory)
    downloads = [a_download(number, state) for number, state in enumerate(State)]
    models = {
        f"m-{n}": {"model_id": f"m-{n}", "local_path": f"/data/d-{n}", "last_updated": n}
        for n in range(10)
    }
    await store.record(
        Change(
            at=AT,
            downloads=downloads,
            events=[b'{"event":"download_started","number":%d}' % n for n in range(5)],
            responses=[
                (f"c-{n}", b'{"success":true,"message":"number %d"}' % n) for n in range(20)
            ],
            models=dict(models),
            metadata={"shadow": b'{"version":7,"reported":{}}', "max_bandwidth": b"null"},
            versions=[a_version(number) for number in (1, 2, 3)],
        )
    )
    for number in range(6):
        await store.receive(f"c-{100 + number}", b'{"command":"status"}\n')
    for download in downloads:
        name = download.download_id
        items = [
            Item(f"weights-{n}.bin", ObjectRef(f"{name}/weights-{n}.bin", 1_000, f'"e{n}"', AT + n))
            for n in range(6)
        ]
        await store.plan(name, 1, items)
        files = [file async for file in store.files(name)]
        await store.mark_done(files[:2])
        await store.mark_failed(
            [FailedAttempt(files[2].number, ErrorCode.TIMEOUT, "the store is silent", AT)]
        )
    await store.record_published(
        [
            Published(f"/data/d-5/weights-{n}.bin", 1_000, f'"e{n}"', "", "", n, n, "d-5")
            for n in range(30)
        ]
    )
    await store.close()


async def read_everything(store: Store) -> dict[str, dict[Any, Any]]:
    """Return what is left of what `write_everything` wrote, by table and key."""
    files: dict[str, FileRecord] = {}
    for n in range(len(State)):
        files |= {f"d-{n}/{file.path}": file async for file in store.files(f"d-{n}")}
    responses = {f"c-{n}": await store.response(f"c-{n}") for n in range(20)}
    metadata = {name: await store.metadata(name) for name in ("shadow", "max_bandwidth")}
    paths = [path async for page in store.published_files() for path in page]
    return {
        "downloads": {d.download_id: d for d in await store.downloads()},
        "models": await store.models(),
        "versions": {version.number: version for version in await store.versions()},
        "messages": {message.number: message for message in await store.outgoing()},
        "commands": {command.number: command for command in await store.arrived()},
        "answers": {name: answer for name, answer in responses.items() if answer is not None},
        "notes": {name: value for name, value in metadata.items() if value is not None},
        "files": files,
        "published": {file.file: file for file in await store.published(paths)},
    }
