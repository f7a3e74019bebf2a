"""Implements the AWS IoT Device Shadow service in memory, without I/O.

Sources: "Device Shadow service documents" and "Device Shadow error messages" in the AWS IoT Core
developer guide. What these do not say is taken from the ShadowManager component: an empty object
counts as null, nesting is counted from `state`, and the version that is sent for a shadow that
does not exist must be 1.
"""

from __future__ import annotations

import contextlib
import copy
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

__all__ = ["Json", "ShadowDocuments", "ShadowError", "ShadowListener", "topic_prefix"]

Json = dict[str, Any]

ShadowListener = Callable[[str, Json], None]
"""Called with a reserved topic and the document that the service publishes on it."""

_SECTIONS = ("desired", "reported")
_MAX_DEPTH = 6
_MAX_CLIENT_TOKEN = 64  # bytes
_NAME = re.compile(r"[a-zA-Z0-9:_-]+")


class ShadowError(Exception):
    """A refused request. `code` is an HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.client_token: str | None = None

    def document(self, timestamp: int) -> Json:
        """Return the payload of the message on `…/rejected`."""
        return _with_token(
            {"code": self.code, "message": self.message, "timestamp": timestamp},
            self.client_token,
        )


@dataclass
class _Shadow:
    """One shadow. A deleted shadow keeps its version, which the next update increments."""

    version: int = 0
    exists: bool = False
    state: Json = field(default_factory=lambda: {"desired": {}, "reported": {}})
    metadata: Json = field(default_factory=lambda: {"desired": {}, "reported": {}})

    def document(self) -> Json:
        """Return state, metadata and version, without empty sections."""
        return {
            "state": _filled(self.state),
            "metadata": _filled(self.metadata),
            "version": self.version,
        }

    def delta(self) -> tuple[Json, Json]:
        """Return the fields of `desired` that differ from `reported`, and their metadata."""
        return _delta(self.state["desired"], self.state["reported"], self.metadata["desired"])

    def size(self) -> int:
        """Return the bytes of `desired` and `reported` as compact JSON; metadata does not count."""
        return sum(len(msgspec.json.encode(section)) for section in self.state.values() if section)


class ShadowDocuments:
    """The shadows of all things. The name "" stands for the classic shadow.

    `clock` returns seconds since the epoch. `max_bytes` limits the size of `desired` and
    `reported` together.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, max_bytes: int = 8192) -> None:
        self.max_bytes = max_bytes
        self._clock = clock
        self._shadows: dict[tuple[str, str], _Shadow] = {}
        self._listeners: list[ShadowListener] = []

    def listen(self, listener: ShadowListener) -> Callable[[], None]:
        """Call `listener` for each message that a change publishes; return a function to stop."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def now(self) -> int:
        return int(self._clock())

    def get(self, thing: str, name: str, request: bytes = b"") -> Json:
        """Return the complete shadow with its delta: the payload of `get/accepted`.

        `request` is empty or {"clientToken": …}. Raises ShadowError: 400 for a malformed request,
        404 if there is no such shadow.
        """
        token = _client_token(_decode(request or b"{}"))
        with _adding_token(token):
            shadow = self._existing(thing, name)
        document = shadow.document()
        delta, _ = shadow.delta()
        if delta:
            document["state"]["delta"] = delta
        return _with_token({**document, "timestamp": self.now()}, token)

    def update(self, thing: str, name: str, request: bytes) -> Json:
        """Merge a request state document; return the payload of `update/accepted`.

        Raises ShadowError: 400 for a malformed request, 409 for a version conflict, 413 if the
        shadow would be too large.
        """
        document = _decode(request)
        token = _client_token(document)
        with _adding_token(token):
            patch = _state(document)
            _check_names(thing, name)
            old = self._shadows.get((thing, name), _Shadow())
            _check_version(document, old)
            new = self._merged(old, patch)
        self._shadows[thing, name] = new
        accepted = _with_token(
            {
                "state": document["state"],
                "metadata": {key: _stamp(patch[key], self.now()) for key in patch},
                "version": new.version,
                "timestamp": self.now(),
            },
            token,
        )
        self._publish_update(topic_prefix(thing, name), accepted, old, new)
        return accepted

    def delete(self, thing: str, name: str, request: bytes = b"") -> Json:
        """Delete the shadow; return the payload of `delete/accepted`.

        Raises ShadowError: 400 for a malformed request, 404 if there is no such shadow.
        """
        token = _client_token(_decode(request or b"{}"))
        with _adding_token(token):
            shadow = self._existing(thing, name)
        self._shadows[thing, name] = _Shadow(version=shadow.version)
        accepted = _with_token({"version": shadow.version, "timestamp": self.now()}, token)
        self._publish(f"{topic_prefix(thing, name)}/delete/accepted", accepted)
        return accepted

    def names(self, thing: str) -> list[str]:
        """Return the names of the thing's named shadows, sorted."""
        return sorted(
            name
            for (owner, name), shadow in self._shadows.items()
            if owner == thing and name and shadow.exists
        )

    def _existing(self, thing: str, name: str) -> _Shadow:
        _check_names(thing, name)
        shadow = self._shadows.get((thing, name))
        if shadow is None or not shadow.exists:
            raise ShadowError(404, f"No shadow exists with name: {name or 'Unnamed Shadow'}")
        return shadow

    def _merged(self, old: _Shadow, patch: Json) -> _Shadow:
        new = copy.deepcopy(old)
        new.exists = True
        new.version += 1
        for key, section in patch.items():
            if section:
                _merge(new.state[key], new.metadata[key], section, self.now())
            else:
                new.state[key], new.metadata[key] = {}, {}
        if new.size() > self.max_bytes:
            raise ShadowError(413, "The payload exceeds the maximum size allowed")
        return new

    def _publish_update(self, prefix: str, accepted: Json, old: _Shadow, new: _Shadow) -> None:
        token = accepted.get("clientToken")
        self._publish(f"{prefix}/update/accepted", accepted)
        delta, metadata = new.delta()
        if delta:
            message = {
                "version": new.version,
                "timestamp": accepted["timestamp"],
                "state": delta,
                "metadata": metadata,
            }
            self._publish(f"{prefix}/update/delta", _with_token(message, token))
        documents = {
            "previous": old.document() if old.exists else None,
            "current": new.document(),
            "timestamp": accepted["timestamp"],
        }
        self._publish(f"{prefix}/update/documents", _with_token(documents, token))

    def _publish(self, topic: str, document: Json) -> None:
        for listener in list(self._listeners):
            listener(topic, document)


