from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3downloader.contract import decode_command, peek
from s3downloader.contract.commands import COMMANDS, Command, Download, name_of, only_reads
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import Options

from .examples import EXAMPLES
from .messages import QUICK


def decode(payload: bytes | dict[str, Any]) -> Command:
    if isinstance(payload, dict):
        payload = msgspec.json.encode(payload)
    return decode_command(payload, max_bytes=131_072)


def refused(payload: bytes | dict[str, Any]) -> DownloaderError:
    with pytest.raises(DownloaderError) as caught:
        decode(payload)
    return caught.value


def given_fields(command: Command, payload: bytes) -> dict[str, Any]:
    """Return the fields of a command without generated IDs."""
    fields = msgspec.structs.asdict(command)
    for name, camel in (("command_id", "commandId"), ("download_id", "downloadId")):
        if name.encode() not in payload and camel.encode() not in payload:
            fields.pop(name, None)
    return fields


@pytest.mark.parametrize(("payload", "command"), EXAMPLES)
def test_examples(payload: bytes, command: Command) -> None:
    decoded = decode(payload)
    assert type(decoded) is type(command)
    assert given_fields(decoded, payload) == given_fields(command, payload)


def test_every_command_has_an_example() -> None:
    assert {type(command) for _, command in EXAMPLES} == set(COMMANDS)


def test_ids_are_generated() -> None:
    first, second = (decode({"command": "download", "bucket": "abc", "key": "k"}) for _ in "12")
    assert isinstance(first, Download)
    assert isinstance(second, Download)
    ids = {first.command_id, first.download_id, second.command_id, second.download_id}
    assert len(ids) == 4


def test_the_defaults_are_those_of_the_records() -> None:
    assert Download(bucket="abc", key="k").options == Options()


def test_options_of_a_download() -> None:
    assert Download(bucket="abc", key="k", retry_count=0).options == Options(retry_count=0)


def test_the_name_of_a_command() -> None:
    assert decode(b'{"command":"disk-space"}').command == "disk_space"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "truncated"),
        (b"not json", "malformed"),
        (b'{"command":"status"} {}', "trailing characters"),
        (b'{"command":"status","n":NaN}', "malformed"),
        (b'{"command":"status","n":1e400}', "out of range"),
        (b'{"command":"status","n":' + b"9" * 5_000 + b"}", "out of range"),
        (b'{"command":"\xff"}', "UTF-8"),
        (b'{"command":"\\ud800 is half a pair"}', "surrogate"),
        (b"null", "not null"),
        (b'[{"command":"status"}]', "not a list"),
        (b'"status"', 'not "status"'),
        (b"[" * 100_000, "nested"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "nested"),
    ],
)
def test_what_is_no_json_object(payload: bytes, reason: str) -> None:
    error = refused(payload)
    assert error.code is ErrorCode.INVALID_JSON
    assert reason in error.message
    assert "send one JSON object" in error.message


def test_too_large() -> None:
    payload = b'{"command":"status"}'
    assert decode_command(payload, max_bytes=len(payload)).command == "status"
    with pytest.raises(DownloaderError, match="at most 19") as caught:
        decode_command(payload, max_bytes=19)
    assert caught.value.code is ErrorCode.PAYLOAD_TOO_LARGE


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("puase", "pause"), ("PAUSE", "pause"), ("downloads", "download"), ("modelLst", "modelList")],
)
def test_an_unknown_command_is_answered_with_the_nearest(name: str, suggestion: str) -> None:
    error = refused({"command": name})
    assert error.code is ErrorCode.UNKNOWN_COMMAND
    assert error.details["suggestion"] == suggestion
    assert error.details["allowed"] == [name_of(kind) for kind in COMMANDS]
    assert f"did you mean {suggestion}?" in error.message


def test_a_command_like_no_other_gets_no_suggestion() -> None:
    error = refused({"command": "x" * 100_000})
    assert error.code is ErrorCode.UNKNOWN_COMMAND
    assert "suggestion" not in error.details
    assert len(error.message) < 400


@pytest.mark.parametrize(
    ("field", "suggestion"),
    [("downlodId", "downloadId"), ("download-id", "download_id")],
)
def test_an_unknown_field_is_answered_with_the_nearest(field: str, suggestion: str) -> None:
    error = refused({"command": "pause", field: "d-1"})
    assert error.code is ErrorCode.UNKNOWN_FIELD
    assert error.details["suggestion"] == suggestion
    assert error.details["allowed"] == ["command_id", "download_id"]


