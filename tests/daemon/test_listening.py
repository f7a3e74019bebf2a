"""Messaging refuses the subscription to commands."""

from __future__ import annotations

from ..support import ManualClock
from .harness import Harness

COMMANDS = "s3downloader/edge/commands"
LISTEN_AGAIN = 15.0


async def asks_again(clock: ManualClock) -> None:
    """Wait until the daemon sleeps before it subscribes again."""
    while await clock.next_sleep() != LISTEN_AGAIN:
        continue


async def test_denied_commands_are_told_once_and_asked_for_again(
    harness: Harness, clock: ManualClock
) -> None:
    harness.hub.denied.add(COMMANDS)
    async with harness.running():
        [notice] = await harness.until(lambda: harness.notices)
        assert notice["error_code"] == "access_denied"
        assert COMMANDS in notice["message"]
        for _ in range(3):
            await asks_again(clock)
            clock.wake()
            harness.check_up()
        await asks_again(clock)
        assert harness.notices == [notice]
        harness.hub.denied.clear()
        clock.wake()
        daemon = harness.hub.clients[-1]
        await harness.until(lambda: COMMANDS in daemon.filters)
        assert (await harness.ask("disk_space"))["success"]
