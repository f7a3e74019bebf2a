"""Records keep the field names of earlier releases on disk."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from s3downloader.core.records import Exchange, Rollback, Version
from s3downloader.store import Store
from s3downloader.store.recovery.sealing import seal

PATH = "/data/.s3downloader/versions/01/m"
ROLLBACK = b'{"inode":7,"models":{},"before":{},"answers":[["c","e30="]]}'
VERSIONS = {
    1: b'{"number":1,"place":"/data/m","path":"%s","models":{},"doomed":true,"rollback":null}',
    2: b'{"number":2,"place":"/data/m","path":"%s","models":{},"doomed":false,"rollback":'
    + ROLLBACK
    + b"}",
}
EXCHANGE = b'{"inode":7,"slot":"/data/.s3downloader/versions/01"}'


async def test_versions_of_an_earlier_release_are_read(tmp_path: Path) -> None:
    await Store(tmp_path).close()
    bodies = {number: body % PATH.encode() for number, body in VERSIONS.items()}
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        for number, body in bodies.items():
            row = (number, seal(str(number), body))
            connection.execute("INSERT INTO versions VALUES (?, ?)", row)
        connection.commit()
    store = Store(tmp_path)
    assert store.damaged is None
    deleted, rolled_back = await store.versions()
    await store.close()
    rollback = Rollback(inode=7, models={}, before={}, responses=[("c", b"{}")])
    assert deleted == Version(number=1, target="/data/m", path=PATH, pending_delete=True)
    assert rolled_back == Version(number=2, target="/data/m", path=PATH, rollback=rollback)
    assert [msgspec.json.encode(version) for version in (deleted, rolled_back)] == [
        bodies[1],
        bodies[2],
    ]


def test_an_exchange_of_an_earlier_release_is_read() -> None:
    exchange = msgspec.json.decode(EXCHANGE, type=Exchange)
    assert exchange == Exchange(inode=7, version_dir="/data/.s3downloader/versions/01")
    assert msgspec.json.encode(exchange) == EXCHANGE