def test_a_missing_command() -> None:
    error = refused({"download_id": "d-1"})
    assert error.code is ErrorCode.MISSING_FIELD
    assert error.details["fields"] == ["command"]


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_missing_field_is_named_with_an_example_that_works(kind: type[Command]) -> None:
    required = [field.name for field in msgspec.structs.fields(kind) if field.required]
    if not required:
        assert decode({"command": name_of(kind)})
        return
    error = refused({"command": name_of(kind)})
    assert error.code is ErrorCode.MISSING_FIELD
    assert error.details["fields"] == required
    assert all(name in error.message for name in required)
    assert type(decode(error.details["example"])) is kind


@pytest.mark.parametrize("limit", [None, 0, 1])
def test_a_limit_goes_with_an_engine_that_heeds_it(limit: int | None) -> None:
    fields = {"command": "download", "bucket": "abc", "key": "k", "max_bandwidth": limit}
    assert decode({**fields, "engine": "ranged"})
    if not limit:
        assert decode({**fields, "engine": "s5cmd"})
        return
    error = refused({**fields, "engine": "s5cmd"})
    assert (error.code, error.details["field"]) == (ErrorCode.INVALID_FIELD, "max_bandwidth")


def test_a_list_of_objects_needs_the_bucket() -> None:
    error = refused({"command": "list", "list_type": "s3"})
    assert error.code is ErrorCode.MISSING_FIELD
    assert error.details["fields"] == ["bucket"]


def test_a_bucket_asks_for_a_list_of_objects() -> None:
    error = refused({"command": "list", "bucket": "my-data-bucket"})
    assert error.code is ErrorCode.INVALID_FIELD
    assert '"list_type":"s3"' in error.message


def test_model_add_needs_a_model_id() -> None:
    error = refused({"command": "model_add", "model_meta": {"model_name": "x"}})
    assert error.code is ErrorCode.MISSING_FIELD
    assert error.details["fields"] == ["model_meta.model_id"]


_DOWNLOAD = {"command": "download", "bucket": "my-data-bucket", "key": "k"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("numworkers", 0),
        ("numworkers", 1025),
        ("numworkers", -1),
        ("numworkers", 10**30),
        ("numworkers", 1.5),
        ("numworkers", "256"),
        ("numworkers", True),
        ("numworkers", None),
        ("concurrency", 257),
        ("retry_count", 101),
        ("retry_count", -1),
        ("s3_transfer_acceleration", "true"),
        ("s3_transfer_acceleration", 1),
        ("bucket", "s3://my-data-bucket"),
        ("bucket", "ab"),
        ("bucket", "my-data-bucket\n"),
        ("bucket", "my-data-bucket/"),
        ("key", "k" * 1025),
        ("key", "é" * 513),
        ("key", "a\0b"),
        ("destination", "relative/path"),
        ("destination", ""),
        ("destination", "/tmp/a\n"),
        ("destination", "/" + "é" * 2048),
        ("command_id", ""),
        ("command_id", 7),
        ("command_id", "é" * 65),
        ("download_id", "a/b"),
        ("download_id", "a\n"),
        ("download_id", "a\x7f"),
        ("download_id", None),
        ("model_meta", []),
        ("model_meta", "vlm-7B"),
    ],
)
def test_a_value_out_of_bounds(field: str, value: Any) -> None:
    error = refused({**_DOWNLOAD, field: value})
    assert error.code is ErrorCode.INVALID_FIELD
    assert error.details["field"] == field
    assert error.details["allowed"] in error.message
    assert error.details["given"] in error.message
    assert error.message.startswith(f"{field} cannot be ")
    assert len(error.message) < 400


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("numworkers", 1),
        ("numworkers", 1024),
        ("retry_count", 0),
        ("bucket", "Old_Bucket.1"),
        ("key", ""),
        ("key", "é" * 512),
        ("key", "/line\nfeed and 'quotes' 100%/"),
        ("destination", None),
        ("destination", "/"),
        ("command_id", "x" * 128),
        ("command_id", "2026-11-20T10:00:00Z/1"),
        ("download_id", "vlm 7B (day) é"),
        ("model_meta", None),
        ("model_meta", {}),
        ("model_meta", {"a": {"b": {}}, "model_id": "meta/llama"}),
    ],
)
def test_a_value_within_bounds(field: str, value: Any) -> None:
    assert getattr(decode({**_DOWNLOAD, field: value}), field) == value


