"""A component is run by its recipe."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from sandbox.nucleus import LifecycleError, Nucleus, Recipe, RecipeError, run_component
from sandbox.nucleus.recipe import interpolate
from tests.support import eventually

RECIPE = """
RecipeFormatVersion: "2020-01-25"
ComponentName: com.example.Tiny
ComponentVersion: "1.0.0"
ComponentConfiguration:
  DefaultConfiguration:
    Interval: 10
    Nested: {Name: "a b"}
    accessControl:
      aws.greengrass.ipc.mqttproxy:
        com.example.Tiny:mqtt:1:
          operations: ["aws.greengrass#PublishToIoTCore"]
          resources: ["*"]
Manifests:
  - Platform: {os: windows}
    Lifecycle: {Run: "echo wrong"}
  - Platform: {os: linux, runtime: "*"}
    Lifecycle:
      Setenv: {WHO: "{iot:thingName}"}
      Install: "echo installed > {work:path}/installed"
      Run:
        Setenv: {EVERY: "{configuration:/Interval}"}
        Script: |
          cat installed
          echo $WHO $EVERY "{configuration:/Nested/Name}" '{configuration:/Nested}'
          echo {configuration:/No} ${HOME:-none}
          cat {artifacts:decompressedPath}/file
          echo $SVCUID $EXTRA; pwd
          exit 3
"""


def write_recipe(folder: Path, text: str = RECIPE) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return Recipe.load(path)


async def test_the_configuration_is_read_from_the_recipe(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    assert recipe.component == "com.example.Tiny"
    assert recipe.configuration == {"Interval": 10, "Nested": {"Name": "a b"}}
    assert list(recipe.access_control) == ["aws.greengrass.ipc.mqttproxy"]


@pytest.mark.parametrize(
    ("wanted", "runtime", "suits"),
    [
        ("{}", None, True),
        ("{os: linux}", None, True),
        ("{os: all}", None, True),
        ('{os: "*", runtime: "*"}', None, True),
        ("{os: darwin}", None, False),
        ("{os: linux, architecture: sparc}", None, False),
        ("{os: linux}", "aws_nucleus_lite", False),
        ("{runtime: aws_nucleus_lite}", "aws_nucleus_lite", True),
        ('{os: linux, runtime: "*"}', "aws_nucleus_lite", True),
        ("{runtime: aws_nucleus_lite}", None, False),
    ],
)
def test_the_manifest_is_picked_by_platform(
    tmp_path: Path, wanted: str, runtime: str | None, suits: bool
) -> None:
    recipe = write_recipe(
        tmp_path,
        f"ComponentName: a\nManifests: [{{Platform: {wanted}, Lifecycle: {{run: hello}}}}]",
    )
    if suits:
        assert recipe.steps(runtime=runtime)["run"].script == "hello"
    else:
        with pytest.raises(RecipeError, match="no manifest of a is for this machine"):
            recipe.steps(runtime=runtime)


@pytest.mark.parametrize(
    ("architecture", "says"), [("amd64", "hello"), ("aarch64", "hallo"), ("arm", None)]
)
def test_the_manifest_is_picked_by_architecture(
    tmp_path: Path, architecture: str, says: str | None
) -> None:
    recipe = write_recipe(
        tmp_path,
        """
ComponentName: a
Manifests:
  - {Platform: {architecture: amd64}, Lifecycle: {run: hello}}
  - {Platform: {architecture: aarch64}, Lifecycle: {run: hallo}}
""",
    )
    if says:
        assert recipe.steps(architecture=architecture)["run"].script == says
    else:
        with pytest.raises(RecipeError):
            recipe.steps(architecture=architecture)


def test_only_the_java_nucleus_takes_keys_in_any_case(tmp_path: Path) -> None:
    text = """
ComponentName: a
Manifests:
  - Platform: {runtime: "*"}
    Lifecycle:
      Install: hello
      run: {script: hello, TimeOut: 3, Setenv: {A: b}}
