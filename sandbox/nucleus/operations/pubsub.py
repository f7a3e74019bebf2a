"""Implements PublishToTopic and SubscribeToTopic: messages between components of one device."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from aiomqtt import Topic, Wildcard

from ..authorization import PUBSUB, AccessControl
from ..errors import InvalidArgumentsError
from ..server import Json, Operation, Stream

__all__ = ["LocalTopics"]

_FROM_OTHERS = "RECEIVE_MESSAGES_FROM_OTHERS"


@dataclass(eq=False)
class _Subscription:
    topic_filter: Wildcard
    stream: Stream
    from_others_only: bool


class LocalTopics:
    """Delivers messages between components, if `access` allows it."""

    def __init__(self, access: Mapping[str, AccessControl]) -> None:
        self._access = access
        self._subscriptions: list[_Subscription] = []

    def operations(self) -> dict[str, Operation]:
        return {
            "PublishToTopic": Operation(self._publish),
            "SubscribeToTopic": Operation(self._subscribe, "SubscriptionResponseMessage"),
        }

    def publish(self, topic: str, payload: bytes, *, sender: str) -> None:
        """Deliver a binary message from the component `sender`."""
        message = {"message": b64encode(payload).decode()}
        self._deliver(Topic(topic), {"binaryMessage": message}, sender)

    async def _publish(self, stream: Stream, request: Json) -> Json:
        topic = request.get("topic")
        if not isinstance(topic, str) or not topic:
            raise InvalidArgumentsError("Publish topic must not be null")
        if set(topic) & set("+#*"):
            raise InvalidArgumentsError("Publish topic must not contain a wildcard.")
        self._access[stream.component].check(PUBSUB, stream.operation, topic)
        message = request.get("publishMessage", {})
        if len(message) != 1 or not set(message) <= {"jsonMessage", "binaryMessage"}:
            raise InvalidArgumentsError("publishMessage must be a jsonMessage or a binaryMessage")
        self._deliver(Topic(topic), message, stream.component)
        return {}

    def _deliver(self, topic: Topic, message: Json, sender: str) -> None:
        ((kind, content),) = message.items()
        event = {kind: {"message": content["message"], "context": {"topic": topic.value}}}
        for subscription in list(self._subscriptions):
            own = subscription.stream.component == sender
            if topic.matches(subscription.topic_filter) and not (
                own and subscription.from_others_only
            ):
                subscription.stream.send("SubscriptionResponseMessage", event)

    async def _subscribe(self, stream: Stream, request: Json) -> Json:
        topic = request.get("topic")
        if not isinstance(topic, str) or not topic:
            raise InvalidArgumentsError("Subscribe topic must not be empty")
        self._access[stream.component].check(PUBSUB, stream.operation, topic)
        mode = request.get("receiveMode")
        from_others_only = mode == _FROM_OTHERS or (mode is None and bool(set(topic) & set("+#")))
        try:
            subscription = _Subscription(Wildcard(topic), stream, from_others_only)
        except ValueError as error:
            raise InvalidArgumentsError(str(error)) from None
        self._subscriptions.append(subscription)
        stream.on_close(lambda: self._subscriptions.remove(subscription))
        return {"topicName": topic}
