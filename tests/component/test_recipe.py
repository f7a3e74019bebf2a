"""The recipes follow the rules of the reference, and those of both runtimes.

Sources: "AWS IoT Greengrass component recipe reference" in the developer guide, for names, case and
values; "Types of Recipes Supported by GG nucleus lite" in nucleus lite's documentation.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from s3downloader.core.settings import Settings, parameter_name
from sandbox.device import SOURCE
from sandbox.nucleus import Recipe
from sandbox.nucleus.recipe import interpolate
from tools.project import Component, components

COMPONENTS = components()
RECIPES = [component.folder / "recipe.yaml" for component in COMPONENTS]
each = pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)

TEXT = (SOURCE / "recipe.yaml").read_text()
RECIPE = yaml.safe_load(TEXT)
"""The recipe of the downloader."""


def record(required: str, optional: str = "", **properties: Any) -> dict[str, Any]:
    """Return the schema of an object with exactly these keys; values are strings by default."""
    names = [*required.split(), *optional.split()]
    return {
        "type": "object",
        "properties": {name: properties.get(name, {"type": "string"}) for name in names},
        "required": required.split(),
        "additionalProperties": False,
    }


STEP = record(
    "Script",
    "RequiresPrivilege Timeout Setenv",
    RequiresPrivilege={"const": False},
    Timeout={"type": "integer", "minimum": 1},
    Setenv={"type": "object", "additionalProperties": {"type": "string"}},
)
ARTIFACT = record(
    "URI",
    "Unarchive Permission",
    Unarchive={"enum": ["NONE", "ZIP"]},
    Permission=record(
        "",
        "Read Execute",
        Read={"enum": ["NONE", "OWNER", "ALL"]},
        Execute={"enum": ["NONE", "OWNER", "ALL"]},
    ),
)
MANIFEST = record(
    "Platform Lifecycle Artifacts",
    "Name",
    Platform=record(
        "os architecture runtime",
        os={"const": "linux"},
        architecture={"enum": ["amd64", "aarch64", "arm", "x86"]},
        runtime={"const": "*"},
    ),
    Lifecycle=record("install run", install=STEP, run=STEP),
    Artifacts={"type": "array", "items": ARTIFACT},
)
POLICY = record(
    "policyDescription operations resources",
    operations={
        "type": "array",
        "items": {"type": "string", "pattern": r"^aws\.greengrass#[A-Z][A-Za-z]+$"},
    },
    resources={"type": "array", "items": {"type": "string"}, "minItems": 1},
)
DEPENDENCY = record("VersionRequirement DependencyType", DependencyType={"enum": ["HARD", "SOFT"]})
SCHEMA = record(
    "RecipeFormatVersion ComponentName ComponentVersion ComponentDescription ComponentPublisher"
    " ComponentConfiguration ComponentDependencies Manifests",
    RecipeFormatVersion={"const": "2020-01-25"},
    ComponentName={"const": "{COMPONENT_NAME}"},
    ComponentVersion={"const": "{COMPONENT_VERSION}"},
    ComponentPublisher={"const": "{COMPONENT_AUTHOR}"},
    ComponentConfiguration=record("DefaultConfiguration", DefaultConfiguration={"type": "object"}),
    ComponentDependencies={"type": "object", "additionalProperties": DEPENDENCY},
    Manifests={"type": "array", "items": MANIFEST, "minItems": 1},
)


def access_in(recipe: Path) -> dict[str, Any]:
    """Return the accessControl of a recipe."""
    loaded = yaml.safe_load(recipe.read_text())
    access = loaded["ComponentConfiguration"]["DefaultConfiguration"]["accessControl"]
    assert isinstance(access, dict)
    return access


@each
def test_names_casing_and_values_are_those_of_the_reference(recipe: Path) -> None:
    jsonschema.validate(yaml.safe_load(recipe.read_text()), SCHEMA)


@pytest.mark.parametrize(
    ("where", "wrong"),
    [("Script:", "script:"), ("RequiresPrivilege: false", "RequiresPrivilege: true"),
     ("install:", "Install:"), ('runtime: "*"', 'runtimes: "*"'), ("os:", "OS:")],
)  # fmt: skip
def test_the_rules_find_what_breaks_them(where: str, wrong: str) -> None:
    assert where in TEXT
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(TEXT.replace(where, wrong)), SCHEMA)


@each
def test_it_is_smaller_than_a_recipe_may_be(recipe: Path) -> None:
    assert recipe.stat().st_size <= 16_000


@each
def test_yaml_features_that_not_every_parser_knows_are_absent(recipe: Path) -> None:
    text = recipe.read_text()
    assert not re.search(r"^\s*(?:[\w.]+:\s*)?[&*]\w|<<:", text, re.MULTILINE)


def test_every_parameter_has_its_default_and_a_description() -> None:
    configuration = dict(RECIPE["ComponentConfiguration"]["DefaultConfiguration"])
    del configuration["accessControl"]
    defaults = Settings()
    for field in Settings.__struct_fields__:
        value = configuration.pop(parameter_name(field))
        if value != "":  # the default
            expected = getattr(defaults, field)
            assert value == (list(expected) if isinstance(expected, tuple) else expected)
    assert configuration == {}


@each
def test_parameters_are_described(recipe: Path) -> None:
    text = recipe.read_text().split("DefaultConfiguration:\n")[1]
    lines = text.split("    accessControl:")[0].splitlines()
    assert lines[0].lstrip().startswith("#")


@each
@pytest.mark.parametrize("runtime", [None, "aws_nucleus_lite"])
@pytest.mark.parametrize("architecture", ["amd64", "aarch64"])
def test_both_runtimes_find_the_steps_on_both_machines(
    runtime: str | None, architecture: str, recipe: Path
) -> None:
    steps = Recipe.load(recipe).steps(runtime=runtime, architecture=architecture)
    assert list(steps) == ["install", "run"]
    assert steps["install"].timeout == 900
    assert steps["run"].timeout is None
    for step in steps.values():
        assert "configuration:" not in step.script, "a change of it would restart the component"
        filled = interpolate(
            step.script,
            configuration={},
            artifacts=Path("/artifacts"),
            work=Path("/work"),
            thing_name="thing",
            strict=True,
        )
        assert "sudo" not in filled
        assert not re.search(r"[{}]", filled)


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.name)
def test_access_is_limited_to_topics_and_shadow_of_the_thing(component: Component) -> None:
    for service, policies in access_in(component.folder / "recipe.yaml").items():
        for name, policy in policies.items():
            jsonschema.validate(policy, POLICY)
            assert name.startswith(f"{component.name}:")
            for resource in policy["resources"]:
                assert resource.startswith(
                    (
                        "s3downloader/{iot:thingName}/",
                        "$aws/things/{iot:thingName}/shadow/name/models",
                    )
                ), f"{service} may reach {resource}"


@each
def test_names_of_policies_are_unique(recipe: Path) -> None:
    names = [name for policies in access_in(recipe).values() for name in policies]
    assert len(names) == len(set(names))


@each
def test_no_dependency_that_dies_takes_the_component_with_it(recipe: Path) -> None:
    assert "HARD" not in Recipe.load(recipe).dependencies.values()


def test_the_token_exchange_comes_with_the_component() -> None:
    assert "aws.greengrass.TokenExchangeService" in Recipe.load(SOURCE / "recipe.yaml").dependencies


IOT_ACTIONS = {
    "aws.greengrass#PublishToIoTCore": {"iot:Publish": "topic"},
    "aws.greengrass#SubscribeToIoTCore": {"iot:Subscribe": "topicfilter", "iot:Receive": "topic"},
}


def test_the_documented_iot_policy_allows_what_the_recipe_does() -> None:
    page = (SOURCE.parents[1] / "docs" / "deployment.md").read_text()
    section = page.split("### The IoT policy")[1]
    policy = json.loads(section.split("```json\n")[1].split("```")[0])
    documented = {
        (statement["Action"], resource)
        for statement in policy["Statement"]
        if isinstance(statement["Action"], str)
        for resource in statement["Resource"]
    }
    access = access_in(SOURCE / "recipe.yaml")
    wanted = {
        (action, f"arn:aws:iot:REGION:ACCOUNT:{kind}/{_for_iot(resource)}")
        for rule in access["aws.greengrass.ipc.mqttproxy"].values()
        for operation in rule["operations"]
        for resource in rule["resources"]
        for action, kind in IOT_ACTIONS[operation].items()
    }
    assert documented == wanted


def _for_iot(topic: str) -> str:
    return topic.replace("{iot:thingName}", "${iot:Connection.Thing.ThingName}")
