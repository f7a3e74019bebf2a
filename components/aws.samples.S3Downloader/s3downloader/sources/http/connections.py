"""Opens, keeps, checks and closes the connections to all servers.

Proxies are taken from the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY), as urllib.request reads
it. Requests pass a proxy through a tunnel, which CONNECT opens. A server's certificate is checked
against the certificates of the system, or against those in the file that AWS_CA_BUNDLE names.
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
_IDLE_SECONDS = 15.0  # shorter than the idle timeout of common servers

Watch = Callable[[socket.socket | None], None]
"""Is called with the socket of a request before anything is read from it.

It is called again when the request changes to another socket, and with None before a socket is
connected. An exception that it raises ends the request.
"""


class Route(NamedTuple):
    """The way to a server. A connection can be used for all requests of the same route."""

    scheme: str
    host: str
    """The name of the server, with the port if the URL has one."""
    proxy: str
    """The URL of the proxy, empty for none."""
    ca_bundle: str
    """The path of the file with the trusted certificates, empty for those of the system."""


class _Idle(NamedTuple):
    connection: HTTPConnection
    since: float


class Connections:
    """Keeps connections open between requests. Safe for use by several threads."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], Route] = {}
        self._idle: dict[Route, list[_Idle]] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        # Making a context is slow, and many connections are opened at once.
        self._making_context = Lock()

    def close_idle(self) -> None:
        """Close the connections that no request uses now."""
        for idle in list(self._idle.values()):
            while idle:
                idle.pop().connection.close()

    def send(
        self, request: HttpRequest, *, time_limit: float, watch: Watch = lambda _: None
    ) -> StreamingResponse:
        """Send a request, and return the response when its head has been read. Blocks.

        Uses a connection that was kept, or else opens a new one. A read that waits for more than
        `time_limit` seconds raises TimeoutError. Also raises OSError and http.client.HTTPException,
        DownloaderError (ENGINE_FAILED) if AWS_CA_BUNDLE cannot be read, and what `watch` raises.
        """
        route = self._route(request.scheme, request.host)
        for connection in self._kept(route):
            with contextlib.suppress(ConnectionError):  # closed by the server while it was idle
                return self._send(connection, route, request, time_limit, watch)
        seconds = min(_CONNECT_SECONDS, time_limit)
        return self._send(self._new(route, seconds), route, request, time_limit, watch)

    def _send(
        self,
        connection: HTTPConnection,
        route: Route,
        request: HttpRequest,
        time_limit: float,
        watch: Watch,
    ) -> StreamingResponse:
        try:
            watch(connection.sock)
            if connection.sock is None:
                connection.connect()
                watch(connection.sock)
            connection.sock.settimeout(time_limit)
            # Not part of the signature: a proxy may change it, and the signature would be wrong.
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
        """Yield the usable connections that were kept, beginning with the one used last.

        A connection is removed from those kept when it is yielded. Unusable ones are closed.
        """
        idle = self._idle.setdefault(route, [])
        while True:
            try:
                connection, since = idle.pop()
            except IndexError:
                return
            if time.monotonic() - since < _IDLE_SECONDS and _is_usable(connection.sock):
                yield connection
            else:
                connection.close()

    def _route(self, scheme: str, host: str) -> Route:
        """Return the way to a server. The environment is read once for each server."""
        if not (route := self._routes.get((scheme, host))):
            proxy = "" if proxy_bypass(host) else getproxies().get(scheme, "")
            if proxy and "://" not in proxy:
                proxy = f"http://{proxy}"
            route = Route(scheme, host, proxy, os.environ.get("AWS_CA_BUNDLE", ""))
            self._routes[scheme, host] = route
        return route

    def _new(self, route: Route, seconds: float) -> HTTPConnection:
        """Return a connection that is not open yet. Each step of opening it may take `seconds`."""
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
            f"the certificates of AWS_CA_BUNDLE, {ca_bundle}, cannot be read; set it to a file with"
            " certificates in PEM format, or remove the variable",
            cause=str(error),
        ) from error


def _is_usable(connected: socket.socket) -> bool:
    """Return whether an idle connection is usable: it is not closed, and has no unread bytes."""
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return not poll.poll(0)


def _proxy_authorization(proxy: str) -> dict[str, str]:
    """Return the header with the user and password of a proxy's URL, or no header."""
    url = urlsplit(proxy)
    if not url.username:
        return {}
    user = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}
