"""Credentials for the store, renewed while downloads go on."""

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
"""Gives the address of the token exchange service as it is now, None where nobody tells."""

_RENEW_BEFORE = 300.0  # seconds; the nucleus has new ones from then on
_AGAIN_AFTER = 10.0  # seconds; where there are none yet
_UNDATED = 900.0  # seconds; the shortest that AWS gives, for keys that do not say when they expire
_LONGEST = 60.0  # seconds that a look for keys may take
_FRESH = 60.0  # seconds; an answer this young tells that the service gives keys
_GONE_FOR = 120.0  # seconds; a service that is started again is back by then


class Credentials:
    """The keys of the environment, of the token exchange service, or of what boto3 finds.

    The first of these that is configured counts: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY;
    AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI, or the address that `locate` gives; else
    boto3's chain of files, profiles and instance roles. boto3, with its 40 MiB, is loaded in the
    last case only.

    The token exchange service of nucleus lite has another port after each of its starts, so the
    address is asked for anew with each renewal. It replaces one of that service only: an address
    with another path is somebody's own choice.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        clock: Clock,
        locate: Locate | None = None,
        may_end: Callable[[], bool] = lambda: True,
    ) -> None:
        """`may_end` tells whether the process, if it ended now, would be started again."""
        self._environment = environment
        self._clock = clock
        self._locate = locate
        self._may_end = may_end
        self._keys: Keys | None = None
        self._asked_at = -_AGAIN_AFTER
        self._looking: asyncio.Task[Keys] | None = None
        self._region: str | None = None
        self._answered: tuple[str, float] | None = None  # at which address keys came last, and when
        self._is_located = False  # whether the address is one that the nucleus tells
        self._gone_since: float | None = None
        self._lost = asyncio.Event()

    @property
    def region(self) -> str:
        """The region to sign for, AWS's default where none is configured.

        What boto3 finds in its files counts once it was asked for keys.
        """
        named = (self._environment.get(name) for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
        return next(filter(None, named), None) or self._region or "us-east-1"

    async def get(self) -> Keys:
        """Return keys that are good now; callers at one time share one look for them.

        Raises CREDENTIALS_UNAVAILABLE.
        """
        if self._keys is not None and not self._should_renew(self._keys):
            return self._keys
        try:
            return await self._look()
        except DownloaderError:
            if self._keys is None or self._ends_within(self._keys, 0.0):
                raise
            return self._keys  # still good for a while

    def forget(self, expired: Keys | None = None) -> None:
        """Ask again next time: the store said that the keys `expired` have, or whatever is here.

        Where others have replaced them meanwhile, those are kept.
        """
        if expired is None or expired is self._keys:
            self._keys = None

    async def environment(self) -> dict[str, str]:
        """Return the environment for a program that looks for its keys itself, as s5cmd does.

        It has the address of the token exchange service as it is now. Raises
        CREDENTIALS_UNAVAILABLE where that gives no keys: s5cmd takes an answer without keys for
        keys, and tells of all else that there is no provider.
        """
        environment = dict(self._environment)
        if _has_keys(environment) or not (url := await self._container_url()):
            return environment
        if not self._has_answered(url, _FRESH):
            await self._look()
        if self._is_located:
            environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = url
        return environment

    async def wait_lost(self) -> None:
        """Raise CREDENTIALS_UNAVAILABLE once only another start of the process can bring keys.

        That is where the token exchange service has answered before, nobody has listened at its
        address for two minutes, and nobody tells another one: the nucleus gives it with the
        environment. It is not raised while the nucleus might not start the component again.
        """
        await self._lost.wait()
        raise unavailable(
            "the token exchange service has gone from its address, and the nucleus tells no other:"
            " the component must be started again",
            container_credentials.configured_url(self._environment),
        )

    def _has_answered(self, url: str, within: float) -> bool:
        if self._answered is None or self._answered[0] != url:
            return False
        return self._clock.monotonic() - self._answered[1] < within

    def _should_renew(self, keys: Keys) -> bool:
        since = self._clock.monotonic() - self._asked_at
        if keys.expires_at is None:
            return self._answered is not None and since >= _UNDATED
        return self._ends_within(keys, 0.0 if since < _AGAIN_AFTER else _RENEW_BEFORE)

    async def _look(self) -> Keys:
        """Return what the look for new keys finds that is under way, or else begins now."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_once())
            self._looking.add_done_callback(self._on_found)
        return await asyncio.shield(self._looking)

    async def _look_once(self) -> Keys:
        self._asked_at = self._clock.monotonic()
        self._keys = await self._find()
        return self._keys

    def _on_found(self, task: asyncio.Task[Keys]) -> None:
        self._looking = None
        if not task.cancelled():
            task.exception()  # whoever waited has it; if nobody did, it does not matter

    def _ends_within(self, keys: Keys, seconds: float) -> bool:
        if keys.expires_at is None:
            return False
        return keys.expires_at.timestamp() - self._clock.now() < seconds

    async def _find(self) -> Keys:
        """Return new keys, which have not expired."""
        if _has_keys(self._environment):
            return _from_environment(self._environment)
        url = await self._container_url()
        find = (
            partial(container_credentials.ask, url, self._environment) if url else self._from_boto3
        )
        try:
            async with timeout(_LONGEST):
                keys = await asyncio.to_thread(find)
        except TimeoutError:
            raise unavailable(
                "no credentials came in time; check the device's connection",
                f"no whole answer within {_LONGEST:g} s",
            ) from None
        except NotListeningError:
            self._check_address()
            raise
        self._gone_since = None
        if url:
            self._answered = url, self._clock.monotonic()
        if self._ends_within(keys, 0.0):
            raise unavailable(
                "the credentials that came have expired already; see that the device's clock is"
                " right",
                f"they were good until {keys.expires_at}",
            )
        return keys

    async def _container_url(self) -> str:
        """Return where the token exchange service is now, empty where keys come from elsewhere."""
        configured = container_credentials.configured_url(self._environment)
        address = (await self._locate() if self._locate else None) or ""
        is_of_the_service = not configured or configured.endswith(urlsplit(address).path)
        self._is_located = bool(address) and is_of_the_service
        return address if self._is_located else configured

    def _check_address(self) -> None:
        """Find out whether the address is one of the service's past."""
        now = self._clock.monotonic()
        if self._gone_since is None:
            self._gone_since = now
        is_past = self._answered and self._locate and not self._is_located
        if is_past and now - self._gone_since >= _GONE_FOR and self._may_end():
            self._lost.set()

    def _from_boto3(self) -> Keys:
        from botocore.exceptions import BotoCoreError  # see the class
        from botocore.session import Session

        try:
            session = Session()
            self._region = session.get_config_variable("region")
            found = session.get_credentials()
            frozen = found.get_frozen_credentials() if found else None
        except BotoCoreError as error:
            raise unavailable(
                "AWS's files and profiles have no valid credentials; check them", error
            ) from error
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise unavailable(
                "there are no credentials; set the AWS variables in the environment, or on"
                " Greengrass the device's token exchange role",
                "Unable to locate credentials",
            )
        expires_at: datetime | None = getattr(found, "_expiry_time", None)  # no public name
        return Keys(frozen.access_key, frozen.secret_key, frozen.token or None, expires_at)


def _has_keys(environment: Mapping[str, str]) -> bool:
    return bool(environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY"))


def _from_environment(environment: Mapping[str, str]) -> Keys:
    return Keys(
        environment["AWS_ACCESS_KEY_ID"],
        environment["AWS_SECRET_ACCESS_KEY"],
        environment.get("AWS_SESSION_TOKEN") or None,
    )
