"""Every invalid command gets a response with a code and a text, and the daemon keeps running."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s3downloader.contract.paging import DOWNLOADS, page_token
from sandbox.servers import ApiServer, Broker, ObjectServer

from .conftest import Bench, make_bench

TOKEN_OF_DOWNLOADS = page_token(DOWNLOADS, "d-1").encode()
DEEP = b'{"command":' * 5_000 + b"1" + b"}" * 5_000
PAYLOADS: list[tuple[bytes, str]] = [
    (b"", "invalid_json"),
    (b"hello", "invalid_json"),
    (b"[1, 2]", "invalid_json"),
    (b'"status"', "invalid_json"),
    (b"\xff\xfe", "invalid_json"),
    (DEEP, "invalid_json"),
    (b'{"command":"download","bucket":"models","key":"a","numworkers":NaN}', "invalid_json"),
    (b'{"command":"status","x":"' + b"x" * 200_000 + b'"}', "payload_too_large"),
    (b"{}", "missing_field"),
    (b'{"command":7}', "invalid_field"),
    (b'{"command":"dowload","bucket":"models","key":"a"}', "unknown_command"),
    (b'{"command":"download","buckett":"models","key":"a"}', "unknown_field"),
    (b'{"command":"download","key":"a"}', "missing_field"),
    (b'{"command":"pause"}', "missing_field"),
    (b'{"command":"download","bucket":"models","key":5}', "invalid_field"),
    (b'{"command":"download","bucket":"models","key":"a","numworkers":-1}', "invalid_field"),
    (b'{"command":"download","bucket":"models","key":"a","numworkers":1e400}', "invalid_json"),
    (b'{"command":"download","bucket":"models","key":"a","retry_count":"10"}', "invalid_field"),
    (b'{"command":"download","bucket":"mo/dels","key":"a"}', "invalid_field"),
    (b'{"command":"download","bucket":"models","key":"a","destination":"x"}', "invalid_field"),
    (b'{"command":"model_add","model_meta":{"model_name":"x"}}', "missing_field"),
    (b'{"command":"pause","download_id":"nope"}', "download_not_found"),
    (b'{"command":"model_get","model_id":"nope"}', "model_not_found"),
    (b'{"command":"list","next_token":"%%%"}', "invalid_field"),
    (b'{"command":"model_list","next_token":"%b"}' % TOKEN_OF_DOWNLOADS, "invalid_field"),
]


async def test_bad_payloads_are_refused_and_the_daemon_stays_up(bench: Bench) -> None:
    operator = bench.operator
    for payload, code in PAYLOADS:
        operator.received.clear()
        await operator.send_bytes(payload)
        refusal = await operator.wait_for(lambda h: h.topic == "responses")
        assert refusal["success"] is False
        assert refusal["error_code"] == code, (payload[:80], refusal)
        assert len(refusal["error"]) > 20
    assert (await operator.ask("status"))["success"]


async def test_the_nearest_name_is_suggested(bench: Bench) -> None:
    refusal = await bench.operator.ask("dowload")
    assert "download" in refusal["error"]
    refusal = await bench.operator.ask("pause", download_idd="x")
    assert "download_id" in refusal["error"]


@pytest.fixture
async def odd(tmp_path: Path, broker: Broker, api_server: ApiServer) -> Any:
    """A device with a server that keeps every key unchanged."""
    async with make_bench("mqtt", tmp_path, broker, api_server, {}) as bench:
        await bench.device.start()
        await bench.up()
        yield bench


async def test_harmless_odd_keys_arrive_under_their_own_names(
    odd: Bench, api_server: ApiServer
) -> None:
    names = ["a b", "a*b", "a?b", "[x]", "é漢", "%20", "q'uo\"te", "$HOME", "back\\slash", "-rf"]
    for name in [*names, "..dots"]:
        await api_server.put(f"odd*/{name}", name.encode())
    await api_server.put("odd*/marker/", b"")
    await api_server.put("oddest/no", b"beside the prefix")
    await odd.operator.ask("download", bucket="models", key="odd*/", download_id="o")
    await odd.operator.event("download_completed", "o")
    assert {path.name for path in odd.downloads.iterdir()} == {*names, "..dots"}
    assert all((odd.downloads / name).read_bytes() == name.encode() for name in names)


@pytest.mark.parametrize(
    "keys",
    [
        ["../evil"],
        ["a/../../evil"],
        ["a//b"],
        ["/a"],
        ["./a"],
        ["f", "f/g"],
        [".s3downloader/x"],
    ],
)
async def test_unsafe_keys_are_refused_before_a_byte_moves(
    odd: Bench, api_server: ApiServer, keys: list[str], tmp_path: Path
) -> None:
    prefix = f"unsafe-{abs(hash(tuple(keys)))}/"
    await api_server.put(f"{prefix}good", b"good")
    for key in keys:
        await api_server.put(f"{prefix}{key}", b"bad")
    await odd.operator.ask("download", bucket="models", key=prefix, download_id="u")
    error = await odd.operator.event("download_error", "u")
    assert error["error_code"] == "unsafe_key", error
    assert [path for path in odd.downloads.rglob("*") if path.is_file()] == []
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"bucket": "no-such-bucket", "key": "a"}, "bucket_not_found"),
        ({"bucket": "no-such-bucket", "key": "a/"}, "bucket_not_found"),
        ({"bucket": "models", "key": "no-such-key"}, "object_not_found"),
        ({"bucket": "models", "key": "no-such-prefix/"}, "no_objects_matched"),
    ],
)
async def test_a_source_that_is_not_there_is_told(
    bench: Bench, fields: dict[str, Any], code: str
) -> None:
    await bench.operator.ask("download", download_id="x", **fields)
    error = await bench.operator.event("download_error", "x")
    assert error["error_code"] == code
    listed = (await bench.operator.ask("list"))["downloads"]
    assert [(d["status"], d["error_code"]) for d in listed] == [("failed", code)]


async def test_destinations_that_may_not_be_written_are_refused(
    bench: Bench, object_server: ObjectServer, tmp_path: Path
) -> None:
    await object_server.put("place/a", b"a")
    (bench.downloads / "out").symlink_to(tmp_path)
    (bench.downloads / "file").write_text("a file")
    (bench.downloads / "taken" / "a").mkdir(parents=True)
    for destination, code in [
        (f"{tmp_path}/elsewhere", "destination_not_allowed"),
        (f"{bench.downloads}/../elsewhere", "destination_not_allowed"),
        (f"{bench.downloads}/out/x", "destination_not_allowed"),
        ("/etc", "destination_not_allowed"),
        (f"{bench.downloads}/file", "destination_not_writable"),
        (f"{bench.downloads}/file/x", "destination_not_writable"),
    ]:
        refusal = await bench.operator.ask(
            "download", bucket="models", key="place/a", destination=destination
        )
        assert refusal["error_code"] == code, destination
    await bench.operator.ask(
        "download",
        bucket="models",
        key="place/a",
        destination=f"{bench.downloads}/taken",
        download_id="t",
    )
    error = await bench.operator.event("download_error", "t")
    assert error["error_code"] == "destination_not_writable"
    assert not (tmp_path / "elsewhere").exists()


async def test_the_same_twice_is_refused(bench: Bench, object_server: ObjectServer) -> None:
    await object_server.make("twice/a", 8 << 20)
    await object_server.put("twice/b", b"b")
    bench.link.freeze_after(2 << 20)
    operator = bench.operator
    download: dict[str, Any] = {"bucket": "models", "key": "twice/a"}
    await operator.ask("download", **download, download_id="one")
    refusal = await operator.ask("download", **download, download_id="one")
    assert refusal["error_code"] == "duplicate_download"
    refusal = await operator.ask("download", **download, download_id="two")
    assert refusal["error_code"] == "destination_busy"
    refusal = await operator.ask("download", bucket="models", key="twice/", download_id="all")
    assert refusal["error_code"] == "destination_busy"
    beside = await operator.ask("download", bucket="models", key="twice/b", download_id="b")
    assert beside["success"]
    bench.link.thaw()
    await operator.event("download_completed", "one")
    for command in ("pause", "resume", "cancel"):
        refusal = await operator.ask(command, download_id="one")
        assert refusal["error_code"] == "invalid_state"


async def test_what_does_not_fit_is_refused_before_a_byte_moves(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> None:
    await object_server.put("space/a", b"a")
    settings = {"MinFreeBytes": 1 << 60}
    async with make_bench("mqtt", tmp_path, broker, object_server, settings) as bench:
        await bench.device.start()
        await bench.up()
        await bench.operator.ask("download", bucket="models", key="space/a", download_id="s")
        error = await bench.operator.event("download_error", "s")
        assert error["error_code"] == "insufficient_space"
        assert "resume" in error["error"]


async def test_a_source_must_be_allowed(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> None:
    settings = {"AllowedSources": ["s3://models/good/*"]}
    async with make_bench("mqtt", tmp_path, broker, object_server, settings) as bench:
        await bench.device.start()
        await bench.up()
        refusal = await bench.operator.ask("download", bucket="models", key="bad/a")
        assert refusal["error_code"] == "source_not_allowed"


async def test_long_lists_are_paged_within_the_payload_limit(bench: Bench) -> None:
    operator = bench.operator
    for n in range(60):
        await operator.send(
            "download", bucket="models", key=f"missing/{'x' * 60}/{n}", download_id=f"page-{n:02}"
        )
    await operator.event("download_error", "page-59")
    ids: list[str] = []
    token: dict[str, Any] = {}
    while True:
        page = await operator.ask("list", **token)
        assert len(json.dumps(page)) < 8_000
        ids += [download["download_id"] for download in page["downloads"]]
        if "next_token" not in page:
            break
        token = {"next_token": page["next_token"]}
    assert ids == [f"page-{n:02}" for n in range(60)]
