"""Matches topics with MQTT topic filters, and delivers messages to the handlers that match."""

from __future__ import annotations

import asyncio
import logging
from itertools import zip_longest

from .bus import Message, MessageHandler

__all__ = ["Subscriptions", "matches"]

log = logging.getLogger(__name__)


def matches(topic_filter: str, topic: str) -> bool:
    """Return whether a topic filter matches a topic (MQTT 5.0, section 4.7)."""
    if topic.startswith("$") and not topic_filter.startswith("$"):
        return False
    for pattern, level in zip_longest(topic_filter.split("/"), topic.split("/")):
        if pattern == "#":
            return True
        if level is None or pattern not in ("+", level):
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
        """Deliver messages whose topic matches the filter to `handler`."""
        self._handlers[topic_filter] = handler

    def remove(self, topic_filter: str) -> None:
        """Remove the handler of a filter."""
        del self._handlers[topic_filter]

    def deliver(self, message: Message) -> list[asyncio.Future[None]] | None:
        """Call every handler whose filter matches the message, and return their futures.

        Returns None if no filter matches. An exception of a handler is logged, so that it keeps
        neither the message from the other handlers nor its acknowledgement from the broker.
        """
        matching = [h for pattern, h in self._handlers.items() if matches(pattern, message.topic)]
        outcomes = [_call(handler, message) for handler in matching]
        return [outcome for outcome in outcomes if outcome is not None] if matching else None


def _call(handler: MessageHandler, message: Message) -> asyncio.Future[None] | None:
    try:
        return handler(message)
    except Exception:
        log.exception("a message on %s could not be handled", message.topic)
        return None
