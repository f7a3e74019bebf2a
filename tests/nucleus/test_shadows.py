"""The rules of the Device Shadow service."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox.shadows import Json, ShadowError, ShadowStore

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
def store(clock: Clock) -> ShadowStore:
    return ShadowStore(clock=clock)


def update(store: ShadowStore, **request: Any) -> Json:
    return store.update(T, N, json.dumps(request).encode())


def report(store: ShadowStore, reported: Any, **request: Any) -> Json:
    return update(store, state={"reported": reported}, **request)


def refusal(store: ShadowStore, request: bytes) -> ShadowError:
    with pytest.raises(ShadowError) as error:
        store.update(T, N, request)
    return error.value


def test_an_update_is_accepted_with_version_metadata_and_token(
    store: ShadowStore, clock: Clock
) -> None:
    clock.now = 1700.9
    assert report(store, {"a": 1, "b": {"c": [1, 2]}}, clientToken="t") == {
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


def test_get_has_the_whole_shadow_with_its_delta(store: ShadowStore, clock: Clock) -> None:
    report(store, {"a": 1, "same": {"x": 1, "y": 2}})
    clock.now = 2000
    update(store, state={"desired": {"a": 2, "b": 3, "same": {"x": 1, "y": 5}}})
    clock.now = 3000
    old, new = {"timestamp": 1000}, {"timestamp": 2000}
    assert store.get(T, N, b'{"clientToken": "t"}') == {
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


def test_an_update_merges_and_stamps_only_what_it_names(store: ShadowStore, clock: Clock) -> None:
    report(store, {"a": {"x": 1, "y": 2}, "list": [1, 2, 3]})
    clock.now = 2000
    report(store, {"a": {"y": 3}, "list": [4]})
    document = store.get(T, N)
    assert document["state"] == {"reported": {"a": {"x": 1, "y": 3}, "list": [4]}}
    assert document["metadata"]["reported"] == {
        "a": {"x": {"timestamp": 1000}, "y": {"timestamp": 2000}},
        "list": [{"timestamp": 2000}],
    }


def test_a_value_and_an_object_can_take_each_others_place(store: ShadowStore) -> None:
    report(store, {"a": 1, "b": {"x": 1}})
    report(store, {"a": {"x": 1}, "b": 2})
    document = store.get(T, N)
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
def test_null_removes_and_leaves_no_metadata(store: ShadowStore, patch: Json, left: Json) -> None:
    report(store, {"m": {"one": {"v": 1, "w": 0}, "two": {"v": 2}}, "n": 1})
    report(store, patch)
    document = store.get(T, N)
    assert document["state"]["reported"] == left
    assert keys(document["metadata"]["reported"]) == keys(left)


def keys(node: Json) -> Json:
    """The keys of a tree without its leaves."""
    return {
        key: keys(value) if isinstance(value, dict) and "timestamp" not in value else None
        for key, value in node.items()
    }


@pytest.mark.parametrize("state", [{"desired": None}, {"desired": {}}])
def test_a_section_is_removed_by_null(store: ShadowStore, state: Json) -> None:
    update(store, state={"desired": {"a": 1}, "reported": {"b": 1}})
    update(store, state=state)
    assert store.get(T, N)["state"] == {"reported": {"b": 1}}
    assert list(store.get(T, N)["metadata"]) == ["reported"]


def test_null_for_the_state_empties_the_shadow_but_keeps_it(store: ShadowStore) -> None:
    report(store, {"a": 1})
    assert update(store, state=None)["version"] == 2
    assert store.get(T, N)["state"] == {}


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
    store: ShadowStore, request_document: bytes, message: str
) -> None:
    error = refusal(store, request_document)
    assert (error.code, error.message) == (400, message)


def test_six_levels_of_nesting_are_taken_and_seven_are_not(store: ShadowStore) -> None:
    third: Json = {"4": {"5": {"6": {"leaf": 1}}}}  # the first two are state and reported
    report(store, {"3": third})
    report(store, {"3": {"4": {"5": {"6": ["leaf"]}}}})
    for seventh in ({"leaf": 1}, ["leaf"], {}):
        third["4"]["5"]["6"] = {"7": seventh}
        error = refusal(store, json.dumps({"state": {"reported": {"3": third}}}).encode())
        assert error.message == "JSON contains too many levels of nesting; maximum is 6"


def test_a_version_must_be_the_present_one(store: ShadowStore) -> None:
    report(store, {"a": 1}, version=1)
    report(store, {"a": 2}, version=1)
    error = refusal(store, b'{"state": {}, "version": 1, "clientToken": "t"}')
    assert error.document(5) == {
        "code": 409,
        "message": "Version conflict",
        "timestamp": 5,
        "clientToken": "t",
    }
    report(store, {"a": 3}, version=2)
    assert store.get(T, N)["version"] == 3


def test_the_size_of_desired_and_reported_is_limited(clock: Clock) -> None:
    store = ShadowStore(clock=clock, max_bytes=30)
    report(store, {"a": "x" * 22})  # {"a":"…"} is 30 bytes
    error = refusal(store, b'{"state": {"reported": {"b": 1}}}')
    assert (error.code, error.message) == (413, "The payload exceeds the maximum size allowed")
    assert store.get(T, N)["version"] == 1
    assert refusal(store, b'{"state": {"desired": {"b": 1}}}').code == 413
    assert refusal(store, '{"state": {"reported": {"a": "äääääääääääx"}}}'.encode()).code == 413
    report(store, {"a": "ä" * 11})


def test_a_deleted_shadow_is_gone_and_its_version_counts_on(store: ShadowStore) -> None:
    report(store, {"a": 1})
    report(store, {"a": 2})
    assert store.delete(T, N, b'{"clientToken": "t"}') == {
        "version": 2,
        "timestamp": 1000,
        "clientToken": "t",
    }
    assert store.names(T) == []
    for operation in (store.get, store.delete):
        with pytest.raises(ShadowError, match="No shadow exists with name: models") as error:
            operation(T, N)
        assert error.value.code == 404
    assert report(store, {"b": 1})["version"] == 3
    assert store.get(T, N)["state"] == {"reported": {"b": 1}}


def test_shadows_are_kept_apart_and_listed_by_thing(store: ShadowStore) -> None:
    for thing, name in (("a", "two"), ("a", "one"), ("a", ""), ("b", "three")):
        store.update(thing, name, b'{"state": {"reported": {"x": 1}}}')
    assert store.names("a") == ["one", "two"]
    assert store.get("b", "three")["version"] == 1
    with pytest.raises(ShadowError, match="match pattern"):
        store.get("a", "one/two")


def test_a_change_is_told_on_the_reserved_topics(store: ShadowStore) -> None:
    published: list[tuple[str, Json]] = []
    unlisten = store.listen(lambda topic, document: published.append((topic, document)))
    stamp = {"timestamp": 1000}
    accepted = update(store, state={"desired": {"a": 1}}, clientToken="t")
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
    report(store, {"a": 1})
    assert [topic for topic, _ in published] == [
        f"{prefix}/update/accepted",
        f"{prefix}/update/documents",
    ]
    assert published[1][1]["previous"] == current
    assert published[1][1]["current"]["version"] == 2
    published.clear()
    store.delete(T, N)
    assert published == [(f"{prefix}/delete/accepted", {"version": 2, "timestamp": 1000})]
    unlisten()
    report(store, {"a": 1})
    assert len(published) == 1