"""
    recipe = write_recipe(tmp_path, text)
    steps = recipe.steps()
    assert steps["install"].script == "hello"
    assert steps["run"].timeout == 3
    assert steps["run"].environment == {"A": "b"}
    with pytest.raises(RecipeError, match="no Script"):
        recipe.steps(runtime="aws_nucleus_lite")
    recipe = write_recipe(tmp_path, text.replace("script", "Script"))
    assert list(recipe.steps(runtime="aws_nucleus_lite")) == ["run"]


@pytest.mark.parametrize("script", ["echo ${HOME}", "f() { true; }", "echo {work:home}"])
def test_lite_takes_every_brace_for_a_recipe_variable(tmp_path: Path, script: str) -> None:
    fill = partial(interpolate, script, configuration={}, artifacts=tmp_path, work=tmp_path)
    assert fill(thing_name="t") == script
    with pytest.raises(RecipeError, match="is not a recipe variable"):
        fill(thing_name="t", strict=True)


async def test_the_recipe_says_how_long_install_may_take(nucleus: Nucleus, tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path,
        """
ComponentName: a
Manifests: [{Lifecycle: {install: {Script: sleep 60, Timeout: 0.05}, run: ls}}]
""",
    )
    nucleus.register("a")
    with pytest.raises(
        LifecycleError, match=r"Install of a: exit status none, it was stopped after 0\.05 s"
    ):
        await run_component(nucleus, recipe, artifacts=tmp_path)


async def test_a_step_runs_confined_by_its_wrapper(nucleus: Nucleus, tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path,
        "ComponentName: a\nManifests: [{Lifecycle: {install: echo $HOW, run: echo $HOW}}]",
    )
    nucleus.register("a")
    running = await run_component(
        nucleus,
        recipe,
        artifacts=tmp_path,
        environment={"HOW": "freely"},
        wrappers={"install": ["env", "HOW=confined"]},
    )
    assert await running.wait() == 0
    await running.stop()
    assert running.log.read_text().split() == ["confined", "freely"]


async def test_install_then_run_in_the_work_folder(nucleus: Nucleus, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    (artifacts / "file").write_text("artifact\n")
    nucleus.register(recipe.component, recipe.access_control, recipe.configuration)
    running = await run_component(
        nucleus, recipe, artifacts=artifacts, environment={"EXTRA": "more"}
    )
    assert await running.wait() == 3
    await running.stop()
    token = nucleus.component_environment(recipe.component)["SVCUID"]
    assert running.log.read_text().splitlines() == [
        "installed",
        'dev-01 10 a b {"Name":"a b"}',
        f"{{configuration:/No}} {os.environ['HOME']}",
        "artifact",
        f"{token} more",
        str(nucleus.work_folder(recipe.component)),
    ]


async def test_a_failed_install_shows_its_output(nucleus: Nucleus, tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path,
        "ComponentName: a\nManifests: [{Lifecycle: {install: echo no luck; exit 2, run: ls}}]",
    )
    nucleus.register("a")
    with pytest.raises(LifecycleError, match=r"Install of a: exit status 2\nno luck"):
        await run_component(nucleus, recipe, artifacts=tmp_path)


async def test_stop_reaches_every_process_and_does_not_wait_for_ever(
    nucleus: Nucleus, tmp_path: Path
) -> None:
    script = """sh -c "trap 'echo got TERM; exit' TERM; echo child; while :; do sleep 0.05; done" &
    trap "" TERM; echo parent; sleep 60"""
    recipe = write_recipe(
        tmp_path,
        f"ComponentName: a\nManifests: [{{Lifecycle: {{run: {json.dumps(script)}}}}}]",
    )
    nucleus.register("a")
    running = await run_component(nucleus, recipe, artifacts=tmp_path)
    await eventually(lambda: {"child", "parent"} <= set(running.log.read_text().split()))
    assert await running.stop(grace=2) == -signal.SIGKILL
    assert "got TERM" in running.log.read_text()
    await eventually(lambda: not group_exists(running.pid))


async def test_a_component_dies_with_the_sandbox(tmp_path: Path) -> None:
    program = """
import asyncio, pathlib, sys
from sandbox.nucleus import RunningComponent

async def main(folder):
    running = await RunningComponent.start(
        "sleep 60 & sleep 60; true", cwd=folder, environment={"PATH": "/bin"}, log=folder / "log"
    )
    print(running.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""
    sandbox = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert sandbox.stdout is not None
    pid = int(await sandbox.stdout.readline())
    assert group_exists(pid)
    sandbox.kill()
    await sandbox.wait()
    await eventually(lambda: not group_exists(pid))


def group_exists(group: int) -> bool:
    """Return whether a process of the group runs; zombies do not count."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, its_group = path.read_text().rpartition(") ")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return False
