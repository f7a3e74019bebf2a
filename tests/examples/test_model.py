"""All files of an open model are of one version, even if its path is changed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from model import File, Model


def write(directory: Path, content: str) -> dict[str, File]:
    """Write a model whose files all have this content; return what `read` must return."""
    names = ["weights/0", "weights/1", "config.json"]
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return {name: File(len(content), digest) for name in names}


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_directory_is_read_whole_and_in_order(tmp_path: Path) -> None:
    expected = write(tmp_path / "m", "one")
    (tmp_path / "m" / ".s3downloader").mkdir()
    (tmp_path / "m" / ".s3downloader" / "staged").write_text("half")
    model = Model(tmp_path / "m")
    assert model.read() == expected
    assert model.is_at_its_path()
    model.close()


def test_a_file_is_a_model_too(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"x" * 3_000_000)
    model = Model(tmp_path / "m.gguf")
    digest = hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert model.read() == model.read() == {"m.gguf": File(3_000_000, digest)}
    model.close()


def test_it_stays_the_version_that_was_opened(tmp_path: Path) -> None:
    place = tmp_path / "m"
    first = write(place, "one")
    write(tmp_path / "new", "two")
    model = Model(place)
    place.rename(tmp_path / "old")
    assert not model.is_at_its_path()
    (tmp_path / "new").rename(place)
    assert not model.is_at_its_path()
    assert model.read() == first
    model.close()


def test_what_is_removed_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "m", "one")
    model = Model(tmp_path / "m")
    shutil.rmtree(tmp_path / "m" / "weights")
    (tmp_path / "m" / "weights").symlink_to(tmp_path)
    (tmp_path / "m" / "dangling").symlink_to("nowhere")
    with pytest.raises(OSError, match="dangling"):
        model.read()
    model.close()


def test_what_is_not_there_cannot_be_opened(tmp_path: Path) -> None:
    before = open_files()
    with pytest.raises(FileNotFoundError):
        Model(tmp_path / "m")
    assert open_files() == before