def topic_prefix(thing: str, name: str) -> str:
    """Return the prefix of a shadow's reserved topics; `name` is "" for the classic shadow."""
    return f"$aws/things/{thing}/shadow" + (f"/name/{name}" if name else "")


@contextlib.contextmanager
def _adding_token(token: str | None) -> Iterator[None]:
    """Add the client token of the request to each ShadowError that is raised in the context."""
    try:
        yield
    except ShadowError as error:
        error.client_token = token
        raise


def _decode(request: bytes) -> Json:
    try:
        return msgspec.json.decode(request, type=Json)
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise ShadowError(400, "Invalid JSON") from None


def _client_token(document: Json) -> str | None:
    token = document.get("clientToken")
    if token is None:
        return None
    if not isinstance(token, str) or len(token.encode()) > _MAX_CLIENT_TOKEN:
        raise ShadowError(400, "Invalid clientToken")
    return token


def _state(document: Json) -> Json:
    """Return the `state` of a request. If it is null, both sections are to be emptied."""
    if "state" not in document:
        raise ShadowError(400, "Missing required node: state")
    state = document["state"]
    if state is None:
        return dict.fromkeys(_SECTIONS)
    if not isinstance(state, dict):
        raise ShadowError(400, "State node must be an object")
    for key, section in state.items():
        if key not in _SECTIONS:
            raise ShadowError(400, "State contains an invalid node")
        if not isinstance(section, dict | None):
            raise ShadowError(400, f"{key.capitalize()} node must be an object")
    _check_node(state, 1)
    return state


def _check_node(node: Any, depth: int) -> None:
    if not isinstance(node, (dict, list)):
        return
    if depth > _MAX_DEPTH:
        raise ShadowError(400, "JSON contains too many levels of nesting; maximum is 6")
    if isinstance(node, list) and None in node:
        raise ShadowError(400, "State contains an invalid node")
    for child in node.values() if isinstance(node, dict) else node:
        _check_node(child, depth + 1)


def _check_version(document: Json, shadow: _Shadow) -> None:
    version = document.get("version")
    if version is None:
        return
    if not isinstance(version, int) or (not shadow.exists and version != 1):
        raise ShadowError(400, "Invalid version")
    if shadow.exists and version != shadow.version:
        raise ShadowError(409, "Version conflict")


def _check_names(thing: str, name: str) -> None:
    if not _NAME.fullmatch(thing) or (name and not _NAME.fullmatch(name)):
        raise ShadowError(400, f"Names must match pattern {_NAME.pattern}")


def _merge(state: Json, metadata: Json, patch: Json, now: int) -> None:
    """Merge `patch` into `state`, and set the timestamps of the changed values in `metadata`."""
    for key, value in patch.items():
        if value is None or value == {}:
            state.pop(key, None)
            metadata.pop(key, None)
        elif isinstance(value, dict):
            known = isinstance(state.get(key), dict)
            child, child_metadata = (state[key], metadata[key]) if known else ({}, {})
            _merge(child, child_metadata, value, now)
            if known or child:
                state[key], metadata[key] = child, child_metadata
        else:
            state[key], metadata[key] = value, _stamp(value, now)


def _stamp(node: Any, now: int) -> Any:
    """Return the metadata of a node: the same structure with a timestamp for each value."""
    if isinstance(node, dict):
        return {key: _stamp(value, now) for key, value in node.items()}
    if isinstance(node, list):
        return [_stamp(value, now) for value in node]
    return {"timestamp": now}


def _delta(desired: Json, reported: Json, metadata: Json) -> tuple[Json, Json]:
    state: Json = {}
    stamps: Json = {}
    for key, value in desired.items():
        other = reported.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            inner, inner_stamps = _delta(value, other, metadata[key])
            if inner:
                state[key], stamps[key] = inner, inner_stamps
        elif value != other:
            state[key], stamps[key] = value, metadata[key]
    return state, stamps


def _filled(sections: Json) -> Json:
    return {key: section for key, section in sections.items() if section}


def _with_token(document: Json, token: str | None) -> Json:
    return document if token is None else {**document, "clientToken": token}
