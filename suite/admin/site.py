"""What answers on the admin interface: who may ask for what, and which handler has the answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from twisted.internet.address import UNIXAddress

from suite.admin.access import check_host, check_origin, has_token, is_near, missing_token
from suite.admin.events import Events
from suite.admin.exchange import Call, Problem, Response
from suite.admin.faults import FaultRequests
from suite.admin.http import AdminFactory, Request
from suite.admin.lag import Lag
from suite.admin.metrics.observed import Observer
from suite.admin.route import Route
from suite.admin.routes import ROUTES, find
from suite.endpoints.descriptions import shown_socket
from suite.server.announce import admin_line
from suite.server.plan import Plan
from suite.server.service import EchoSuite
from suite.text import host_and_port

if TYPE_CHECKING:
    from suite.admin.metrics.otlp import Exporter


class Site:
    """The admin interface of *suite*, open from `start` to `stop`; it may be opened again.

    :param routes: all routes.
    :ivar suite: the suite that it is about.
    :ivar faults: answers what is asked about faults.
    :ivar events: what has happened since it was opened.
    :ivar lag: how late the reactor is, while the interface is open.
    :ivar observer: reads what metrics say.
    :ivar routes: the same.
    :ivar factory: its connections.
    """

    def __init__(self, suite: EchoSuite, faults: FaultRequests, routes: Sequence[Route] = ROUTES) -> None:
        self.suite = suite
        self.faults = faults
        self.events = Events(suite.reactor)
        self.lag = Lag(suite.reactor)
        self.observer = Observer(self)
        self.routes = routes
        health = frozenset(route.path.encode() for route in routes if route.is_open)
        self.factory = AdminFactory(suite.reactor, self._answer, health)
        self._hosts: frozenset[str] = frozenset()
        self._token: bytes | None = None
        self._exporter: Exporter | None = None

    def start(self) -> None:
        """Take note of what happens: it is about to be opened."""
        self.events.start()
        self.lag.start()

    def use(self, plan: Plan) -> None:
        """Let those in whom *plan* lets in."""
        self._hosts = plan.config.admin.hosts if plan.config.admin is not None else frozenset()
        self._token = plan.token
        self._export(plan.config.admin.otlp if plan.config.admin is not None else None)

    def _export(self, url: str | None) -> None:
        """Send metrics to the collector at *url* from now on, and to no other."""
        before = self._exporter.url if self._exporter is not None else None
        if url == before:
            return
        if self._exporter is not None:
            self._exporter.stop()
            self._exporter = None
        if url is not None:
            from suite.admin.metrics.otlp import Exporter  # noqa: PLC0415  # an extra

            self._exporter = Exporter(self, url)
            self._exporter.start()

    def stop(self) -> None:
        """Answer no more."""
        self.events.stop()
        self.lag.stop()
        self._export(None)
        self.factory.stop()

    def line(self, port: Any) -> str:
        """The line that announces *port*."""
        host = port.getHost()
        if isinstance(host, UNIXAddress):
            address = shown_socket(os.fsdecode(host.name or b""))
        else:
            address = host_and_port(host.host, host.port)
        return admin_line(address)

    async def _answer(self, request: Request) -> Response | None:
        method = request.method.decode("ascii", "replace")
        host, target = _target(request)
        path, _, query = target.partition("?")
        path = unquote(path)
        route, parameters = find(self.routes, method, path)
        may_change = self._admit(request, route, host)
        call = Call(
            method,
            path,
            parameters,
            _parsed(query),
            cast(Any, request.content).read(),
            request.getHeader("accept") or "",
            may_change,
            request,
        )
        return await route.handler(self, call)

    def _admit(self, request: Request, route: Route, host: str | None) -> bool:
        """Check that the client may ask for *route*; return whether it may change anything.

        :param host: the host that it asks for, as it says.
        :raises Problem: it may not.
        """
        if route.is_open:
            return False
        header = request.getHeader
        check_host(host, self._hosts)
        local = isinstance(request.channel.getHost(), UNIXAddress)
        # Another site's page cannot read an answer, but could take the place of others, as on a stream of
        # events. It may have a link here.
        if route.changes or header("sec-fetch-mode") != "navigate":
            check_origin(header("origin"), header("sec-fetch-site"), host)
        may_change = local or has_token(header("authorization"), self._token)
        if may_change:
            return True
        if route.changes:
            raise missing_token(self._token, "a change over TCP")
        if not route.is_public and not is_near(getattr(request.getClientAddress(), "host", None)):
            raise missing_token(self._token, "this, asked for from another machine,")
        return False


def _target(request: Request) -> tuple[str | None, str]:
    """The host that *request* asks for, and its path with the query; see RFC 9112, sections 3.2 and 3.2.2.

    :raises Problem: it names no host, or several.
    """
    hosts = [host.decode("latin-1") for host in request.requestHeaders.getRawHeaders(b"host", [])]
    if len(hosts) > 1:
        raise Problem(400, f"Host is given {len(hosts)} times; expected it once")
    if not hosts and request.clientproto == b"HTTP/1.1":
        raise Problem(400, "Host is missing; expected one such as localhost:9901")
    target = request.uri.decode("ascii", "replace")
    if target[:7].lower() == "http://":
        host, slash, rest = target[7:].partition("/")
        return host, slash + rest
    return (hosts[0] if hosts else None), target


def _parsed(query: str) -> dict[str, str]:
    """The names and values in *query*.

    :raises Problem: a name is given twice.
    """
    found: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = (unquote(part.replace("+", " ")) for part in pair.partition("="))
        if name in found:
            raise Problem(400, f"{name!r} is given twice; expected it once")
        found[name] = value
    return found
