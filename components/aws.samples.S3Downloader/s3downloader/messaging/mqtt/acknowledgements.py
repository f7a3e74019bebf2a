"""Acknowledges messages in the order of their arrival, each after its handlers are done."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

__all__ = ["Acknowledge", "Acknowledgements"]

Acknowledge = Callable[[Sequence[asyncio.Future[None]]], None]
"""Acknowledges a message when all the futures are done."""


class Acknowledgements:
    """The messages that a receiver still has to acknowledge.

    Acknowledgements must have the order of the messages (MQTT 5.0, section 4.6). So a message that
    can be acknowledged waits for those that arrived before it.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()

    def expect(self, send: Callable[[], object]) -> Acknowledge:
        """Add a message, which `send` acknowledges. The result must be called once."""
        waiting = _Waiting(send)
        self._waiting.append(waiting)

        def mark_ready(_: object = None) -> None:
            waiting.ready = True
            self._send_ready()

        def acknowledge(outcomes: Sequence[asyncio.Future[None]]) -> None:
            if outcomes:
                asyncio.gather(*outcomes).add_done_callback(mark_ready)
            else:
                mark_ready()

        return acknowledge

    def _send_ready(self) -> None:
        while self._waiting and self._waiting[0].ready:
            self._waiting.popleft().send()


class _Waiting:
    def __init__(self, send: Callable[[], object]) -> None:
        self.send = send
        self.ready = False
