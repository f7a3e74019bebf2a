from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3downloader.contract import encode
from s3downloader.contract.paging import (
    DOWNLOADS,
    LIMITS,
    MODELS,
    files_of,
    item_after,
    objects_of,
    page_token,
)
from s3downloader.contract.responses import (
    EVENTS,
    RESPONSES,
    STATUS,
    DetailsResponse,
    DetailsView,
    DiskUsage,
    DownloadError,
    DownloadsResponse,
    DownloadView,
    FileView,
    Message,
    ModelResponse,
    ModelsResponse,
    ObjectsResponse,
    ObjectView,
    Refusal,
    Status,
    refusal,
)
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import Options, State

from .messages import OBJECTS, QUICK, anything


@pytest.mark.parametrize("kind", [*RESPONSES, *EVENTS, *STATUS])
@pytest.mark.parametrize("max_bytes", [2_000, 7_000])
def test_no_message_is_too_large(kind: type[Message], max_bytes: int) -> None:
    @QUICK
    @given(anything(kind))
    def check(message: Message) -> None:
        data = encode(message, max_bytes)
        assert len(data) <= max_bytes
        decoded = msgspec.json.decode(data)
        for name in ("command_id", "download_id", "success", "event"):
            assert decoded.get(name) == msgspec.to_builtins(message).get(name)

    check()


def download(number: int, **fields: Any) -> DownloadView:
    view = DownloadView(
        download_id=f"d-{number}",
        bucket="my-data-bucket",
        key="vlm-7B/",
        status=State.DOWNLOADING,
        progress=12.5,
        destination="/data/vlm-7B",
        bytes_done=1,
        bytes_total=8,
        files_done=0,
        files_total=1,
        bytes_per_second=0,
        eta_seconds=None,
    )
    return msgspec.structs.replace(view, **fields)


def test_what_fits_is_left_as_it_is() -> None:
    message = DownloadsResponse(
        command_id="c", command="list", message="1 download", downloads=[download(1)]
    )
    assert encode(message, 7_000) == msgspec.json.encode(message)


def test_what_does_not_apply_is_left_out() -> None:
    error = DownloadError(
        download_id="d",
        command_id="c",
        timestamp=1.5,
        error_code=ErrorCode.DISK_FULL,
        error="the disk is full",
    )
    assert msgspec.json.decode(encode(error, 7_000)) == {
        "event": "download_error",
        "download_id": "d",
        "command_id": "c",
        "success": False,
        "status": "failed",
        "timestamp": 1.5,
        "error_code": "disk_full",
        "error": "the disk is full",
    }


@QUICK
@given(st.lists(OBJECTS, unique_by=lambda item: item.key, min_size=1, max_size=100))
def test_the_pages_of_a_list_hold_every_item_once(objects: list[ObjectView]) -> None:
    keys = [item.key for item in objects]
    seen = 0
    while seen < len(keys):
        message = ObjectsResponse(
            command_id="c",
            command="list",
            message="objects",
            bucket="my-data-bucket",
            key="",
            objects=objects[seen:],
        )
        page = msgspec.json.decode(encode(message, 2_000))
        assert page["objects"]
        seen += len(page["objects"])
        if seen < len(keys):
            listing = objects_of("my-data-bucket", "")
            assert item_after(listing, page["next_token"], str) == keys[seen - 1]
    assert "next_token" not in page


def test_the_worst_page_keeps_its_ids_its_token_and_an_item() -> None:
    key = "\x01" * 1_024
    listed = ObjectView(key=key, size=2**63 - 1, etag="e" * 1_000)
    message = ObjectsResponse(
        command_id='"' * 128,
        command="list",
        message="\x01" * 1_000,
        bucket="b" * 255,
        key=key,
        objects=[listed, listed],
    )
    page = msgspec.json.decode(encode(message, 2_000))
    assert page["command_id"] == message.command_id
    assert item_after(objects_of(message.bucket, key), page["next_token"], str) == key
    assert [item["size"] for item in page["objects"]] == [listed.size]
    assert page["truncated"] is True


def test_a_model_of_many_fields_stays_in_its_page() -> None:
    model = {"model_id": "m", "parts": {f"part-{n}": [f"{n}"] for n in range(2_000)}}
    message = ModelsResponse(command_id="c", command="model_list", message="", models=[model])
    (shown,) = msgspec.json.decode(encode(message, 2_000))["models"]
    assert shown["model_id"] == "m"
    assert shown["parts"]


def test_an_item_that_cannot_be_shortened_leaves_its_place() -> None:
    model = {"number": 10**4_000, "model_id": "m"}
    message = ModelsResponse(
        command_id="c", command="model_list", message="", models=[model, model]
    )
    page = msgspec.json.decode(encode(message, 2_000))
    assert page["models"] == [{}]
    assert item_after(MODELS, page["next_token"], str) == "m"


def test_a_page_is_filled() -> None:
    downloads = [download(number) for number in range(1_000)]
    message = DownloadsResponse(
        command_id="c", command="list", message="1000 downloads", downloads=downloads
    )
    data = encode(message, 7_000)
    page = msgspec.json.decode(data)
    assert len(data) > 7_000 - 2 * len(msgspec.json.encode(downloads[0]))
    last = page["downloads"][-1]["download_id"]
    assert item_after(DOWNLOADS, page["next_token"], str) == last
    assert "truncated" not in page


def test_the_token_of_a_list_that_goes_on_elsewhere_is_kept() -> None:
    token = page_token(MODELS, "m")
    message = ModelsResponse(
        command_id="c", command="model_list", message="", models=[], next_token=token
    )
    assert msgspec.json.decode(encode(message, 7_000))["next_token"] == token


