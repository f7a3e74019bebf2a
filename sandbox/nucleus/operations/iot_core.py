"""Implements PublishToIoTCore and SubscribeToIoTCore."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping

from aiomqtt import Wildcard

from ..authorization import MQTT_PROXY, AccessControl
from ..errors import InvalidArgumentsError, ServiceError
from ..iot_core import IotCore
from ..personality import Personality
from ..server import Json, Operation, Stream

__all__ = ["IotCoreOperations"]


class IotCoreOperations:
    """Passes messages between components and AWS IoT Core, if `access` allows it."""

    def __init__(
        self,
        iot_core: IotCore,
        access: Mapping[str, AccessControl],
        personality: Personality,
    ) -> None:
        self._iot_core = iot_core
        self._access = access
        self._personality = personality

    def operations(self) -> dict[str, Operation]:
        return {
            "PublishToIoTCore": Operation(self._publish),
            "SubscribeToIoTCore": Operation(self._subscribe, "IoTCoreMessage"),
        }

    async def _publish(self, stream: Stream, request: Json) -> Json:
        topic, qos = _topic_and_qos(request)
        payload = b64decode(request.get("payload", ""))
        if len(payload) > self._personality.max_publish:
            raise ServiceError(
                f"The publishing message size {len(payload)} bytes exceeds the configured limit "
                f"of {self._personality.max_publish} bytes"
            )
        self._access[stream.component].check(MQTT_PROXY, stream.operation, topic)
        await self._iot_core.publish(
            topic, payload, qos=qos, retain=bool(request.get("retain", False))
        )
        return {}

    async def _subscribe(self, stream: Stream, request: Json) -> Json:
        topic_filter, qos = _topic_and_qos(request)
        self._access[stream.component].check(MQTT_PROXY, stream.operation, topic_filter)
        try:
            Wildcard(topic_filter)
        except ValueError as error:
            raise ServiceError(str(error)) from None

        def forward(topic: str, payload: bytes) -> None:
            message = {"topicName": topic, "payload": b64encode(payload).decode()}
            stream.send("IoTCoreMessage", {"message": message})

        stream.on_close(await self._iot_core.subscribe(topic_filter, forward, qos=qos))
        return {}


def _topic_and_qos(request: Json) -> tuple[str, int]:
    topic, qos = request.get("topicName"), request.get("qos", "1")
    if not isinstance(topic, str) or not topic:
        raise InvalidArgumentsError("topicName is required")
    if qos not in ("0", "1"):
        raise InvalidArgumentsError(f"qos must be '0' or '1', not {qos!r}")
    return topic, int(qos)
