"""build_all.sh builds the components."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tools.artifact import NOTE
from tools.build import build
from tools.project import ROOT, Component, ProjectError, components

from .conftest import SETTINGS, add_component

DOWNLOADER = "aws.samples.S3Downloader"


def component_named(name: str, root: Path) -> Component:
    return next(component for component in components(root) if component.name == name)


def test_all_components_are_found_with_their_settings(repository: Path) -> None:
    one, two = components(repository)
    assert (one.name, one.version, one.author) == ("com.example.One", "NEXT_PATCH", "Somebody")
    assert (two.name, two.version, two.bucket) == ("com.example.Two", "2.1.0", "things")


def test_the_result_has_gdk_s_layout_and_placeholders(repository: Path) -> None:
    component = component_named("com.example.Two", repository)
    artifact = build(component)
    built = component.folder / "greengrass-build"
    assert artifact == built / "artifacts" / "com.example.Two" / "2.1.0" / "main-artifact.zip"
    recipe = yaml.safe_load((built / "recipes" / "recipe.yaml").read_text())
    assert recipe["ComponentName"] == "com.example.Two"
    assert recipe["ComponentVersion"] == "2.1.0"
    assert recipe["ComponentPublisher"] == "Somebody"
    [manifest] = recipe["Manifests"]
    assert manifest["Lifecycle"]["run"]["Script"] == "echo {iot:thingName}"
    [published] = manifest["Artifacts"]
    assert published["URI"] == "s3://BUCKET_NAME/COMPONENT_NAME/COMPONENT_VERSION/main-artifact.zip"


def test_the_same_sources_give_the_same_bytes(repository: Path) -> None:
    component = component_named("com.example.One", repository)
    first = build(component).read_bytes()
    main = component.folder / "main.py"
    os.utime(main, (1, 1))
    main.chmod(0o600)
    (component.folder / "__pycache__").mkdir()
    (component.folder / "__pycache__" / "main.cpython-311.pyc").write_bytes(b"x")
    assert build(component).read_bytes() == first
    main.write_text("print('changed')\n")
    assert build(component).read_bytes() != first


def test_the_artifact_has_what_runs_and_nothing_else(downloader: Component) -> None:
    names = zipfile.ZipFile(build(downloader)).namelist()
    assert {"main.py", "install.sh", "install_s5cmd.sh", "requirements.txt", NOTE} <= set(names)
    assert "s3downloader/store/schema.sql" in names
    for name in names:
        assert name.split("/")[0] in {
            "main.py", "install.sh", "install_s5cmd.sh", "requirements.txt", "s3downloader", NOTE,
        }  # fmt: skip
        assert name.endswith((".py", ".sh", ".txt", ".sql"))


def test_the_example_s_artifact_has_what_runs_and_nothing_else(tmp_path: Path) -> None:
    source = ROOT / "examples" / "model_consumer"
    shutil.copytree(source, tmp_path / "examples" / "model_consumer")
    [component] = components(tmp_path)
    assert component.name == "aws.samples.ModelConsumer"
    names = zipfile.ZipFile(build(component)).namelist()
    assert names == ["consumer.py", "install.sh", "model.py", "nucleus.py", "requirements.txt"]


def test_the_artifact_is_small_and_its_scripts_are_executable(downloader: Component) -> None:
    artifact = build(downloader)
    assert artifact.stat().st_size < 250_000, "it is to hold the code alone"
    for entry in zipfile.ZipFile(artifact).infolist():
        mode = entry.external_attr >> 16
        assert bool(mode & stat.S_IXUSR) == entry.filename.endswith(".sh")


def test_only_a_component_with_a_note_loses_its_comments(repository: Path) -> None:
    component = component_named("com.example.One", repository)
    (component.folder / "main.py").write_text("a = 1  # why\n")
    assert zipfile.ZipFile(build(component)).read("main.py") == b"a = 1  # why\n"
    (component.folder / NOTE).write_text("Python without comments.\n")
    assert zipfile.ZipFile(build(component)).read("main.py") == b"a = 1\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "must be a gdk-config.json"),
        ("[]", "must be a gdk-config.json"),
        ('{"component": {"a": {"author": "b"}}}', "KeyError: 'version'"),
        (json.dumps({"component": {"a": {**SETTINGS, "version": "one"}}}), "version is 'one'"),
    ],
)
def test_a_broken_configuration_is_named(repository: Path, text: str, says: str) -> None:
    (repository / "components" / "com.example.One" / "gdk-config.json").write_text(text)
    with pytest.raises(ProjectError, match=r"com\.example\.One") as refused:
        components(repository)
    assert says in str(refused.value)


def test_one_configuration_serves_gdk_in_the_component_s_folder() -> None:
    top = ROOT / "gdk-config.json"
    assert (ROOT / "components" / DOWNLOADER / "gdk-config.json").resolve() == top
    [(name, settings)] = json.loads(top.read_text())["component"].items()
    assert name == DOWNLOADER
    assert settings["build"]["build_system"] == "custom"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of what building needs, with a component of its own."""
    root = tmp_path / "clone"
    shutil.copytree(ROOT / "tools", root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "build_all.sh", root)
    folder = add_component(root, DOWNLOADER)
    shutil.copy(ROOT / "gdk-config.json", root)
    (folder / "gdk-config.json").unlink()
    (folder / "gdk-config.json").symlink_to("../../gdk-config.json")
    return root


GDK = """#!/bin/sh
# What gdk does for a component whose build system is custom: an empty folder, then the command.
rm -rf greengrass-build && mkdir -p greengrass-build/recipes && touch .used-gdk
exec "$PYTHON" -c '
import json, subprocess, sys
[(_, settings)] = json.load(open("gdk-config.json"))["component"].items()
sys.exit(subprocess.run(settings["build"]["custom_build_command"]).returncode)'
"""


@pytest.mark.parametrize("with_gdk", [True, False])
def test_build_all_builds_alike_with_gdk_and_without(clone: Path, with_gdk: bool) -> None:
    programs = clone / "programs"
    programs.mkdir()
    if with_gdk:
        (programs / "gdk").write_text(GDK)
        (programs / "gdk").chmod(0o755)
    ended = subprocess.run(
        [str(clone / "build_all.sh")],
        env={"PATH": f"{programs}:{os.environ['PATH']}", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    component = component_named(DOWNLOADER, clone)
    assert (component.folder / ".used-gdk").exists() == with_gdk
    built = (component.artifacts_folder / "main-artifact.zip").read_bytes()
    assert build(component).read_bytes() == built


def test_an_unknown_component_is_refused(clone: Path) -> None:
    ended = subprocess.run(
        [str(clone / "build_all.sh"), "--only", "nobody"],
        env={"PATH": os.environ["PATH"], "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert (
        ended.stderr
        == f"build_all.sh: there is no component nobody; the components are {DOWNLOADER}\n"
    )


def test_shadow_manager_is_a_soft_dependency_only_on_request(
    downloader: Component,
) -> None:
    def dependencies() -> dict[str, object]:
        loaded = yaml.safe_load(downloader.built_recipe.read_text())["ComponentDependencies"]
        assert isinstance(loaded, dict)
        return loaded

    build(downloader)
    assert list(dependencies()) == ["aws.greengrass.TokenExchangeService"]
    build(downloader, shadow_manager=True)
    soft = {"VersionRequirement": ">=2.0.0", "DependencyType": "SOFT"}
    assert dependencies()["aws.greengrass.ShadowManager"] == soft
