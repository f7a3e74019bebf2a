"""Which components are published, with which version, and the requests to AWS for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import yaml
from botocore.stub import ANY, Stubber

from tools.aws import Aws
from tools.build import build
from tools.project import Component, ProjectError, components
from tools.publish import Gdk, Record, digest, publish

ACCOUNT = "123456789012"
PLACE = f"{ACCOUNT}/eu-west-1"


class Account:
    """An account that keeps published versions in memory."""

    place = PLACE

    def __init__(self, *versions: str) -> None:
        self.existing = list(versions)

    def versions(self, component: Component) -> list[str]:
        return list(self.existing)

    def publish(self, component: Component, version: str) -> None:
        self.existing.append(version)


@pytest.fixture
def component(repository: Path) -> Component:
    """The built com.example.One, whose version is NEXT_PATCH."""
    [one, _] = components(repository)
    build(one)
    return one


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "state" / "published.json")


def test_publishing_twice_publishes_once(
    component: Component, record: Record, tmp_path: Path
) -> None:
    account = Account()
    first = publish(component, account, record)
    assert first == f"com.example.One: published as 1.0.0 to {PLACE}"
    build(component)
    again = Record(tmp_path / "state" / "published.json")
    assert publish(component, account, again) == "com.example.One: unchanged since 1.0.0"
    assert account.existing == ["1.0.0"]


@pytest.mark.parametrize("changed", ["main.py", "recipe.yaml"])
def test_a_change_is_published_as_the_next_patch(
    component: Component, record: Record, changed: str
) -> None:
    account = Account()
    publish(component, account, record)
    with (component.folder / changed).open("a") as file:
        file.write("# changed\n")
    build(component)
    publish(component, account, record)
    assert account.existing == ["1.0.0", "1.0.1"]


def test_the_next_patch_follows_the_newest_version(component: Component, record: Record) -> None:
    account = Account("1.2.9", "1.2.10", "1.10.0-beta.1", "0.9.9")
    publish(component, account, record)
    assert account.existing[-1] == "1.10.1"


def test_what_was_deleted_meanwhile_is_published_again(
    component: Component, record: Record
) -> None:
    account = Account()
    publish(component, account, record)
    account.existing.clear()
    publish(component, account, record)
    assert account.existing == ["1.0.0"]


def test_each_place_has_its_own_record(component: Component, record: Record) -> None:
    publish(component, Account(), record)
    other = Account()
    other.place = f"{ACCOUNT}/us-east-1"
    publish(component, other, record)
    assert other.existing == ["1.0.0"]


def test_a_dry_run_publishes_nothing(component: Component, record: Record) -> None:
    account = Account("1.0.0")
    output = publish(component, account, record, dry_run=True)
    assert output == f"com.example.One: would be published as 1.0.1 to {PLACE}"
    assert account.existing == ["1.0.0"]
    assert record.version_of(PLACE, component, digest(component)) is None


def test_a_fixed_version_is_not_published_over(repository: Path, record: Record) -> None:
    [_, two] = components(repository)
    build(two)
    assert publish(two, Account(), record).endswith(f"published as 2.1.0 to {PLACE}")
    with pytest.raises(ProjectError, match=r"com\.example\.Two 2\.1\.0 exists already"):
        publish(two, Account("2.1.0"), Record(repository / "elsewhere.json"))


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "published.json"
    path.write_text("{")
    with pytest.raises(ProjectError, match=r"published\.json is not JSON; delete it"):
        Record(path)


class Stubs:
    """Stubbed clients of AWS, which refuse unexpected calls."""

    def __init__(self, region: str = "eu-west-1", bucket: str | None = None) -> None:
        session = boto3.session.Session("a", "b", region_name=region)
        s3, greengrass = session.client("s3"), session.client("greengrassv2")
        self.s3 = Stubber(s3)
        self.greengrass = Stubber(greengrass)
        self.pauses: list[float] = []
        self.aws = Aws(
            account=ACCOUNT,
            region=region,
            s3=s3,
            greengrass=greengrass,
            bucket=bucket,
            pause=self.pauses.append,
        )

    def has_bucket(self, name: str) -> None:
        self.s3.add_response("head_bucket", {}, {"Bucket": name, "ExpectedBucketOwner": ACCOUNT})

    def takes_artifact(self, bucket: str, key: str) -> None:
        self.s3.add_response(
            "put_object",
            {},
            {"Bucket": bucket, "Key": key, "Body": ANY, "ExpectedBucketOwner": ACCOUNT},
        )

    def takes_recipe(self, arn: str) -> None:
        made = {"arn": arn, "componentName": "n", "componentVersion": "v",
                "creationTimestamp": 0, "status": {"componentState": "REQUESTED"}}  # fmt: skip
        self.greengrass.add_response("create_component_version", made, {"inlineRecipe": ANY})

    def describes(self, arn: str, state: str, message: str = "under way") -> None:
        status = {"componentState": state, "message": message}
        self.greengrass.add_response("describe_component", {"status": status}, {"arn": arn})

    def done(self) -> None:
        self.s3.assert_no_pending_responses()
        self.greengrass.assert_no_pending_responses()


@pytest.fixture
def stubs() -> Iterator[Stubs]:
    stubs = Stubs()
    with stubs.s3, stubs.greengrass:
        yield stubs
    stubs.done()


ARN = f"arn:aws:greengrass:eu-west-1:{ACCOUNT}:components:com.example.One"
BUCKET = f"things-eu-west-1-{ACCOUNT}"


def test_artifact_and_recipe_go_to_aws(component: Component, stubs: Stubs) -> None:
    stubs.has_bucket(BUCKET)
    stubs.takes_artifact(BUCKET, "com.example.One/1.0.3/main-artifact.zip")
    stubs.takes_recipe(ARN)
    stubs.describes(ARN, "INITIATED")
    stubs.describes(ARN, "DEPLOYABLE")
    stubs.aws.publish(component, "1.0.3")
    assert stubs.pauses == [1]
    text = (component.built_recipe.parent / "com.example.One-1.0.3.yaml").read_text()
    recipe = yaml.safe_load(text)
    assert recipe["ComponentVersion"] == "1.0.3"
    [artifact] = recipe["Manifests"][0]["Artifacts"]
    assert artifact["URI"] == f"s3://{BUCKET}/com.example.One/1.0.3/main-artifact.zip"
    assert "BUCKET_NAME" not in text
    assert "NEXT_PATCH" not in text


@pytest.mark.parametrize("region", ["eu-west-1", "us-east-1"])
def test_a_missing_bucket_is_made(component: Component, region: str) -> None:
    stubs = Stubs(region, bucket="mine")
    place = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    with stubs.s3, stubs.greengrass:
        stubs.s3.add_client_error("head_bucket", "404", http_status_code=404)
        stubs.s3.add_response(
            "create_bucket", {}, {"Bucket": "mine", **(place if region != "us-east-1" else {})}
        )
        stubs.takes_artifact("mine", "com.example.One/1.0.0/main-artifact.zip")
        stubs.takes_recipe(ARN)
        stubs.describes(ARN, "DEPLOYABLE")
        stubs.aws.publish(component, "1.0.0")
    stubs.done()


def test_a_bucket_of_somebody_else_gets_nothing(component: Component, stubs: Stubs) -> None:
    stubs.s3.add_client_error("head_bucket", "403", http_status_code=403)
    with pytest.raises(ProjectError, match=f"the bucket {BUCKET} belongs to another account"):
        stubs.aws.publish(component, "1.0.0")


def test_a_version_that_fails_is_told(component: Component, stubs: Stubs) -> None:
    stubs.has_bucket(BUCKET)
    stubs.takes_artifact(BUCKET, "com.example.One/1.0.0/main-artifact.zip")
    stubs.takes_recipe(ARN)
    stubs.describes(ARN, "FAILED", "the recipe is wrong")
    with pytest.raises(ProjectError, match="the recipe is wrong"):
        stubs.aws.publish(component, "1.0.0")


def test_refusals_of_aws_are_told(component: Component, stubs: Stubs) -> None:
    stubs.greengrass.add_client_error("list_component_versions", "AccessDeniedException", "no")
    with pytest.raises(
        ProjectError, match=r"the versions of com\.example\.One cannot be listed: .*AccessDenied"
    ):
        stubs.aws.versions(component)


def test_all_pages_of_versions_are_read(component: Component, stubs: Stubs) -> None:
    def page(version: str) -> list[dict[str, str]]:
        return [{"componentName": "n", "componentVersion": version, "arn": ARN}]

    stubs.greengrass.add_response(
        "list_component_versions", {"componentVersions": page("1.0.1"), "nextToken": "t"},
        {"arn": ARN},
    )  # fmt: skip
    stubs.greengrass.add_response(
        "list_component_versions", {"componentVersions": page("1.0.0")},
        {"arn": ARN, "nextToken": "t"},
    )  # fmt: skip
    assert stubs.aws.versions(component) == ["1.0.1", "1.0.0"]


class Published(Account):
    """An account in which a version exists once the file `published` does."""

    def __init__(self, published: Path) -> None:
        super().__init__()
        self._published = published

    def versions(self, component: Component) -> list[str]:
        return ["1.0.0"] if self._published.exists() else []


@pytest.fixture
def gdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program gdk that only records its arguments and its folder."""
    programs = tmp_path / "programs"
    programs.mkdir()
    calls = tmp_path / "asked"
    (programs / "gdk").write_text(f'#!/bin/sh\necho "$PWD" "$@" >>{calls}\n')
    (programs / "gdk").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return calls


def test_gdk_publishes_in_the_component_s_folder(
    component: Component, record: Record, gdk: Path
) -> None:
    publisher = Gdk(Published(gdk), "eu-west-1", "mine")
    publish(component, publisher, record)
    publish(component, publisher, record)
    options = "component publish --region eu-west-1 --bucket mine"
    assert gdk.read_text() == f"{component.folder} {options}\n"


def test_what_gdk_did_not_publish_is_told(component: Component, record: Record, gdk: Path) -> None:
    with pytest.raises(ProjectError, match=r"gdk has not published com\.example\.One 1\.0\.0"):
        publish(component, Gdk(Account(), "eu-west-1", None), record)
    assert record.version_of(PLACE, component, digest(component)) is None
