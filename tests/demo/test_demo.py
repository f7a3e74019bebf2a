"""The demo runs all steps, prints command lines that work, and removes everything at its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sandbox.demo.steps import STEPS
from sandbox.processes import Process
from tests.demo.demo_runs import ROOT, DemoRun, TerminalRun, at_once, on_terminal, without_terminal
from tests.support import eventually

STARTED = "the component runs"
INVITATION = "Enter or Ctrl-C ends the sandbox"


@pytest.fixture(scope="module", autouse=True)
async def side_by_side(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[DemoRun, TerminalRun]]:
    """Start the two long runs, which continue while the other tests run."""
    async with without_terminal(tmp_path_factory.mktemp("lines")) as lines:
        await lines.shows(STARTED)  # until then another run may choose the same ports
        async with on_terminal(tmp_path_factory.mktemp("terminal")) as terminal:
            await terminal.shows(STARTED)
            yield lines, terminal


@pytest.fixture
def lines(side_by_side: tuple[DemoRun, TerminalRun]) -> DemoRun:
    return side_by_side[0]


@pytest.fixture
def terminal(side_by_side: tuple[DemoRun, TerminalRun]) -> TerminalRun:
    return side_by_side[1]


async def test_too_little_space_is_told_before_anything_starts(tmp_path: Path) -> None:
    async with without_terminal(tmp_path, "--size", "1000000000") as demo:
        assert await demo.ended() == 1
        assert re.match(r"The demo needs \d+ MB in \S+, but only \d+ MB are free", demo.output)


async def test_a_component_that_cannot_start_is_told_with_its_log(tmp_path: Path) -> None:
    for part in ("components", "sandbox"):
        shutil.copytree(ROOT / part, tmp_path / part)
    main = tmp_path / "components" / "aws.samples.S3Downloader" / "main.py"
    main.write_text("raise SystemExit('there is no such module')")
    async with without_terminal(tmp_path, checkout=tmp_path) as demo:
        assert await demo.ended() == 1
        assert "✗ The component ended by itself, with exit status 1." in demo.output
        assert "there is no such module" in demo.output
        assert "Traceback" not in demo.output
        assert demo.left_behind() == []


async def test_a_server_that_dies_is_named(tmp_path: Path) -> None:
    async with without_terminal(tmp_path) as demo:
        await demo.shows("vlm-7B downloading")
        os.kill(child_of(demo.pid, "weed"), signal.SIGKILL)
        assert await demo.ended() == 1
        assert "✗ The S3 server, SeaweedFS, has ended" in demo.output
        assert "listening on s3downloader/edge-01/commands" in demo.output
        assert "Traceback" not in demo.output
        assert demo.left_behind() == []


async def test_ctrl_c_stops_everything(tmp_path: Path) -> None:
    async with without_terminal(tmp_path) as demo:
        await demo.shows("vlm-7B downloading")
        os.kill(demo.pid, signal.SIGINT)
        await eventually(lambda: "Everything is stopped" in demo.output)
        assert await demo.ended() == 130
        assert "Traceback" not in demo.output
        assert demo.left_behind() == []


async def test_without_a_terminal_it_prints_plain_lines_and_ends(lines: DemoRun) -> None:
    assert await lines.ended() == 0, lines.output
    titles = [f"Step {number} of 7: {step.title}" for number, step in enumerate(STEPS, 1)]
    places = [lines.output.index(text) for text in (*titles, "All 7 steps succeeded")]
    assert places == sorted(places)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lines.output)
    assert lines.left_behind() == []


@pytest.mark.parametrize(
    "message",
    [
        r'→ s3downloader/edge-01/commands {"command": "pause", "download_id": "vlm-7B"}',
        r"← s3downloader/edge-01/status vlm-7B downloading \d+ %, .* of 12 MB",
        r'← s3downloader/edge-01/responses {"event": "download_completed"',
        r'← \$aws/things/edge-01/shadow/name/models/get/accepted .*"local_path": "…/models/vlm-7B"',
        r'← s3downloader/edge-01/responses .*"error_code": "unknown_command".* did you mean down',
    ],
)
async def test_it_shows_the_messages_of_both_directions(lines: DemoRun, message: str) -> None:
    await lines.ended()
    assert re.search(message, lines.output)


async def test_on_a_terminal_it_stays_and_the_lines_it_prints_work(
    terminal: TerminalRun, tmp_path: Path
) -> None:
    await terminal.shows(INVITATION)
    assert all(f"✓ {step.name}" in terminal.output for step in STEPS)
    hear, status, objects, download, shadow = re.findall(r"mosquitto_.*", terminal.output)
    async with listening(hear, tmp_path / "heard") as received:
        while not received():
            await shell(status)
        await eventually(lambda: '"active_downloads":0' in received())
        await shell(objects)
        await eventually(lambda: '"key":"vlm-7B/config.json"' in received())
        await shell(download)
        await eventually(lambda: '"event":"download_started"' in received())
    assert "vlm-7B" in json.loads(await shell(shadow))["state"]["reported"]["models"]
    await terminal.shows('{"command": "status"}')
    terminal.press(b"\n")
    assert await terminal.ended() == 0


@contextlib.asynccontextmanager
async def listening(line: str, output: Path) -> AsyncIterator[Callable[[], str]]:
    """Run a command line that does not end; yield a function that returns its output so far."""
    process = await Process.start(["sh", "-c", f"exec {line}"], log=output, ready=at_once)
    try:
        yield output.read_text
    finally:
        await process.stop()


async def shell(line: str) -> bytes:
    """Run a command line in a shell and return its output."""
    child = await asyncio.create_subprocess_shell(line, stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    assert child.returncode == 0
    return output


def child_of(pid: int, name: str) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    [child] = [c for c in children if Path(f"/proc/{c}/comm").read_text().strip() == name]
    return int(child)
