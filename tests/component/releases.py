"""A local server with releases of s5cmd, in the layout of the official ones."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["Releases", "serving"]

PROGRAM = "#!/bin/sh\necho v{version}-made\n"


class Releases:
    """The releases in `folder`, served at `url`. `paths` has the paths that were requested."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.paths: list[str] = []

    def publish(
        self, version: str, *, checksum: str | None = None, program: bytes | None = None
    ) -> None:
        """Publish a version for both architectures.

        `checksum` replaces the right checksum, `program` the content of the binary.
        """
        release = self.folder / f"v{version}"
        release.mkdir()
        sums = []
        content = _archive(program or PROGRAM.format(version=version).encode())
        for machine in ("64bit", "arm64"):
            name = f"s5cmd_{version}_Linux-{machine}.tar.gz"
            (release / name).write_bytes(content)
            sums.append(f"{checksum or hashlib.sha256(content).hexdigest()}  {name}\n")
        (release / "s5cmd_checksums.txt").write_text("".join(sums))


def _archive(program: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
        for name, content in {"README.md": b"s5cmd\n", "s5cmd": program}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@contextmanager
def serving(folder: Path) -> Iterator[Releases]:
    """Serve the releases in `folder` for the duration of the context."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *values: Any, **named: Any) -> None:
            releases.paths.append(self.path)

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(folder))
    ) as server:
        releases = Releases(folder, f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield releases
        finally:
            server.shutdown()
            thread.join()
