"""The rules of the Device Shadow service."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox.shadows import Json, ShadowDocuments, ShadowError

T, N = "dev-01", "models"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shadows(clock: Clock) -> ShadowDocuments:
    return ShadowDocuments(clock=clock)


def update(shadows: ShadowDocuments, **request: Any) -> Json:
    return shadows.update(T, N, json.dumps(request).encode())


def report(shadows: ShadowDocuments, reported: Any, **request: Any) -> Json:
    return update(shadows, state={"reported": reported}, **request)


def refusal(shadows: ShadowDocuments, request: bytes) -> ShadowError:
    with pytest.raises(ShadowError) as error:
        shadows.update(T, N, request)
    return error.value


def test_an_update_is_accepted_with_version_metadata_and_token(
    shadows: ShadowDocuments, clock: Clock
) -> None:
    clock.now = 1700.9
    assert report(shadows, {"a": 1, "b": {"c": [1, 2]}}, clientToken="t") == {
        "state": {"reported": {"a": 1, "b": {"c": [1, 2]}}},
        "metadata": {
            "reported": {
                "a": {"timestamp": 1700},
                "b": {"c": [{"timestamp": 1700}, {"timestamp": 1700}]},
            }
        },
        "version": 1,
        "timestamp": 1700,
        "clientToken": "t",
    }


def test_get_has_the_whole_shadow_with_its_delta(shadows: ShadowDocuments, clock: Clock) -> None:
    report(shadows, {"a": 1, "same": {"x": 1, "y": 2}})
    clock.now = 2000
    update(shadows, state={"desired": {"a": 2, "b": 3, "same": {"x": 1, "y": 5}}})
    clock.now = 3000
    old, new = {"timestamp": 1000}, {"timestamp": 2000}
    assert shadows.get(T, N, b'{"clientToken": "t"}') == {
        "state": {
            "desired": {"a": 2, "b": 3, "same": {"x": 1, "y": 5}},
            "reported": {"a": 1, "same": {"x": 1, "y": 2}},
            "delta": {"a": 2, "b": 3, "same": {"y": 5}},
        },
        "metadata": {
            "desired": {"a": new, "b": new, "same": {"x": new, "y": new}},
            "reported": {"a": old, "same": {"x": old, "y": old}},
        },
        "version": 2,
        "timestamp": 3000,
        "clientToken": "t",
    }


def test_an_update_merges_and_stamps_only_what_it_names(
    shadows: ShadowDocuments, clock: Clock
) -> None:
    report(shadows, {"a": {"x": 1, "y": 2}, "list": [1, 2, 3]})
    clock.now = 2000
    report(shadows, {"a": {"y": 3}, "list": [4]})
    document = shadows.get(T, N)
    assert document["state"] == {"reported": {"a": {"x": 1, "y": 3}, "list": [4]}}
    assert document["metadata"]["reported"] == {
        "a": {"x": {"timestamp": 1000}, "y": {"timestamp": 2000}},
        "list": [{"timestamp": 2000}],
    }


def test_a_value_and_an_object_can_take_each_others_place(shadows: ShadowDocuments) -> None:
    report(shadows, {"a": 1, "b": {"x": 1}})
    report(shadows, {"a": {"x": 1}, "b": 2})
    document = shadows.get(T, N)
    assert document["state"]["reported"] == {"a": {"x": 1}, "b": 2}
    assert document["metadata"]["reported"]["a"] == {"x": {"timestamp": 1000}}


@pytest.mark.parametrize(
    ("patch", "left"),
    [
        ({"m": {"one": None}}, {"m": {"two": {"v": 2}}, "n": 1}),
        ({"m": {"one": {"v": None}}}, {"m": {"one": {"w": 0}, "two": {"v": 2}}, "n": 1}),
        ({"m": None}, {"n": 1}),
        ({"m": {}}, {"n": 1}),
        ({"nothing": None}, {"m": {"one": {"v": 1, "w": 0}, "two": {"v": 2}}, "n": 1}),
        ({"new": {"x": None}}, {"m": {"one": {"v": 1, "w": 0}, "two": {"v": 2}}, "n": 1}),
    ],
)
def test_null_removes_and_leaves_no_metadata(
    shadows: ShadowDocuments, patch: Json, left: Json
) -> None:
    report(shadows, {"m": {"one": {"v": 1, "w": 0}, "two": {"v": 2}}, "n": 1})
    report(shadows, patch)
    document = shadows.get(T, N)
    assert document["state"]["reported"] == left
    assert keys(document["metadata"]["reported"]) == keys(left)


def keys(node: Json) -> Json:
    """Return the keys of a nested object, without its values."""
    return {
        key: keys(value) if isinstance(value, dict) and "timestamp" not in value else None
        for key, value in node.items()
    }


@pytest.mark.parametrize("state", [{"desired": None}, {"desired": {}}])
def test_a_section_is_removed_by_null(shadows: ShadowDocuments, state: Json) -> None:
    update(shadows, state={"desired": {"a": 1}, "reported": {"b": 1}})
    update(shadows, state=state)
    assert shadows.get(T, N)["state"] == {"reported": {"b": 1}}
    assert list(shadows.get(T, N)["metadata"]) == ["reported"]


def test_null_for_the_state_empties_the_shadow_but_keeps_it(shadows: ShadowDocuments) -> None:
    report(shadows, {"a": 1})
    assert update(shadows, state=None)["version"] == 2
    assert shadows.get(T, N)["state"] == {}


@pytest.mark.parametrize(
    ("request_document", "message"),
    [
        (b"", "Invalid JSON"),
        (b"[]", "Invalid JSON"),
        (b'{"state": {"reported": {"a": 1}}', "Invalid JSON"),
        (b"{}", "Missing required node: state"),
        (b'{"state": 1}', "State node must be an object"),
        (b'{"state": {"desired": 1}}', "Desired node must be an object"),
        (b'{"state": {"reported": []}}', "Reported node must be an object"),
        (b'{"state": {"other": {}}}', "State contains an invalid node"),
        (b'{"state": {"reported": {"a": [1, null]}}}', "State contains an invalid node"),
        (b'{"state": {}, "version": "1"}', "Invalid version"),
        (b'{"state": {}, "version": 0}', "Invalid version"),
        (b'{"state": {}, "clientToken": 1}', "Invalid clientToken"),
        (json.dumps({"state": {}, "clientToken": "x" * 65}).encode(), "Invalid clientToken"),
    ],
)
def test_a_malformed_request_is_refused(
    shadows: ShadowDocuments, request_document: bytes, message: str
) -> None:
    error = refusal(shadows, request_document)
    assert (error.code, error.message) == (400, message)


def test_six_levels_of_nesting_are_taken_and_seven_are_not(shadows: ShadowDocuments) -> None:
    third: Json = {"4": {"5": {"6": {"leaf": 1}}}}  # the first two are state and reported
    report(shadows, {"3": third})
    report(shadows, {"3": {"4": {"5": {"6": ["leaf"]}}}})
    for seventh in ({"leaf": 1}, ["leaf"], {}):
        third["4"]["5"]["6"] = {"7": seventh}
        error = refusal(shadows, json.dumps({"state": {"reported": {"3": third}}}).encode())
        assert error.message == "JSON contains too many levels of nesting; maximum is 6"


def test_a_version_must_be_the_present_one(shadows: ShadowDocuments) -> None:
    report(shadows, {"a": 1}, version=1)
    report(shadows, {"a": 2}, version=1)
    error = refusal(shadows, b'{"state": {}, "version": 1, "clientToken": "t"}')
    assert error.document(5) == {
        "code": 409,
        "message": "Version conflict",
        "timestamp": 5,
        "clientToken": "t",
    }
    report(shadows, {"a": 3}, version=2)
    assert shadows.get(T, N)["version"] == 3


def test_the_size_of_desired_and_reported_is_limited(clock: Clock) -> None:
    shadows = ShadowDocuments(clock=clock, max_bytes=30)
    report(shadows, {"a": "x" * 22})  # {"a":"…"} is 30 bytes
    error = refusal(shadows, b'{"state": {"reported": {"b": 1}}}')
    assert (error.code, error.message) == (413, "The payload exceeds the maximum size allowed")
    assert shadows.get(T, N)["version"] == 1
    assert refusal(shadows, b'{"state": {"desired": {"b": 1}}}').code == 413
    assert refusal(shadows, '{"state": {"reported": {"a": "äääääääääääx"}}}'.encode()).code == 413
    report(shadows, {"a": "ä" * 11})


def test_a_deleted_shadow_is_gone_and_its_version_counts_on(shadows: ShadowDocuments) -> None:
    report(shadows, {"a": 1})
    report(shadows, {"a": 2})
    assert shadows.delete(T, N, b'{"clientToken": "t"}') == {
        "version": 2,
        "timestamp": 1000,
        "clientToken": "t",
    }
    assert shadows.names(T) == []
    for operation in (shadows.get, shadows.delete):
        with pytest.raises(ShadowError, match="No shadow exists with name: models") as error:
            operation(T, N)
        assert error.value.code == 404
    assert report(shadows, {"b": 1})["version"] == 3
    assert shadows.get(T, N)["state"] == {"reported": {"b": 1}}


def test_shadows_are_kept_apart_and_listed_by_thing(shadows: ShadowDocuments) -> None:
    for thing, name in (("a", "two"), ("a", "one"), ("a", ""), ("b", "three")):
        shadows.update(thing, name, b'{"state": {"reported": {"x": 1}}}')
    assert shadows.names("a") == ["one", "two"]
    assert shadows.get("b", "three")["version"] == 1
    with pytest.raises(ShadowError, match="match pattern"):
        shadows.get("a", "one/two")


def test_a_change_is_told_on_the_reserved_topics(shadows: ShadowDocuments) -> None:
    published: list[tuple[str, Json]] = []
    unlisten = shadows.listen(lambda topic, document: published.append((topic, document)))
    stamp = {"timestamp": 1000}
    accepted = update(shadows, state={"desired": {"a": 1}}, clientToken="t")
    current = {
        "state": {"desired": {"a": 1}},
        "metadata": {"desired": {"a": stamp}},
        "version": 1,
    }
    prefix = "$aws/things/dev-01/shadow/name/models"
    assert published == [
        (f"{prefix}/update/accepted", accepted),
        (
            f"{prefix}/update/delta",
            {
                "version": 1,
                "timestamp": 1000,
                "state": {"a": 1},
                "metadata": {"a": stamp},
                "clientToken": "t",
            },
        ),
        (
            f"{prefix}/update/documents",
            {"previous": None, "current": current, "timestamp": 1000, "clientToken": "t"},
        ),
    ]
    published.clear()
    report(shadows, {"a": 1})
    assert [topic for topic, _ in published] == [
        f"{prefix}/update/accepted",
        f"{prefix}/update/documents",
    ]
    assert published[1][1]["previous"] == current
    assert published[1][1]["current"]["version"] == 2
    published.clear()
    shadows.delete(T, N)
    assert published == [(f"{prefix}/delete/accepted", {"version": 2, "timestamp": 1000})]
    unlisten()
    report(shadows, {"a": 1})
    assert len(published) == 1
