"""Publishing by an exchange survives the end of the process at every step, and is atomic."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import Download, State
from s3downloader.downloads.publishing import exchange, replace
from s3downloader.downloads.publishing.publish import discard, prepare

from .support import a_download, tree, write

OLD = {"a": "old", "only/old": "old"}
NEW = {"a": "new", "only/new": "new"}


def begun(root: Path, before: dict[str, str] | None, key: str = "v2/") -> Download:
    """Return a download whose exchange is recorded."""
    if before is not None:
        write(root / "m", before)
    download = a_download(root, key, publish="replace")
    prepare(download)
    write(Path(download.staging, "files"), NEW if download.is_tree else {"a": "new"})
    return msgspec.structs.replace(download, exchange=replace.begin(download))


class ProcessDeath(BaseException):
    """Stands in for the end of the process."""


class DieBefore:
    """Ends the process before step `at` of the operations that change or sync a directory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self._left = at
        for owner, name in [
            (replace, "exchange"),
            (replace, "rename_new"),
            (replace, "sync"),
            (Path, "rename"),
            (Path, "mkdir"),
        ]:
            monkeypatch.setattr(owner, name, self._step(getattr(owner, name)))

    def _step(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            if self._left == 0:
                raise ProcessDeath
            self._left -= 1
            return real(*arguments, **named)

        return step


def dies(monkeypatch: pytest.MonkeyPatch, at: int, work: Callable[[], object]) -> bool:
    """Run `work` in a process that ends before step `at`; return whether that was reached."""
    with monkeypatch.context() as patch:
        DieBefore(patch, at)
        try:
            work()
        except ProcessDeath:
            return True
    return False


@pytest.mark.parametrize("key", ["v2/", "v2/a"])
@pytest.mark.parametrize("before", [OLD, None], ids=["over another", "new"])
def test_an_exchange_is_carried_on_from_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: dict[str, str] | None, key: str
) -> None:
    whole = NEW if key == "v2/" else {**(before or {}), "a": "new"}
    step, went_on = 0, True
    while went_on:
        root = tmp_path / str(step)
        root.mkdir()
        download = begun(root, before, key)
        went_on = dies(monkeypatch, step, partial(replace.exchange_target, download))
        step += 1
        seen = {p: c for p, c in tree(root / "m").items() if ".s3downloader" not in p}
        assert seen in ((before or {}), whole)
        replace.exchange_target(download)
        assert {p: c for p, c in tree(root / "m").items() if ".s3downloader" not in p} == whole
        assert replace.is_exchanged(download)
        kept = replace.retained_path(download)
        assert os.path.lexists(kept) is (before is not None)
        discard(download)
        assert os.path.lexists(kept) is (before is not None)
    assert step > 4


def test_an_old_file_linked_to_the_new_one_becomes_a_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, went_on = 0, True
    while went_on:
        root = tmp_path / str(step)
        write(root / "m", {"a": "same"})
        download = a_download(root, "v2/a", publish="replace")
        prepare(download)
        Path(download.staging, "files").mkdir()
        os.link(root / "m" / "a", Path(download.staging, "files", "a"))
        download = msgspec.structs.replace(download, exchange=replace.begin(download))
        assert not replace.is_exchanged(download)
        went_on = dies(monkeypatch, step, partial(replace.exchange_target, download))
        step += 1
        replace.exchange_target(download)
        assert replace.is_exchanged(download)
        assert (root / "m" / "a").samefile(replace.retained_path(download))
    assert step > 4


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_a_publishing_that_failed_is_undone_from_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    step, went_on = 0, True
    while went_on:
        root = tmp_path / str(step)
        root.mkdir()
        download = begun(root, OLD)
        went_on = dies(monkeypatch, step, partial(replace.exchange_target, download))
        step += 1
        discard(msgspec.structs.replace(download, state=state))
        assert tree(root) == {f"m/{path}": content for path, content in OLD.items()}
        assert not (root / ".s3downloader").exists()


