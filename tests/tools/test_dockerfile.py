"""The instructions of a Dockerfile that need no root are carried out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.dockerfile import carry_out

DOCKERFILE = """\
# A comment.
ARG BASE=some:image

FROM ${BASE} AS made
COPY one two /opt/
COPY folder /opt/folder

FROM ${BASE}
COPY --from=made /opt /opt
USER 10001:10001
WORKDIR /var/lib/it
VOLUME ["/data"]
STOPSIGNAL SIGINT
ENTRYPOINT ["/opt/one", \\
    "--quick"]
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    context = tmp_path / "context"
    for name in ("one", "two", "folder/three", "folder/__pycache__/four"):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(name)
    (tmp_path / "base").mkdir()
    (tmp_path / "stages").mkdir()
    return context


def test_the_last_stage_is_what_comes_out(context: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    image = carry_out(
        tmp_path / "Dockerfile",
        context=context,
        base=tmp_path / "base",
        stages=tmp_path / "stages",
    )
    files = {f.relative_to(image.root).as_posix() for f in image.root.rglob("*") if f.is_file()}
    assert files == {"opt/one", "opt/two", "opt/folder/three"}
    assert (image.user, image.workdir) == ("10001:10001", Path("/var/lib/it"))
    assert (image.root / "var" / "lib" / "it").is_dir()
    assert (image.volumes, image.stop_signal) == (["/data"], "SIGINT")
    assert image.entrypoint == ["/opt/one", "--quick"]


def test_what_is_not_known_is_refused(context: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM some:image\nADD one /opt/\n")
    with pytest.raises(ValueError, match="ADD is not supported"):
        carry_out(
            tmp_path / "Dockerfile",
            context=context,
            base=tmp_path / "base",
            stages=tmp_path / "stages",
        )
