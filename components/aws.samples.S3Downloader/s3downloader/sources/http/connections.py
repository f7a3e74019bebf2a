"""The connections to all servers: one place that opens, keeps, checks and closes them.

Proxies are those of the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY), as urllib.request reads
it, reached with CONNECT. Certificates are those of the system, or of AWS_CA_BUNDLE.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPSConnection
from threading import Lock
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from ...core.errors import DownloaderError, ErrorCode
from .requests import HttpRequest
from .streaming import CompleteHeadResponse, StreamingResponse

__all__ = ["Connections", "Route"]

_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 15.0  # servers close a connection after some more

Watch = Callable[[socket.socket | None], None]
"""Gets the socket before anything is awaited from it, each time that another is used; None before
one is connected. What it raises ends the request."""


class Route(NamedTuple):
    """The way to a server. Connections of one route serve each other's requests."""

    scheme: str
    host: str
    """With the port, where the URL names one."""
    proxy: str
    """The proxy's URL, empty for none."""
    ca_bundle: str
    """The file of the certificates that are trusted, empty for the system's."""


class _Idle(NamedTuple):
    connection: HTTPConnection
    since: float


class Connections:
    """Connections that are kept between requests; for any number of threads."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], Route] = {}
        self._idle: dict[Route, list[_Idle]] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._making_context = Lock()  # which takes a while: many connections begin at once

    def close_idle(self) -> None:
        """Close the connections that are kept for later."""
        for idle in list(self._idle.values()):
            while idle:
                idle.pop().connection.close()

    def send(
        self, request: HttpRequest, *, patience: float, watch: Watch = lambda _: None
    ) -> StreamingResponse:
        """Send a request, and return its response as far as its head; blocks.

        It goes over a connection that is kept, or else over a new one. The server may be silent for
        `patience` seconds. Raises as http.client does, and what `watch` raises.
        """
        route = self._route(request.scheme, request.host)
        for connection in self._kept(route):
            with contextlib.suppress(ConnectionError):  # closed by the server while it was idle
                return self._send(connection, route, request, patience, watch)
        seconds = min(_CONNECT_SECONDS, patience)
        return self._send(self._new(route, seconds), route, request, patience, watch)

    def _send(
        self,
        connection: HTTPConnection,
        route: Route,
        request: HttpRequest,
        patience: float,
        watch: Watch,
    ) -> StreamingResponse:
        try:
            watch(connection.sock)
            if connection.sock is None:
                connection.connect()
                watch(connection.sock)
            connection.sock.settimeout(patience)
            # Not signed, since proxies change it: the signature would be wrong.
            headers = {**request.headers, "accept-encoding": "identity"}
            connection.request(request.method, request.path, headers=headers)
            response = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        return StreamingResponse(connection, response, lambda: self._keep(connection, route))

    def _keep(self, connection: HTTPConnection, route: Route) -> None:
        self._idle.setdefault(route, []).append(_Idle(connection, time.monotonic()))

    def _kept(self, route: Route) -> Iterator[HTTPConnection]:
        """Take the connections that are kept, one by one, the one used last first."""
        idle = self._idle.setdefault(route, [])
        while True:
            try:
                connection, since = idle.pop()
            except IndexError:
                return
            if time.monotonic() - since < _IDLE_SECONDS and _is_quiet(connection.sock):
                yield connection
            else:
                connection.close()

    def _route(self, scheme: str, host: str) -> Route:
        """Return the way to a server, which the environment is asked for once."""
        if not (route := self._routes.get((scheme, host))):
            proxy = "" if proxy_bypass(host) else getproxies().get(scheme, "")
            if proxy and "://" not in proxy:
                proxy = f"http://{proxy}"
            route = Route(scheme, host, proxy, os.environ.get("AWS_CA_BUNDLE", ""))
            self._routes[scheme, host] = route
        return route

    def _new(self, route: Route, seconds: float) -> HTTPConnection:
        """Return a connection that is still to be opened, in `seconds` for each of its steps."""
        via = urlsplit(route.proxy).netloc.rpartition("@")[2] or route.host
        connection = (
            HTTPSConnection(via, timeout=seconds, context=self._context(route.ca_bundle))
            if route.scheme == "https"
            else HTTPConnection(via, timeout=seconds)
        )
        connection.response_class = CompleteHeadResponse
        if route.proxy:
            connection.set_tunnel(route.host, headers=_proxy_authorization(route.proxy))
        return connection

    def _context(self, ca_bundle: str) -> ssl.SSLContext:
        with self._making_context:
            if ca_bundle not in self._contexts:
                self._contexts[ca_bundle] = _new_context(ca_bundle)
            return self._contexts[ca_bundle]


def _new_context(ca_bundle: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_bundle or None)
    except OSError as error:
        raise DownloaderError(
            ErrorCode.ENGINE_FAILED,
            f"the certificates of AWS_CA_BUNDLE, {ca_bundle}, cannot be read; name a file with"
            " certificates in PEM format, or leave the variable out",
            cause=str(error),
        ) from error


def _is_quiet(connected: socket.socket) -> bool:
    """Return whether nothing has come on an idle connection, as its end, or what nobody asked."""
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return not poll.poll(0)


def _proxy_authorization(proxy: str) -> dict[str, str]:
    """Return the credentials that a proxy's URL has, as a header."""
    url = urlsplit(proxy)
    if not url.username:
        return {}
    user = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}
