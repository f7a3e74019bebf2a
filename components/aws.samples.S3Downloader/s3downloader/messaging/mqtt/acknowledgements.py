"""Acknowledging messages in the order in which they arrived, each once it is safe."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

__all__ = ["Acknowledge", "Acknowledgements"]

Acknowledge = Callable[[Sequence[asyncio.Future[None]]], None]
"""Acknowledges a message once all of that is done."""


class Acknowledgements:
    """What a receiver still has to acknowledge.

    A message that is safe waits for those before it: acknowledgements keep the order of the
    messages (MQTT 5.0, section 4.6).
    """

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()

    def expect(self, send: Callable[[], object]) -> Acknowledge:
        """Take up a message that `send` acknowledges; what is returned is to be called once."""
        waiting = _Waiting(send)
        self._waiting.append(waiting)

        def settle(_: object = None) -> None:
            waiting.safe = True
            self._send()

        def after(outcomes: Sequence[asyncio.Future[None]]) -> None:
            if outcomes:
                asyncio.gather(*outcomes).add_done_callback(settle)
            else:
                settle()

        return after

    def _send(self) -> None:
        while self._waiting and self._waiting[0].safe:
            self._waiting.popleft().send()


class _Waiting:
    def __init__(self, send: Callable[[], object]) -> None:
        self.send = send
        self.safe = False
