"""Requests for metadata and for bytes of objects share connections."""

from __future__ import annotations

import os
from pathlib import Path

from s3downloader.core.clock import SystemClock
from s3downloader.core.objects import SourceRef
from s3downloader.engines.ranged.engine import RangedEngine
from s3downloader.sources.registry import sources_over
from s3downloader.sources.s3.client import S3Client
from s3downloader.sources.s3.credentials import Credentials
from s3downloader.sources.s3.object_metadata import ObjectMetadata
from tests.sources.scripted_server import ScriptedServer

from .objects import SMALL, Served, content, file_of
from .support import BUCKET, Files, Recorder, fetch_with, job


async def test_a_head_and_a_fetch_share_a_connection(tmp_path: Path) -> None:
    served, clock = Served(SMALL), SystemClock()
    async with ScriptedServer(served) as server:
        client = S3Client(server.endpoint, Credentials(os.environ, clock))
        sources = sources_over(ObjectMetadata(client), clock)
        source = sources.open(SourceRef("s3", BUCKET, ""))
        engine = RangedEngine(client=client, sources=sources, clock=clock)
        for _ in range(2):
            await source.stat("model")
        await fetch_with(engine, job(tmp_path), Files([file_of(served)]), Recorder())
        assert server.request_lines == ["HEAD model", "HEAD model", "GET model"]
        assert server.connections == 1
        await source.stat("model")
        assert server.connections == 2, "none is kept after a fetch"
        client.transport.close_idle()
    assert content(tmp_path) == SMALL
