"""Each installed downloader fetches one object, and several, completely."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.contenders import PEERS, Peer, Work, version
from benchmarks.loads import Load
from sandbox.servers import ObjectServer

ONE = Load("contended", "an object", (10_000_000,))
SEVERAL = Load("contended-too", "objects", (9_000_000, 4_096, 1))


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> Peer:
    """A peer. Skipped if it is not installed."""
    peer = PEERS[request.param]
    try:
        peer.version()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    return peer


@pytest.mark.parametrize("load", [ONE, SEVERAL], ids=["one", "several"])
async def test_a_peer_brings_it_whole(
    object_server: ObjectServer, peer: Peer, load: Load, tmp_path: Path
) -> None:
    sizes = zip(load.keys, load.sizes, strict=True)
    digests = [await object_server.make(key, size) for key, size in sizes]
    work = Work(object_server, load, tmp_path / "place", tmp_path)
    process = await asyncio.create_subprocess_exec(*peer.download(work), env=work.environment)
    assert await process.wait() == 0
    load.check_sizes(work.target)
    load.check_digests(work.target, digests)


async def test_a_peer_tells_its_version(peer: Peer) -> None:
    assert any(letter.isdigit() for letter in await version(peer))
