"""Credentials for the store, renewed while downloads go on.

Source: "Container credential provider" in the AWS SDKs and Tools reference guide, which is what
Greengrass's token exchange service speaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import msgspec

from .clock import Clock
from .errors import DownloaderError, ErrorCode

__all__ = ["Credentials", "Keys"]

_SECONDS = 5.0
_RENEW_BEFORE = 300.0  # seconds; the nucleus has new ones from then on
_AGAIN_AFTER = 10.0  # seconds; where there are none yet
_ANSWER_BYTES = 1 << 16
_CONTAINER_HOST = "169.254.170.2"  # of RELATIVE_URI, on Amazon ECS
_CONTAINER_HOSTS = {_CONTAINER_HOST, "169.254.170.23", "[fd00:ec2::23]", "localhost"}


class Keys(msgspec.Struct, frozen=True):
    """What signs a request. `expires_at` is None for keys that last."""

    access_key_id: str
    secret_access_key: str = ""
    token: str | None = None
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Keys({self.access_key_id!r}, ..., expires_at={self.expires_at})"


class Credentials:
    """The keys of the environment, of the token exchange service, or of what boto3 finds.

    The first of these that is configured counts: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY;
    AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI; else boto3's chain of files, profiles and
    instance roles. boto3, with its 40 MiB, is loaded in the last case only.
    """

    def __init__(self, environment: Mapping[str, str], clock: Clock) -> None:
        self._environment = environment
        self._clock = clock
        self._keys: Keys | None = None
        self._asked_at = -_AGAIN_AFTER
        self._asking: asyncio.Task[Keys] | None = None
        self._region: str | None = None

    @property
    def region(self) -> str:
        """The region to sign for, AWS's default where none is configured.

        What boto3 finds in its files counts once it was asked for keys.
        """
        names = ("AWS_REGION", "AWS_DEFAULT_REGION")
        told = next((self._environment[name] for name in names if self._environment.get(name)), "")
        return told or self._region or "us-east-1"

    async def get(self) -> Keys:
        """Return keys that are good now; callers at one time share one request.

        Raises CREDENTIALS_UNAVAILABLE.
        """
        if self._keys is not None and not self._should_renew(self._keys):
            return self._keys
        if self._asking is None:
            self._asking = asyncio.create_task(self._renew())
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)

    def forget(self, expired: Keys | None = None) -> None:
        """Ask again next time: the store said that the keys `expired` have, or whatever is here.

        Where others have replaced them meanwhile, those are kept.
        """
        if expired is None or expired is self._keys:
            self._keys = None

    def _should_renew(self, keys: Keys) -> bool:
        asked_lately = self._clock.monotonic() - self._asked_at < _AGAIN_AFTER
        return self._ends_within(keys, 0.0 if asked_lately else _RENEW_BEFORE)

    async def _renew(self) -> Keys:
        self._asked_at = self._clock.monotonic()
        try:
            keys = await asyncio.to_thread(self._find())
        except DownloaderError:
            if self._keys is None or self._ends_within(self._keys, 0.0):
                raise
            return self._keys  # still good for a while
        self._keys = keys
        return keys

    def _asked(self, task: asyncio.Task[Keys]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # whoever waited has it; if nobody did, it does not matter

    def _ends_within(self, keys: Keys, seconds: float) -> bool:
        if keys.expires_at is None:
            return False
        return keys.expires_at.timestamp() - self._clock.now() < seconds

    def _find(self) -> Callable[[], Keys]:
        """Return what gets the keys; it may block."""
        environment = self._environment
        if environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY"):
            return self._from_environment
        if environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") or environment.get(
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
        ):
            return self._from_container
        return self._from_boto3

    def _from_environment(self) -> Keys:
        return Keys(
            self._environment["AWS_ACCESS_KEY_ID"],
            self._environment["AWS_SECRET_ACCESS_KEY"],
            self._environment.get("AWS_SESSION_TOKEN") or None,
        )

    def _from_container(self) -> Keys:
        url = _container_url(self._environment)
        connect = HTTPSConnection if url.scheme == "https" else HTTPConnection
        try:
            with contextlib.closing(connect(url.netloc, timeout=_SECONDS)) as connection:
                path = url.path + (f"?{url.query}" if url.query else "")
                connection.request("GET", path or "/", headers=self._authorization())
                response = connection.getresponse()
                body = response.read(_ANSWER_BYTES)
        except (OSError, HTTPException, ValueError) as error:
            raise _unavailable(
                "the token exchange service does not answer; see that it runs", error
            ) from error
        if response.status != 200:
            raise _unavailable(
                f"the token exchange service answered with status {response.status}; check the"
                " device's role alias, and its connection",
                body.decode(errors="replace"),
            )
        try:
            return msgspec.json.decode(body, type=_Answer).keys
        except msgspec.MsgspecError as error:
            raise _unavailable(
                "the token exchange service's answer has no keys; see that the address in"
                " AWS_CONTAINER_CREDENTIALS_FULL_URI is its own",
                error,  # not the answer: it may hold secrets
            ) from None

    def _authorization(self) -> dict[str, str]:
        token = self._environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
        if file := self._environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
            token = Path(file).read_text().strip()
        return {"Accept": "application/json", **({"Authorization": token} if token else {})}

    def _from_boto3(self) -> Keys:
        from botocore.exceptions import BotoCoreError  # see the class
        from botocore.session import Session

        try:
            session = Session()
            self._region = session.get_config_variable("region")
            found = session.get_credentials()
            frozen = found.get_frozen_credentials() if found else None
        except BotoCoreError as error:
            raise _unavailable(
                "AWS's files and profiles have no valid credentials; check them", error
            ) from error
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise _unavailable(
                "there are no credentials; set the AWS variables in the environment, or on"
                " Greengrass the device's token exchange role",
                "Unable to locate credentials",
            )
        expires_at: datetime | None = getattr(found, "_expiry_time", None)  # no public name
        return Keys(frozen.access_key, frozen.secret_key, frozen.token or None, expires_at)


class _Answer(msgspec.Struct, rename="pascal"):
    """The answer of a container credential provider."""

    access_key_id: str
    secret_access_key: str
    token: str = ""
    expiration: datetime | None = None

    @property
    def keys(self) -> Keys:
        expires_at = self.expiration
        if expires_at is not None and expires_at.tzinfo is None:
            expires_at = expires_at.replace(tzinfo=timezone.utc)
        return Keys(self.access_key_id, self.secret_access_key, self.token or None, expires_at)


def _container_url(environment: Mapping[str, str]) -> SplitResult:
    """Return where to ask; keys are not fetched in the clear from anywhere but this machine."""
    relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if relative:
        return urlsplit(f"http://{_CONTAINER_HOST}{relative}")
    url = urlsplit(environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
    safe = url.scheme == "https" or (url.scheme == "http" and _is_here(url))
    if not safe:
        raise _unavailable(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or an address of this machine",
            url.netloc,
        )
    return url


def _is_here(url: SplitResult) -> bool:
    host = url.netloc.rpartition("@")[2]
    if (host if host.endswith("]") else host.partition(":")[0]) in _CONTAINER_HOSTS:
        return True
    try:
        return ipaddress.ip_address(url.hostname or "").is_loopback
    except ValueError:
        return False


def _unavailable(message: str, cause: object) -> DownloaderError:
    return DownloaderError(ErrorCode.CREDENTIALS_UNAVAILABLE, message, cause=str(cause))