def test_what_did_not_come_into_its_place_goes_back_to_staging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = begun(tmp_path, OLD)

    def refuse(one: Path, other: Path) -> None:
        raise PermissionError(1, "not permitted", str(one))

    with monkeypatch.context() as patch:
        patch.setattr(replace, "exchange", refuse)
        with pytest.raises(PermissionError):
            replace.exchange_target(download)
    assert not Path(download.staging, "files").exists()
    prepare(download)
    assert tree(Path(download.staging, "files")) == NEW
    assert tree(tmp_path / "m") == OLD


def test_a_new_directory_takes_the_mode_of_the_one_it_replaces(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir(mode=0o750)
    replace.exchange_target(begun(tmp_path, OLD))
    assert (tmp_path / "m").stat().st_mode & 0o7777 == 0o750


def test_a_directory_that_is_left_empty_is_not_published(tmp_path: Path) -> None:
    files = Path(a_download(tmp_path).staging, "files")
    (files / "left" / "empty").mkdir(parents=True)
    replace.exchange_target(begun(tmp_path, OLD))
    assert not (tmp_path / "m" / "left").exists()


def test_the_downloaders_folder_in_a_place_stays_there(tmp_path: Path) -> None:
    download = begun(tmp_path, {**OLD, ".s3downloader/another/files/x": "on its way"})
    replace.exchange_target(download)
    assert tree(tmp_path / "m") == {**NEW, ".s3downloader/another/files/x": "on its way"}
    kept = replace.retained_path(download)
    number = replace.inode(kept)
    assert number is not None
    for _ in range(2):
        replace.exchange_retained(tmp_path / "m", kept, number)
        assert tree(tmp_path / "m") == {**OLD, ".s3downloader/another/files/x": "on its way"}
        assert tree(kept) == NEW


def test_what_is_in_the_way_of_an_exchange_is_named(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("a file")
    with pytest.raises(DownloaderError, match="is not a directory") as caught:
        begun(tmp_path, None)
    assert caught.value.code is ErrorCode.DESTINATION_NOT_WRITABLE
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "m" / "a").mkdir(parents=True)
    with pytest.raises(DownloaderError, match="is a directory"):
        begun(tmp_path / "n", None, "v2/a")


def test_a_place_that_must_stay_is_not_replaced(tmp_path: Path) -> None:
    for own in (tmp_path / "m", tmp_path / "m" / "state"):
        with pytest.raises(DownloaderError, match=str(own)) as caught:
            replace.check_replaceable(tmp_path / "m", [own])
        assert caught.value.code is ErrorCode.DESTINATION_NOT_ALLOWED
    replace.check_replaceable(tmp_path / "m", [tmp_path])
    with pytest.raises(DownloaderError, match="something is mounted at /proc"):
        replace.check_replaceable(Path("/proc"), [])


def test_two_names_change_places(tmp_path: Path) -> None:
    write(tmp_path, {"a/x": "a", "b": "b"})
    exchange.exchange(tmp_path / "a", tmp_path / "b")
    assert tree(tmp_path) == {"b/x": "a", "a": "b"}
    with pytest.raises(FileNotFoundError):
        exchange.exchange(tmp_path / "a", tmp_path / "c")
    with pytest.raises(FileExistsError):
        exchange.rename_new(tmp_path / "a", tmp_path / "b")
    exchange.rename_new(tmp_path / "a", tmp_path / "c")
    assert tree(tmp_path) == {"b/x": "a", "c": "b"}


def test_a_file_system_without_exchange_fails_before_fetching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange.check_supported(tmp_path)
    monkeypatch.setattr(exchange, "_libc", object())
    with pytest.raises(DownloaderError, match="cannot exchange two names") as caught:
        prepare(a_download(tmp_path, publish="replace"))
    assert caught.value.code is ErrorCode.DESTINATION_NOT_WRITABLE
    assert list(Path(a_download(tmp_path).staging).iterdir()) == []
