"""A download cannot write outside the allowed destinations."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.objects import SourceRef
from s3downloader.downloads.planning import path_safety


@pytest.mark.parametrize(
    "path",
    [
        "../evil",
        "a/../../evil",
        "a//b",
        "/a",
        "a/",
        "./a",
        "a/./b",
        "a\nb",
        "a\x00b",
        "a\x7f",
        ".s3downloader/x",
        "a/.s3downloader",
        "x" * 256,
        "é" * 128,
        "a/" * 2_100 + "b",
    ],
)
def test_an_unsafe_path_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(DownloaderError) as caught:
        path_safety.check_path(tmp_path, path, f"prefix/{path}")
    assert caught.value.code is ErrorCode.UNSAFE_KEY


@pytest.mark.parametrize(
    "path", ["a", "a/b", "a b", "a*b?[c]", "é漢", "..a", "a..", "...", "-rf", "%2e%2e/x", "a\\b"]
)
def test_a_harmless_path_is_taken(tmp_path: Path, path: str) -> None:
    path_safety.check_path(tmp_path, path, path)


def test_a_destination_with_symlinks_resolved_lies_under_a_root(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "way-out").symlink_to(outside)
    (root / "way-in").symlink_to(root / "inside")
    assert path_safety.resolve_destination(f"{root}/a/../b", [root]) == root / "b"
    assert path_safety.resolve_destination(f"{root}/way-in/x", [root]) == root / "inside" / "x"
    for bad in (f"{outside}", f"{root}/../outside", f"{root}/way-out/x", f"{root}-more", "/"):
        with pytest.raises(DownloaderError) as caught:
            path_safety.resolve_destination(bad, [root])
        assert caught.value.code is ErrorCode.DESTINATION_NOT_ALLOWED


def test_a_destination_must_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for bad in ("file", "file/below"):
        with pytest.raises(DownloaderError, match="is a file") as caught:
            path_safety.resolve_destination(str(tmp_path / bad), [tmp_path])
        assert caught.value.code is ErrorCode.DESTINATION_NOT_WRITABLE


def test_the_staging_folder_is_the_downloaders_own(tmp_path: Path) -> None:
    with pytest.raises(DownloaderError) as caught:
        path_safety.resolve_destination(f"{tmp_path}/.s3downloader/x", [tmp_path])
    assert caught.value.code is ErrorCode.DESTINATION_NOT_ALLOWED


@pytest.mark.parametrize("download_id", ["..", ".", "a/b", "é" * 64])
def test_files_gather_beside_the_destination_whatever_the_id(
    tmp_path: Path, download_id: str
) -> None:
    root = tmp_path / "root"
    staging = path_safety.staging_folder(root / "a" / "b", [root], download_id)
    assert staging.parent == root / ".s3downloader"
    (root / "a" / "b").mkdir(parents=True)
    staging = path_safety.staging_folder(root / "a" / "b", [root], download_id)
    assert staging.parent == root / "a" / "b" / ".s3downloader"


def test_a_symlink_below_the_destination_leads_nowhere(tmp_path: Path) -> None:
    destination = tmp_path / "destination"
    destination.mkdir()
    (destination / "sub").symlink_to(tmp_path)
    for check in (
        lambda: path_safety.target(destination, "sub/file"),
        lambda: path_safety.TargetCheck(destination)(["sub/file"]),
    ):
        with pytest.raises(DownloaderError) as caught:
            check()
        assert caught.value.code is ErrorCode.UNSAFE_KEY


def test_what_stands_in_the_way_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("")
    check = path_safety.TargetCheck(tmp_path)
    check(["file", "new/file"])
    with pytest.raises(DownloaderError, match="is a directory where a file belongs"):
        check(["directory"])
    with pytest.raises(DownloaderError, match="is a file where a directory must be"):
        check(["file/below"])


@pytest.mark.parametrize(
    ("source", "allowed", "ok"),
    [
        ("models/a", ["s3://*"], True),
        ("models/a", ["s3://models/*"], True),
        ("models/a", ["s3://other/*", "s3://models/a"], True),
        ("models-2/a", ["s3://models/*"], False),
        ("Models/a", ["s3://models/*"], False),
    ],
)
def test_sources_are_matched_by_patterns(source: str, allowed: list[str], ok: bool) -> None:
    bucket, _, key = source.partition("/")
    ref = SourceRef("s3", bucket, key)
    if ok:
        path_safety.check_source(ref, allowed)
        return
    with pytest.raises(DownloaderError) as caught:
        path_safety.check_source(ref, allowed)
    assert caught.value.code is ErrorCode.SOURCE_NOT_ALLOWED


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/d", "/d", True),
        ("/d", "/d/a", True),
        ("/d/a", "/d", True),
        ("/d/a", "/d/ab", False),
        ("/", "/d", True),
    ],
)
def test_places_overlap_when_one_lies_in_the_other(one: str, other: str, expected: bool) -> None:
    assert path_safety.overlap(one, other) is expected
