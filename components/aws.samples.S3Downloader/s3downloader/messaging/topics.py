"""MQTT topic filters, and which handler wants which topics."""

from __future__ import annotations

import asyncio
import logging
from itertools import zip_longest

from .bus import Message, MessageHandler

__all__ = ["Subscriptions", "matches"]

log = logging.getLogger(__name__)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a topic filter selects a topic (MQTT 5.0, section 4.7)."""
    if topic.startswith("$") and not topic_filter.startswith("$"):
        return False
    for wanted, level in zip_longest(topic_filter.split("/"), topic.split("/")):
        if wanted == "#":
            return True
        if level is None or wanted not in ("+", level):
            return False
    return True


class Subscriptions:
    """The handlers of one client, by topic filter."""

    def __init__(self) -> None:
        self._handlers: dict[str, MessageHandler] = {}

    @property
    def filters(self) -> frozenset[str]:
        """The topic filters that have a handler."""
        return frozenset(self._handlers)

    def add(self, topic_filter: str, handler: MessageHandler) -> None:
        """Hand messages whose topic the filter selects to `handler`."""
        self._handlers[topic_filter] = handler

    def remove(self, topic_filter: str) -> None:
        """Forget the handler of a filter."""
        del self._handlers[topic_filter]

    def deliver(self, message: Message) -> list[asyncio.Future[None]] | None:
        """Hand a message to every handler that wants its topic; return what they wait for.

        None stands for a message that no handler wants. A handler that raises is logged: nobody
        else is to miss the message, nor its acknowledgement, for it.
        """
        wanting = [h for wanted, h in self._handlers.items() if matches(wanted, message.topic)]
        outcomes = [_handled(handler, message) for handler in wanting]
        return [outcome for outcome in outcomes if outcome is not None] if wanting else None


def _handled(handler: MessageHandler, message: Message) -> asyncio.Future[None] | None:
    try:
        return handler(message)
    except Exception:
        log.exception("a message on %s could not be handled", message.topic)
        return None
