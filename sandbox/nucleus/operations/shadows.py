"""Implements the shadow operations, as the ShadowManager component does."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping

import msgspec

from ...shadows import ShadowDocuments, ShadowError, topic_prefix
from ..authorization import SHADOW_MANAGER, AccessControl
from ..errors import (
    ConflictError,
    InvalidArgumentsError,
    IpcError,
    ResourceNotFoundError,
    ServiceError,
)
from ..server import Json, Operation, Stream
from .pubsub import LocalTopics

__all__ = ["ShadowOperations"]

_MAX_PAGE = 100


class ShadowOperations:
    """The operations on shadows. Their messages are also published on local topics.

    If `supported` is false, every operation fails with ServiceError.
    """

    def __init__(
        self,
        shadows: ShadowDocuments,
        access: Mapping[str, AccessControl],
        topics: LocalTopics,
        *,
        supported: bool,
    ) -> None:
        self._shadows = shadows
        self._access = access
        self._topics = topics
        self._supported = supported

    def operations(self) -> dict[str, Operation]:
        return {
            "GetThingShadow": Operation(self._get),
            "UpdateThingShadow": Operation(self._update),
            "DeleteThingShadow": Operation(self._delete),
            "ListNamedShadowsForThing": Operation(self._list),
        }

    def publish(self, topic: str, document: Json) -> None:
        """Publish a message of the shadow service on its local topic."""
        self._topics.publish(topic, msgspec.json.encode(document), sender=SHADOW_MANAGER)

    async def _get(self, stream: Stream, request: Json) -> Json:
        thing, name = self._authorised_shadow(stream, request)
        prefix = topic_prefix(thing, name)
        try:
            document = self._shadows.get(thing, name)
        except ShadowError as error:
            raise self._rejected(f"{prefix}/get", error) from None
        self.publish(f"{prefix}/get/accepted", document)
        return _payload(document)

    async def _update(self, stream: Stream, request: Json) -> Json:
        thing, name = self._authorised_shadow(stream, request)
        try:
            payload = b64decode(request.get("payload", ""))
            return _payload(self._shadows.update(thing, name, payload))
        except ShadowError as error:
            raise self._rejected(f"{topic_prefix(thing, name)}/update", error) from None

    async def _delete(self, stream: Stream, request: Json) -> Json:
        thing, name = self._authorised_shadow(stream, request)
        try:
            self._shadows.delete(thing, name)
        except ShadowError as error:
            raise self._rejected(f"{topic_prefix(thing, name)}/delete", error) from None
        return {"payload": ""}

    async def _list(self, stream: Stream, request: Json) -> Json:
        thing = str(request.get("thingName", ""))
        self._check(stream, thing)
        size = request.get("pageSize") or 25
        if not 1 <= size <= _MAX_PAGE:
            raise InvalidArgumentsError(f"pageSize argument must be between 1 and {_MAX_PAGE}")
        start = int(request.get("nextToken") or 0)
        names = self._shadows.names(thing)[start : start + size]
        response = {"results": names, "timestamp": self._shadows.now()}
        return {**response, "nextToken": str(start + size)} if len(names) == size else response

    def _authorised_shadow(self, stream: Stream, request: Json) -> tuple[str, str]:
        thing, name = str(request.get("thingName", "")), str(request.get("shadowName") or "")
        self._check(stream, topic_prefix(thing, name))
        return thing, name

    def _check(self, stream: Stream, resource: str) -> None:
        if not self._supported:
            raise ServiceError("There is no shadow service on this device")
        self._access[stream.component].check(SHADOW_MANAGER, stream.operation, resource)

    def _rejected(self, topic: str, error: ShadowError) -> IpcError:
        """Publish the refusal, and return it as the operation's error."""
        self.publish(f"{topic}/rejected", error.document(self._shadows.now()))
        if error.code == 404:
            return ResourceNotFoundError("No shadow found", resourceType="shadow")
        kind = ConflictError if error.code == 409 else InvalidArgumentsError
        return kind(error.message)


def _payload(document: Json) -> Json:
    return {"payload": b64encode(msgspec.json.encode(document)).decode()}
