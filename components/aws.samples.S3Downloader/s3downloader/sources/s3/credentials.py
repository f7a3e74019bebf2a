"""Provides the credentials for requests to S3, and renews them before they expire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from urllib.parse import urlsplit

from ...core.aio import timeout
from ...core.clock import Clock
from ...core.errors import DownloaderError
from . import container_credentials
from .container_credentials import Keys, NotListeningError, unavailable

__all__ = ["Credentials", "Keys", "Locate"]

Locate = Callable[[], Awaitable[str | None]]
"""Returns the present URL of the token exchange service, or None if it is not known."""

# All in seconds.
_RENEW_BEFORE = 300.0  # the nucleus has new keys this long before the old ones expire
_RETRY_AFTER = 10.0  # between two attempts, if the nucleus has no new keys yet
_UNDATED_LIFETIME = 900.0  # of keys without a time of expiry: the shortest that AWS gives
_REQUEST_TIMEOUT = 60.0  # for all that getting keys may need
_RECENT = 60.0  # if the service gave keys so recently, it is taken to be working
_GONE_AFTER = 120.0  # by then a service that is being restarted is back


class Credentials:
    """Gets keys from the environment, from the token exchange service, or by boto3's chain.

    The first of these that is configured is used:

    1. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    2. The service at the URL that `locate` returns, or that AWS_CONTAINER_CREDENTIALS_FULL_URI or
       AWS_CONTAINER_CREDENTIALS_RELATIVE_URI has.
    3. boto3's chain of files, profiles and instance roles. boto3 is loaded only in this case,
       because it needs 40 MiB.

    The token exchange service of nucleus lite gets another port at each of its starts, so `locate`
    is called at each renewal. A configured URL with another path is not that service's, and is not
    replaced.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        clock: Clock,
        locate: Locate | None = None,
        may_end: Callable[[], bool] = lambda: True,
    ) -> None:
        """`may_end` returns whether the process would be started again if it ended now."""
        self._environment = environment
        self._clock = clock
        self._locate = locate
        self._may_end = may_end
        self._keys: Keys | None = None
        self._asked_at = -_RETRY_AFTER
        self._renewing: asyncio.Task[Keys] | None = None
        self._region: str | None = None
        self._answered: tuple[str, float] | None = None  # the URL that gave the last keys, and when
        self._is_located = False  # whether the URL is the one that `locate` returned
        self._gone_since: float | None = None
        self._lost = asyncio.Event()

    @property
    def region(self) -> str:
        """The region for signatures: that of the environment, of boto3's files, or `us-east-1`.

        The region in boto3's files is known only after boto3 has been used to get keys.
        """
        named = (self._environment.get(name) for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
        return next(filter(None, named), None) or self._region or "us-east-1"

    async def get(self) -> Keys:
        """Return keys that are valid now. Calls at the same time share one request for them.

        Raises CREDENTIALS_UNAVAILABLE.
        """
        if self._keys is not None and not self._should_renew(self._keys):
            return self._keys
        try:
            return await self._renew()
        except DownloaderError:
            if self._keys is None or self._ends_within(self._keys, 0.0):
                raise
            return self._keys  # still valid

    def invalidate(self, expired: Keys | None = None) -> None:
        """Discard the keys `expired`, so that the next `get` requests new ones.

        If newer keys have replaced them meanwhile, those are kept. Without an argument, the present
        keys are discarded.
        """
        if expired is None or expired is self._keys:
            self._keys = None

    async def environment(self) -> dict[str, str]:
        """Return the environment for a program that gets its keys by itself, as s5cmd does.

        It contains the present URL of the token exchange service. Raises CREDENTIALS_UNAVAILABLE
        if the service gives no keys. This is checked here, because s5cmd accepts a response without
        keys, and reports any other failure only as a missing provider.
        """
        environment = dict(self._environment)
        if _has_keys(environment) or not (url := await self._container_url()):
            return environment
        if not self._has_answered(url, _RECENT):
            await self._renew()
        if self._is_located:
            environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = url
        return environment

    async def wait_lost(self) -> None:
        """Wait until only a restart of the process can provide keys. Then raise.

        That is the case if the token exchange service has given keys before, nothing has listened
        at its address for two minutes, and the nucleus does not return another one: then a new
        address comes only with the environment of a new process. Does not raise while the nucleus
        might not start the component again. Raises CREDENTIALS_UNAVAILABLE.
        """
        await self._lost.wait()
        raise unavailable(
            "the token exchange service is no longer at its address, and the nucleus gives no other"
            " address; the component must be started again",
            container_credentials.configured_url(self._environment),
        )

    def _has_answered(self, url: str, within: float) -> bool:
        if self._answered is None or self._answered[0] != url:
            return False
        return self._clock.monotonic() - self._answered[1] < within

    def _should_renew(self, keys: Keys) -> bool:
        since = self._clock.monotonic() - self._asked_at
        if keys.expires_at is None:
            return self._answered is not None and since >= _UNDATED_LIFETIME
        return self._ends_within(keys, 0.0 if since < _RETRY_AFTER else _RENEW_BEFORE)

    async def _renew(self) -> Keys:
        """Wait for the running request for new keys, or start one, and return its keys."""
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew_once())
            self._renewing.add_done_callback(self._on_renewed)
        return await asyncio.shield(self._renewing)

    async def _renew_once(self) -> Keys:
        self._asked_at = self._clock.monotonic()
        self._keys = await self._request_keys()
        return self._keys

    def _on_renewed(self, task: asyncio.Task[Keys]) -> None:
        self._renewing = None
        if not task.cancelled():
            task.exception()  # marks it as retrieved: those that waited have got it

    def _ends_within(self, keys: Keys, seconds: float) -> bool:
        if keys.expires_at is None:
            return False
        return keys.expires_at.timestamp() - self._clock.now() < seconds

    async def _request_keys(self) -> Keys:
        """Request new keys, and return them if they have not expired."""
        if _has_keys(self._environment):
            return _from_environment(self._environment)
        url = await self._container_url()
        request = (
            partial(container_credentials.request_keys, url, self._environment)
            if url
            else self._from_boto3
        )
        try:
            async with timeout(_REQUEST_TIMEOUT):
                keys = await asyncio.to_thread(request)
        except TimeoutError:
            raise unavailable(
                "no credentials arrived in time; check the device's connection",
                f"no complete response within {_REQUEST_TIMEOUT:g} s",
            ) from None
        except NotListeningError:
            self._check_address()
            raise
        self._gone_since = None
        if url:
            self._answered = url, self._clock.monotonic()
        if self._ends_within(keys, 0.0):
            raise unavailable(
                "the new credentials have already expired; make sure that the device's clock is"
                " right",
                f"they were valid until {keys.expires_at}",
            )
        return keys

    async def _container_url(self) -> str:
        """Return the present URL of the token exchange service, empty if there is none.

        Sets `_is_located`.
        """
        configured = container_credentials.configured_url(self._environment)
        address = (await self._locate() if self._locate else None) or ""
        is_of_the_service = not configured or configured.endswith(urlsplit(address).path)
        self._is_located = bool(address) and is_of_the_service
        return address if self._is_located else configured

    def _check_address(self) -> None:
        """Record that nothing listens at the address, and set `_lost` if that is final."""
        now = self._clock.monotonic()
        if self._gone_since is None:
            self._gone_since = now
        is_outdated = self._answered and self._locate and not self._is_located
        if is_outdated and now - self._gone_since >= _GONE_AFTER and self._may_end():
            self._lost.set()

    def _from_boto3(self) -> Keys:
        from botocore.exceptions import BotoCoreError  # imported late: it needs 40 MiB
        from botocore.session import Session

        try:
            session = Session()
            self._region = session.get_config_variable("region")
            found = session.get_credentials()
            frozen = found.get_frozen_credentials() if found else None
        except BotoCoreError as error:
            raise unavailable(
                "the files and profiles of AWS contain no valid credentials; check them", error
            ) from error
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise unavailable(
                "there are no credentials; set the AWS variables in the environment, or on"
                " Greengrass the device's token exchange role",
                "Unable to locate credentials",
            )
        # botocore has no public attribute for it.
        expires_at: datetime | None = getattr(found, "_expiry_time", None)
        return Keys(frozen.access_key, frozen.secret_key, frozen.token or None, expires_at)


def _has_keys(environment: Mapping[str, str]) -> bool:
    return bool(environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY"))


def _from_environment(environment: Mapping[str, str]) -> Keys:
    return Keys(
        environment["AWS_ACCESS_KEY_ID"],
        environment["AWS_SECRET_ACCESS_KEY"],
        environment.get("AWS_SESSION_TOKEN") or None,
    )