@pytest.mark.parametrize("model_id", ["", 7, None, "a\nb", "é" * 65, "x\n"])
def test_a_model_id_must_be_able_to_be_a_key_of_the_shadow(model_id: Any) -> None:
    error = refused({**_DOWNLOAD, "model_meta": {"model_id": model_id}})
    assert error.code is ErrorCode.INVALID_FIELD
    assert error.details["field"] == "model_meta.model_id"


def test_model_meta_cannot_be_deeper_than_the_shadow_allows() -> None:
    error = refused({**_DOWNLOAD, "model_meta": {"a": [[[[]]]]}})
    assert error.code is ErrorCode.INVALID_FIELD
    assert "3 levels" in error.message


@pytest.mark.parametrize(
    "payload",
    [
        b'{"command":"pause","download_id":"a","downloadId":"b"}',
        b'{"command":"model_add","model_meta":{"model_id":"a","modelId":"b"}}',
    ],
)
def test_two_spellings_with_different_values(payload: bytes) -> None:
    error = refused(payload)
    assert error.code is ErrorCode.INVALID_FIELD
    assert error.details["given"] == ['"a"', '"b"']


def test_two_spellings_with_one_value() -> None:
    command = decode(b'{"command":"pause","download_id":"a","downloadId":"a"}')
    assert msgspec.structs.asdict(command)["download_id"] == "a"


@pytest.mark.parametrize(
    ("payload", "seen"),
    [
        (b'{"command":"pause","commandId":"c"}', ("c", "pause")),
        (b'{"command":"getdetails","command_id":"c"}', ("c", "details")),
        (b'{"command":"puase","command_id":"c"}', ("c", "puase")),
        (b'{"command":7,"command_id":"c"}', ("c", None)),
        (b'{"command":"status","command_id":7}', (None, "status")),
        (b'{"command":"status","command_id":"' + b"x" * 129 + b'"}', (None, "status")),
        (b'{"command":"' + b"x" * 129 + b'"}', (None, None)),
        (b"[]", (None, None)),
        (b"", (None, None)),
        (b"[" * 100_000, (None, None)),
    ],
)
def test_peek(payload: bytes, seen: tuple[str | None, str | None]) -> None:
    assert peek(payload) == seen


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
_names = st.sampled_from(
    ["download_id", "downloadId", "bucket", "key", "model_meta", "nextToken", "list_type"]
)


@settings(QUICK, max_examples=100)
@given(
    st.sampled_from(COMMANDS).map(name_of),
    st.dictionaries(_names | st.text(), _json, max_size=4),
)
def test_a_command_is_decoded_or_refused(name: str, fields: dict[str, Any]) -> None:
    payload = msgspec.json.encode({**fields, "command": name})
    with suppress(DownloaderError):
        assert decode(payload).command == name
    assert peek(payload)[1] == name


@settings(QUICK, max_examples=100)
@given(st.binary())
def test_bytes_are_refused(payload: bytes) -> None:
    assert refused(payload).code in {ErrorCode.INVALID_JSON, ErrorCode.MISSING_FIELD}
    peek(payload)


def test_a_command_without_an_id_gets_a_generated_one() -> None:
    for payload, expected in (
        (b'{"command":"status"}', "made"),
        (b'{"command":"status","command_id":"own"}', "own"),
        (b'{"command":"status","commandId":"own"}', "own"),
    ):
        command = decode_command(payload, max_bytes=1_000, command_id="made")
        assert command.command_id == expected


def test_what_only_reads_and_what_changes_something() -> None:
    reading = {"list", "details", "status", "disk_space", "limits", "model_list", "model_get"}
    commands = [command for _, command in EXAMPLES]
    assert {command.command for command in commands} == {name_of(kind) for kind in COMMANDS}
    assert {c.command for c in commands if only_reads(c)} == reading
    for limit in (0, 1_000, None):
        assert not only_reads(decode({"command": "limits", "max_bandwidth": limit}))
    assert only_reads(decode({"command": "limits", "download_id": "d"}))
