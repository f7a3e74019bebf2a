"""SHA256SUMS in the formats that programs and people write."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.downloads.planning.checksum_manifest import (
    ChecksumManifest,
    is_manifest,
    parse_manifest,
)

A, B, C = (hashlib.sha256(name.encode()).hexdigest() for name in "abc")


def parsed(text: str | bytes) -> dict[str, str]:
    raw = text.encode() if isinstance(text, str) else text
    return {path: sha256.hex() for path, sha256 in parse_manifest(raw, "SHA256SUMS")}


@pytest.mark.parametrize(
    ("text", "sums"),
    [
        ("", {}),
        (f"{A}  model.bin\n", {"model.bin": A}),
        (f"{A}  model.bin", {"model.bin": A}),
        (f"{A} *model.bin\n{B}  config.json\n", {"model.bin": A, "config.json": B}),
        (f"{A}  ./deep/er/model.bin\n", {"deep/er/model.bin": A}),
        (f"{A}  deep//model.bin\n", {"deep/model.bin": A}),
        (f"{A.upper()}  model.bin\n", {"model.bin": A}),
        (f"# made by hand\n\n{A}  a\n   \n", {"a": A}),
        (f"{A}  a\r\n{B}  b\r\n", {"a": A, "b": B}),
        (f"\ufeff{A}  a\n", {"a": A}),
        (f"{A}   two spaces and *\n", {" two spaces and *": A}),
        (f"{A}  日本語\n", {"日本語": A}),
        (f"\\{A}  line\\nbreak \\\\ \\r\n", {"line\nbreak \\ \r": A}),
        (f"{A}  not\\nescaped\n", {"not\\nescaped": A}),
        (f"{A}  ../outside\n{B}  /root\n{C}  in/../side\n", {"side": C}),
        (f"{A}  same\n{B}  same\n", {"same": B}),
        (
            f"SHA256 (deep/model (1).bin) = {A}\r\nSHA256(b)= {B.upper()}\n",
            {"deep/model (1).bin": A, "b": B},
        ),
        (f"\\SHA256 (line\\nbreak) = {A}\n", {"line\nbreak": A}),
    ],
)
def test_lines_are_understood(text: str, sums: dict[str, str]) -> None:
    assert parsed(text) == sums


@pytest.mark.parametrize("mode", ["--text", "--binary", "--tag"])
def test_what_sha256sum_writes(tmp_path: Path, mode: str) -> None:
    names = ["plain", "with space", "*star", "line\nbreak", "back\\slash", "ünï", " lead"]
    for name in names:
        (tmp_path / name).write_text(name)
    written = subprocess.run(
        ["sha256sum", mode, "--", *names], cwd=tmp_path, capture_output=True, check=True
    )
    assert parsed(written.stdout) == {
        name: hashlib.sha256(name.encode()).hexdigest() for name in names
    }


@pytest.mark.parametrize(
    "line",
    [
        b"<html>",
        A.encode(),
        A[:-1].encode() + b"  short",
        A.encode() + b" onespace",
        A.encode() + b"  ",
        b"d41d8cd98f00b204e9800998ecf8427e  md5",
        b"MD5 (a) = d41d8cd98f00b204e9800998ecf8427e",
        b"SHA256 () = " + A.encode(),
        A.encode() + b"  \xff\xfe",
    ],
)
def test_a_bad_line_is_named(line: bytes) -> None:
    with pytest.raises(DownloaderError, match=r"line 2 of deep/SHA256SUMS .*; write") as caught:
        list(parse_manifest(f"{A}  a\n".encode() + line + b"\n", "deep/SHA256SUMS"))
    assert caught.value.code is ErrorCode.INVALID_CHECKSUMS
    assert caught.value.details == {"line": 2}


def test_only_the_name_counts() -> None:
    assert is_manifest("SHA256SUMS")
    assert is_manifest("deep/er/SHA256SUMS")
    assert not is_manifest("SHA256SUMS.asc")
    assert not is_manifest("MYSHA256SUMS")
    assert not is_manifest("sha256sums")


def test_the_command_goes_before_the_objects() -> None:
    sums = ChecksumManifest({"a": A.upper()})
    sums.add("SHA256SUMS", f"{B}  a\n{B}  b\n{B}  deep/c\n".encode())
    sums.add("deep/SHA256SUMS", f"{C}  c\n".encode())
    assert [sums.of(path) for path in ("a", "b", "deep/c", "d")] == [A, B, C, ""]
    sums.check_given()


@pytest.mark.parametrize(
    "line",
    [
        f"{C}  SHA256SUMS",
        f"{C}  ./SHA256SUMS",
        f"{C} *SHA256SUMS",
        f"{C} *./SHA256SUMS\r",
        f"{C}  .//SHA256SUMS",
        f"{C}  deep/../SHA256SUMS",
        f"{C.upper()}  SHA256SUMS",
        f"\\{C}  ./SHA256SUMS",
        f"SHA256 (SHA256SUMS) = {C}",
        f"{C}  /data/SHA256SUMS",
        f"{C}  ../SHA256SUMS",
    ],
)
@pytest.mark.parametrize("folder", ["", "deep/er/"])
def test_what_a_list_says_of_itself_is_left_out(line: str, folder: str) -> None:
    sums = ChecksumManifest({})
    sums.add(f"{folder}SHA256SUMS", f"{A}  a\n{line}\n{B}  b\n".encode())
    paths = [f"{folder}{name}" for name in ("a", "SHA256SUMS", "b")]
    assert [sums.of(path) for path in paths] == [A, "", B]


def test_a_list_may_tell_of_one_below_which_cannot_tell_of_it() -> None:
    sums = ChecksumManifest({})
    sums.add("SHA256SUMS", f"{A}  deep/SHA256SUMS\n".encode())
    sums.add("deep/SHA256SUMS", f"{B}  ../SHA256SUMS\n{C}  SHA256SUMS\n".encode())
    assert [sums.of("deep/SHA256SUMS"), sums.of("SHA256SUMS")] == [A, ""]


def test_the_command_tells_what_a_list_must_be() -> None:
    sums = ChecksumManifest({"SHA256SUMS": A})
    sums.add("SHA256SUMS", f"{C}  SHA256SUMS\n".encode())
    assert sums.of("SHA256SUMS") == A


def test_a_file_of_the_command_must_be_there() -> None:
    sums = ChecksumManifest({"a": A, "model.bni": B})
    sums.of("a")
    sums.of("model.bin")
    with pytest.raises(DownloaderError, match=r"names 'model\.bni'") as caught:
        sums.check_given()
    assert caught.value.code is ErrorCode.INVALID_FIELD
    assert caught.value.details == {"field": "sha256", "given": ["model.bni"]}