def details(files: list[FileView], **fields: Any) -> DetailsResponse:
    view = DetailsView(
        **msgspec.structs.asdict(download(1)),
        created_at=1.0,
        updated_at=2.0,
        seconds=1.0,
        options=Options(),
        **fields,
    )
    return DetailsResponse(
        command_id="c",
        command="details",
        message="",
        download_id="d-1",
        status=State.DOWNLOADING,
        details=view,
        files=files,
    )


def test_the_files_of_a_download_are_paged_by_their_numbers() -> None:
    files = [
        FileView(number=number, path="p", key="k" * 900, size=1, etag="e", done=False)
        for number in range(100, 120)
    ]
    page = msgspec.json.decode(encode(details(files), 7_000))
    assert [file["number"] for file in page["files"]] == list(range(100, 106))
    assert item_after(files_of("d-1"), page["next_token"], int) == 105


def test_large_model_meta_is_shortened_in_details() -> None:
    message = details([], model_meta={"model_id": "m", "notes": "x" * 10_000})
    shown = msgspec.json.decode(encode(message, 7_000))
    assert shown["truncated"] is True
    assert shown["details"]["model_meta"]["model_id"] == "m"
    assert len(shown["details"]["model_meta"]["notes"]) > 5_000


def status(downloads: list[DownloadView]) -> Status:
    return Status(
        device_id="thing",
        timestamp=1.0,
        active_downloads=len(downloads),
        downloads=downloads,
        disk_space=DiskUsage(path="/data", total=10, used=5, free=5, percent_used=50.0),
    )


def test_a_long_status_is_cut() -> None:
    shown = msgspec.json.decode(encode(status([download(n) for n in range(100)]), 7_000))
    assert shown["truncated"] is True
    assert shown["active_downloads"] == 100
    assert 10 < len(shown["downloads"]) < 100
    assert shown["downloads"][0] == msgspec.to_builtins(download(0))


def test_a_long_error_keeps_its_end() -> None:
    text = "attempt 1 failed\n" * 1_000 + "no space left on device"
    failed = download(1, status=State.FAILED, error_code=ErrorCode.DISK_FULL, error=text)
    shown = msgspec.json.decode(encode(status([failed]), 7_000))["downloads"][0]
    assert shown["error"].startswith("…")
    assert shown["error"].endswith("no space left on device")
    assert shown["download_id"] == "d-1"
    assert shown["error_code"] == "disk_full"


def test_a_large_model_is_shortened() -> None:
    model = {"model_id": "m", "local_path": "/data/m", "tags": [f"tag-{n}" for n in range(5_000)]}
    message = ModelResponse(
        command_id="c", command="model_get", message="", model_id="m", model=model
    )
    shown = msgspec.json.decode(encode(message, 7_000))
    assert shown["truncated"] is True
    assert shown["model"]["local_path"] == "/data/m"
    assert len(shown["model"]["tags"]) > 500


def test_a_refusal_says_what_it_answers() -> None:
    error = DownloaderError(ErrorCode.DISK_FULL, "the disk is full", path=Path("/data"))
    assert msgspec.json.decode(encode(refusal(error, "c", "download"), 7_000)) == {
        "command_id": "c",
        "command": "download",
        "success": False,
        "error_code": "disk_full",
        "error": "the disk is full",
        "error_details": {"path": "/data"},
    }


def test_a_refusal_of_what_cannot_be_read() -> None:
    message = refusal(DownloaderError(ErrorCode.INVALID_JSON, "no JSON"), None, None)
    assert isinstance(message, Refusal)
    assert "command" not in msgspec.json.decode(encode(message, 7_000))


@pytest.mark.parametrize("item", ["d-1", "", "é\0/", 0, 2**40])
def test_a_token_leads_back_to_its_item(item: str | int) -> None:
    assert item_after(DOWNLOADS, page_token(DOWNLOADS, item), type(item)) == item


def test_the_token_of_the_longest_key_is_accepted() -> None:
    assert len(page_token(objects_of("b" * 255, "é" * 512), "é" * 512)) <= 1_400


def refused(listing: str, token: str, kind: type[str] | type[int]) -> None:
    with pytest.raises(DownloaderError, match="leave it out") as caught:
        item_after(listing, token, kind)
    assert caught.value.code is ErrorCode.INVALID_FIELD


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        ("no token", str),
        ("é", str),
        ("A", str),
        (page_token(DOWNLOADS, "d-1"), int),
        (page_token(DOWNLOADS, 7), str),
        (base64.urlsafe_b64encode(msgspec.msgpack.encode("d-1")).decode(), str),
        (base64.urlsafe_b64encode(msgspec.msgpack.encode((b"", "d-1"))).decode(), str),
    ],
    ids=["text", "accent", "letter", "text for number", "number for text", "earlier", "no list"],
)
def test_what_is_no_token(token: str, kind: type[str] | type[int]) -> None:
    refused(DOWNLOADS, token, kind)


LISTS = [
    *(DOWNLOADS, LIMITS, MODELS),
    *(files_of("d-1"), files_of("d-2")),
    *(objects_of("models", "a/"), objects_of("models", "b/"), objects_of("others", "a/")),
]


@pytest.mark.parametrize("other", LISTS)
@pytest.mark.parametrize("listing", LISTS)
def test_token_of_another_list_is_refused(listing: str, other: str) -> None:
    token = page_token(other, "d-1")
    if listing == other:
        assert item_after(listing, token, str) == "d-1"
    else:
        refused(listing, token, str)
