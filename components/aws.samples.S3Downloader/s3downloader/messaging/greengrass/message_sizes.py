"""Finds the largest message that the nucleus accepts, from the connections that it closes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .ipc import ConnectionCutError

__all__ = ["MAX_PAYLOAD", "MIN_PAYLOAD", "MessageSizes"]

MAX_PAYLOAD = 7_000
"""Payload in bytes that nucleus lite accepts with any topic.

A request may have 10,000 bytes, with the topic, and the payload as Base64 (GGL_IPC_MAX_MSG_LEN of
its ggipcd). At a larger one nucleus lite closes the connection without an error.
"""

MIN_PAYLOAD = 2_000
"""Smaller payloads, in bytes, never count as too large. It is the minimum of MaxPayloadBytes."""


class MessageSizes:
    """Detects that a message was too large for the nucleus, and lowers the limit.

    When the connection ends, the largest message in flight becomes the suspect, unless one as large
    was accepted before. One end may have another cause. So the suspect counts as too large only if
    the connection ends again before a message as large is accepted. If the message exceeded
    MAX_PAYLOAD, the limit is then MAX_PAYLOAD. Otherwise it is half way between the size known to
    be accepted and that of the message.
    """

    def __init__(
        self,
        configured: Callable[[], int] = lambda: MAX_PAYLOAD,
        on_lowered: Callable[[int, int], None] = lambda size, limit: None,
    ) -> None:
        """`configured` returns the configured limit.

        `on_lowered` gets the size of the message that was too large, and the limit from now on. All
        sizes are bytes of payload.
        """
        self._configured = configured
        self._on_lowered = on_lowered
        self._lowered: int | None = None
        self._accepted = 0
        self._suspect = 0
        self._in_flight: list[_Message] = []

    @property
    def limit(self) -> int:
        """The largest payload that may be sent, in bytes."""
        configured = self._configured()
        return configured if self._lowered is None else min(configured, self._lowered)

    @contextlib.contextmanager
    def in_flight(self, topic: str, payload_bytes: int) -> Iterator[None]:
        """Observe one publish, and adapt the limit to its outcome."""
        message = _Message(len(topic.encode()), payload_bytes)
        self._in_flight.append(message)
        try:
            yield
        except ConnectionCutError:
            self._on_cut(message)
            raise
        else:
            self._accepted = max(self._accepted, message.size)
            if message.size >= self._suspect:
                self._suspect = 0
        finally:
            self._in_flight.remove(message)

    def _on_cut(self, message: _Message) -> None:
        """Find the suspect, once for all messages in flight when the connection ended."""
        if message.examined:
            return
        for concerned in self._in_flight:
            concerned.examined = True
        largest = max(self._in_flight, key=lambda m: m.size)
        if largest.size <= self._accepted or largest.payload_bytes <= MIN_PAYLOAD:
            return
        if not self._suspect:
            self._suspect = largest.size
            return
        self._suspect = 0
        self._lower(largest)

    def _lower(self, message: _Message) -> None:
        size = message.payload_bytes
        known = max(MIN_PAYLOAD, (self._accepted - message.topic_bytes) * 3 // 4)
        self._lowered = MAX_PAYLOAD if size > MAX_PAYLOAD else (known + size) // 2
        self._on_lowered(size, self._lowered)


@dataclass(eq=False)
class _Message:
    """A publish in flight."""

    topic_bytes: int
    payload_bytes: int
    examined: bool = False

    @property
    def size(self) -> int:
        """The bytes of topic and Base64 payload in the request."""
        return self.topic_bytes + (self.payload_bytes + 2) // 3 * 4
