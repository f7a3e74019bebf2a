"""The contents of the shadow `models`, and how they are read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.messaging.bus import ShadowDocument
from s3downloader.models.shadow_document import (
    check_fields,
    check_id,
    invalid_paths,
    normalize,
    readable,
    same,
    shadow_bytes,
    with_reported,
)
from sandbox.shadows import ShadowDocuments, ShadowError


def document(*, version: int = 1, desired: Any = None, reported: Any = None) -> ShadowDocument:
    """Return a shadow with these values under `models` in its sections."""
    return ShadowDocument(
        version=version,
        desired={} if desired is None else {"models": desired},
        reported={} if reported is None else {"models": reported},
    )


def test_bytes_are_those_the_service_counts() -> None:
    desired = {"models": {"a": {"note": "größer"}}}
    reported = {"models": {"a": {"model_id": "a", "sizes": [1, 2.5]}}, "else": True}
    counted = shadow_bytes(ShadowDocument(version=3, desired=desired, reported=reported))
    request = msgspec.json.encode({"state": {"desired": desired, "reported": reported}})

    ShadowDocuments(max_bytes=counted).update("edge", "models", request)
    with pytest.raises(ShadowError) as refusal:
        ShadowDocuments(max_bytes=counted - 1).update("edge", "models", request)
    assert refusal.value.code == 413


def test_an_empty_shadow_has_no_bytes() -> None:
    assert shadow_bytes(ShadowDocument(version=0)) == 0


@pytest.mark.parametrize("model_id", ["vlm-7B", "qwen2.5-7b.gguf", "a b", "模型", "$x", "m" * 128])
def test_a_model_id_that_can_be_a_key(model_id: str) -> None:
    check_id(model_id)


@pytest.mark.parametrize("model_id", ["", "a\nb", "a\x7f", "m" * 129, "模" * 43, None, 7])
def test_a_model_id_that_cannot_be_a_key(model_id: object) -> None:
    with pytest.raises(DownloaderError, match="model_id is text of 1 to 128 bytes") as refusal:
        check_id(model_id)
    assert refusal.value.code is ErrorCode.INVALID_FIELD


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("", 1, "name"),
        ("a\tb", 1, "name"),
        ("runtime", {"": 1}, "name"),
        ("layers", [{"x" * 129: 1}], "name"),
        ("tags", ["a", None], "null in a list"),
        ("runtime", {"a": {"b": {"c": 1}}}, "too deep"),
        ("layers", [[[]]], "too deep"),
        ("note", "x" * 4_000, "4002 bytes"),
    ],
)
def test_a_field_that_a_shadow_cannot_hold(name: str, value: object, reason: str) -> None:
    with pytest.raises(DownloaderError, match=reason) as refusal:
        check_fields({"model_name": "fine", name: value})
    assert refusal.value.code is ErrorCode.INVALID_FIELD
    assert refusal.value.details == {"field": name}


def test_the_service_takes_as_many_levels_and_no_more() -> None:
    def request(fields: Any) -> bytes:
        return msgspec.json.encode({"state": {"reported": {"models": {"m": fields}}}})

    deepest = {"runtime": {"a": {"b": 1}}, "layers": [[1], {"c": "d"}], "note": None}
    check_fields(deepest)
    ShadowDocuments().update("edge", "models", request(deepest))
    deeper = {"runtime": {"a": {"b": {"c": 1}}}}
    with pytest.raises(DownloaderError, match="3 levels"):
        check_fields(deeper)
    with pytest.raises(ShadowError, match="too many levels"):
        ShadowDocuments().update("edge", "models", request(deeper))


def test_plain_leaves_out_what_a_shadow_does_not_keep() -> None:
    given: Any = {"a": None, "b": {}, "c": {"d": None, "e": {"f": {}}}, "g": [], "h": 0, "i": False}
    assert normalize(given) == {"g": [], "h": 0, "i": False}


def test_same_tells_true_from_one() -> None:
    assert same({"a": 1, "b": [2]}, {"b": [2], "a": 1})
    assert not same({"a": 1}, {"a": True})
    assert not same(None, {})


@pytest.mark.parametrize(
    ("reported", "models", "paths"),
    [
        (None, {}, set()),
        ("text", {}, {"reported.models"}),
        ([1], {}, {"reported.models"}),
        ({"a": "text"}, {}, {"reported.models.a"}),
        ({"a": {"model_id": "b"}, "c": {"x": 1}}, {"c": {"x": 1}}, {"reported.models.a"}),
        ({"": {"x": 1}}, {}, {"reported.models."}),
        ({"a": {}, "b": {"c": {}, "d": 1}}, {"b": {"d": 1}}, set()),
    ],
)
def test_what_is_no_model_is_told_apart(reported: Any, models: Any, paths: set[str]) -> None:
    shadow = document(reported=reported)
    assert readable(shadow.reported) == models
    assert invalid_paths(shadow) == paths


def test_holding_keeps_what_others_put_there() -> None:
    shadow = ShadowDocument(version=4, reported={"models": {"a": 1, "b": {"x": 1}}, "else": 2})
    held = with_reported(shadow, {"c": {"y": 1}})
    assert held.reported == {"models": {"a": 1, "c": {"y": 1}}, "else": 2}
