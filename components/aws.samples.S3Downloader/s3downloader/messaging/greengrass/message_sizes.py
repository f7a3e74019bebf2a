"""What size of message the nucleus takes, learnt from the connections that it cuts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .ipc import ConnectionCutError

__all__ = ["MAX_PAYLOAD", "MIN_PAYLOAD", "MessageSizes"]

MAX_PAYLOAD = 7_000
"""Bytes that nucleus lite takes with any topic.

It has room for a request of 10,000 bytes, which holds the topic, and the payload as Base64
(GGL_IPC_MAX_MSG_LEN of its ggipcd), and closes the connection at a larger one, without a word.
"""

MIN_PAYLOAD = 2_000
"""Bytes below which no message is taken for too large; the least MaxPayloadBytes."""


class MessageSizes:
    """Finds the message that cut the connection, and lowers the limit to what works.

    The largest message that was under way when the connection ended is suspected, if none so large
    ever passed. One end may be chance: it is found too large when another end follows before any
    such message passed. The limit is then what is known to work, or half way to what is.
    """

    def __init__(
        self,
        configured: Callable[[], int] = lambda: MAX_PAYLOAD,
        on_lowered: Callable[[int, int], None] = lambda size, limit: None,
    ) -> None:
        """`on_lowered` is told the size of a message that was too large, and the limit from now on.

        All in bytes of payload.
        """
        self._configured = configured
        self._on_lowered = on_lowered
        self._lowered: int | None = None
        self._passed = 0
        self._suspect = 0
        self._under_way: list[_Message] = []

    @property
    def limit(self) -> int:
        """The largest payload to be sent, in bytes."""
        configured = self._configured()
        return configured if self._lowered is None else min(configured, self._lowered)

    @contextlib.contextmanager
    def under_way(self, topic: str, payload_bytes: int) -> Iterator[None]:
        """Watch over one publish, and draw the conclusion from how it ends."""
        message = _Message(len(topic.encode()), payload_bytes)
        self._under_way.append(message)
        try:
            yield
        except ConnectionCutError:
            self._judge(message)
            raise
        else:
            self._passed = max(self._passed, message.size)
            if message.size >= self._suspect:
                self._suspect = 0
        finally:
            self._under_way.remove(message)

    def _judge(self, message: _Message) -> None:
        """Suspect one of the messages that the same end of the connection concerns."""
        if message.judged:
            return
        for concerned in self._under_way:
            concerned.judged = True
        largest = max(self._under_way, key=lambda m: m.size)
        if largest.size <= self._passed or largest.payload_bytes <= MIN_PAYLOAD:
            return
        if not self._suspect:
            self._suspect = largest.size
            return
        self._suspect = 0
        self._lower(largest)

    def _lower(self, message: _Message) -> None:
        size = message.payload_bytes
        known = max(MIN_PAYLOAD, (self._passed - message.topic_bytes) * 3 // 4)
        self._lowered = MAX_PAYLOAD if size > MAX_PAYLOAD else (known + size) // 2
        self._on_lowered(size, self._lowered)


@dataclass(eq=False)
class _Message:
    """A publish; `size` is that of its request, as far as topic and payload make it."""

    topic_bytes: int
    payload_bytes: int
    judged: bool = False

    @property
    def size(self) -> int:
        return self.topic_bytes + (self.payload_bytes + 2) // 3 * 4
