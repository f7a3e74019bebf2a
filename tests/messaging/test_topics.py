"""Topic filters."""

from __future__ import annotations

import pytest

from s3downloader.messaging.bus import Message
from s3downloader.messaging.topics import Subscriptions, matches


@pytest.mark.parametrize(
    ("topic_filter", "topic", "selected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a//c", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("+/b", "a/b", True),
        ("#", "$aws/things", False),
        ("+/things", "$aws/things", False),
        ("$aws/#", "$aws/things", True),
        ("A/b", "a/b", False),
    ],
)
def test_filters_select_topics(topic_filter: str, topic: str, selected: bool) -> None:
    assert matches(topic_filter, topic) is selected


def test_a_handler_that_raises_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    def raises(_: Message) -> None:
        raise ValueError("a bug")

    received: list[Message] = []
    subscriptions = Subscriptions()
    subscriptions.add("a/b", raises)
    subscriptions.add("a/+", received.append)
    message = Message("a/b", b"")
    assert subscriptions.deliver(message) == []
    assert received == [message]
    assert "a/b could not be handled" in caplog.text
