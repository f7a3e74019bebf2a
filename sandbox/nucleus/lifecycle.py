"""Runs a component by the scripts of its recipe."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from s3downloader.core.aio import timeout

from .nucleus import TOKEN_EXCHANGE, Nucleus
from .recipe import Recipe, Step, interpolate

__all__ = ["LifecycleError", "RunningComponent", "run_component"]

_INSTALL_TIMEOUT = 120.0  # seconds, the nucleus's default
_INHERITED = ("HOME", "LANG", "PATH")
_WATCHDOG = 'cat; kill -s KILL -- "-$0"'  # its standard input is closed when the sandbox ends


class LifecycleError(Exception):
    """The install step has failed; the message has the end of its output."""


class RunningComponent:
    """A running script of a component, with its child processes; their output goes to `log`.

    They are one process group, which is killed when the sandbox ends, even after kill -9. (A
    parent-death signal would reach only the shell, and not what the shell has started.)
    """

    def __init__(
        self, shell: asyncio.subprocess.Process, watchdog: asyncio.subprocess.Process, log: Path
    ) -> None:
        self.log = log
        self._shell = shell
        self._watchdog = watchdog

    @classmethod
    async def start(
        cls,
        script: str,
        *,
        cwd: Path,
        environment: Mapping[str, str],
        log: Path,
        wrapper: Sequence[str] = (),
    ) -> RunningComponent:
        """Start a shell script in the folder `cwd`.

        `wrapper` is a command that runs the shell, such as one that confines it.
        """
        with log.open("ab") as output:
            shell = await asyncio.create_subprocess_exec(
                *wrapper, "/bin/sh", "-c", script,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=cwd, env=dict(environment), start_new_session=True,
            )  # fmt: skip
        watchdog = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", _WATCHDOG, str(shell.pid),
            stdin=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        return cls(shell, watchdog, log)

    @property
    def pid(self) -> int:
        """The process ID of the shell, which is also the ID of the process group."""
        return self._shell.pid

    @property
    def returncode(self) -> int | None:
        """The exit status of the script, negative for a signal; None while it runs."""
        return self._shell.returncode

    async def wait(self) -> int:
        """Wait until the script ends, and return its exit status."""
        return await self._shell.wait()

    async def stop(self, *, grace: float = 5.0) -> int:
        """Stop all processes as the nucleus does; return the exit status of the script.

        They get SIGTERM, and SIGKILL after `grace` seconds.
        """
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with timeout(grace):
                await self._shell.wait()
        return await self.kill()

    async def kill(self) -> int:
        """Send SIGKILL to all processes; return the exit status of the script."""
        if self._watchdog.returncode is None:
            self._watchdog.kill()
        await self._watchdog.wait()
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        self._signal(signal.SIGKILL)
        return await self._shell.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


async def run_component(
    nucleus: Nucleus,
    recipe: Recipe,
    *,
    artifacts: Path,
    environment: Mapping[str, str] | None = None,
    wrappers: Mapping[str, Sequence[str]] | None = None,
) -> RunningComponent:
    """Run the install step of a registered component, then start its run step and return it.

    Both run in the component's work folder, with the environment variables of the nucleus, the
    recipe and `environment`. Nucleus lite gives the address of TokenExchangeService only to a
    component whose recipe depends on that. `artifacts` is the folder with the unpacked artifacts.
    `wrappers` has commands that run the shell of a step, by the name of the step.

    Raises RecipeError if no manifest is for this machine, and LifecycleError if the install step
    fails.
    """
    steps = recipe.steps(runtime=nucleus.personality.runtime)

    async def start(name: str) -> RunningComponent:
        return await _start(
            nucleus,
            recipe,
            steps[name],
            artifacts=artifacts,
            environment=environment or {},
            wrapper=(wrappers or {}).get(name, ()),
        )

    if "install" in steps:
        await _finish(await start("install"), recipe, steps["install"].timeout or _INSTALL_TIMEOUT)
    return await start("run")


async def _finish(install: RunningComponent, recipe: Recipe, seconds: float) -> None:
    try:
        async with timeout(seconds):
            status: int | str = await install.wait()
    except TimeoutError:
        status = f"none, it was stopped after {seconds:g} s"
    finally:
        await install.kill()
    if status != 0:
        tail = install.log.read_text(errors="replace")[-2000:]
        raise LifecycleError(f"Install of {recipe.component}: exit status {status}\n{tail}")


async def _start(
    nucleus: Nucleus,
    recipe: Recipe,
    step: Step,
    *,
    artifacts: Path,
    environment: Mapping[str, str],
    wrapper: Sequence[str],
) -> RunningComponent:
    work = nucleus.work_folder(recipe.component)

    def fill(text: str) -> str:
        return interpolate(
            text,
            configuration=nucleus.configuration(recipe.component),
            artifacts=artifacts,
            work=work,
            thing_name=nucleus.thing_name,
            strict=nucleus.personality.runtime is not None,
        )

    of_nucleus = nucleus.component_environment(recipe.component)
    if nucleus.personality.runtime is not None and TOKEN_EXCHANGE not in recipe.dependencies:
        del of_nucleus["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    return await RunningComponent.start(
        fill(step.script),
        cwd=work,
        environment={
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            **of_nucleus,
            **{name: fill(value) for name, value in step.environment.items()},
            **environment,
        },
        log=nucleus.log_file(recipe.component),
        wrapper=wrapper,
    )
