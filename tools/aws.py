"""Publishes components to AWS: the artifact to S3, the recipe to AWS IoT Greengrass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from .project import Component, ProjectError

if TYPE_CHECKING:
    from mypy_boto3_greengrassv2 import GreengrassV2Client
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import BucketLocationConstraintType

__all__ = ["Aws"]

_CHECKS = 60
"""How often the state of a new version is requested, once per second, until it is deployable."""


class Aws:
    """An account in a region, with the bucket for artifacts.

    The bucket is `BUCKET-REGION-ACCOUNT`, with BUCKET from gdk-config.json, as for gdk; or it is
    `bucket`. It is created if it does not exist. `pause` sleeps for a number of seconds. Errors of
    boto3 become ProjectError.
    """

    def __init__(
        self,
        *,
        account: str,
        region: str,
        s3: S3Client,
        greengrass: GreengrassV2Client,
        bucket: str | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.place = f"{account}/{region}"
        self._account = account
        self._region = region
        self._s3 = s3
        self._greengrass = greengrass
        self._bucket = bucket
        self._pause = pause

    @classmethod
    def of_the_environment(cls, region: str, *, bucket: str | None = None) -> Aws:
        """Use the credentials of the environment. Raises ProjectError if there are none."""
        try:
            session = boto3.session.Session(region_name=region)
            account = session.client("sts").get_caller_identity()["Account"]
            s3, greengrass = session.client("s3"), session.client("greengrassv2")
        except (BotoCoreError, ClientError) as error:
            raise ProjectError(f"AWS does not accept the credentials: {error}") from error
        return cls(account=account, region=region, s3=s3, greengrass=greengrass, bucket=bucket)

    def versions(self, component: Component) -> list[str]:
        """Return the versions that exist, in any order."""
        arn = f"{self._arn_prefix()}:components:{component.name}"
        try:
            pages = self._greengrass.get_paginator("list_component_versions").paginate(arn=arn)
            return [
                version["componentVersion"]
                for page in pages
                for version in page.get("componentVersions", [])
            ]
        except (BotoCoreError, ClientError) as error:
            raise ProjectError(
                f"the versions of {component.name} cannot be listed: {error}"
            ) from error

    def publish(self, component: Component, version: str) -> None:
        """Upload the artifacts, create the version, and wait until it can be deployed."""
        bucket = self._bucket or f"{component.bucket}-{self._region}-{self._account}"
        recipe = _recipe(component, version, bucket)
        try:
            self._make_bucket(bucket)
            for artifact in sorted(component.artifacts_folder.iterdir()):
                with artifact.open("rb") as body:
                    self._s3.put_object(
                        Bucket=bucket,
                        Key=f"{component.name}/{version}/{artifact.name}",
                        Body=body,
                        ExpectedBucketOwner=self._account,
                    )
            created = self._greengrass.create_component_version(inlineRecipe=recipe.encode())
            self._wait(created["arn"])
        except (BotoCoreError, ClientError) as error:
            raise ProjectError(
                f"{component.name} {version} cannot be published: {error}"
            ) from error

    def _make_bucket(self, bucket: str) -> None:
        try:
            self._s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=self._account)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 403:
                raise ProjectError(
                    f"the bucket {bucket} belongs to another account, or access is denied; choose"
                    " another one in gdk-config.json or with --bucket"
                ) from error
            if status != 404:
                raise
            if self._region == "us-east-1":
                self._s3.create_bucket(Bucket=bucket)
            else:
                location = cast("BucketLocationConstraintType", self._region)
                self._s3.create_bucket(
                    Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": location}
                )

    def _wait(self, arn: str) -> None:
        for _ in range(_CHECKS):
            status = self._greengrass.describe_component(arn=arn).get("status", {})
            if status.get("componentState") == "DEPLOYABLE":
                return
            if status.get("componentState") == "FAILED":
                raise ProjectError(f"{arn} failed: {status.get('message', 'no reason is given')}")
            self._pause(1)
        raise ProjectError(
            f"{arn} is not deployable after {_CHECKS} s; see its state in the Greengrass console"
        )

    def _arn_prefix(self) -> str:
        partition = "aws"
        if self._region.startswith("cn-"):
            partition = "aws-cn"
        elif self._region.startswith("us-gov-"):
            partition = "aws-us-gov"
        return f"arn:{partition}:greengrass:{self._region}:{self._account}"


def _recipe(component: Component, version: str, bucket: str) -> str:
    """Return the built recipe with bucket and version; also write it beside it, as gdk does."""
    text = component.built_recipe.read_text()
    uri = f"s3://{bucket}/{component.name}/{version}/"
    text = text.replace("s3://BUCKET_NAME/COMPONENT_NAME/COMPONENT_VERSION/", uri)
    text = text.replace(f'"{component.version}"', f'"{version}"', 1)
    (component.built_recipe.parent / f"{component.name}-{version}.yaml").write_text(text)
    return text
