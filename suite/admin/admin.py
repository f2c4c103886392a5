"""The admin interface: a running suite shows what it does, over HTTP, and may be changed there.

Rules: there is none unless the configuration has ``[admin]``, and nothing that it needs is imported before;
it is opened with the endpoints, with the privileges of the start; a reload opens, moves and closes it with
the rest; it answers until the last echo has been drained, so that whoever watches sees the end, too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final

from suite import text
from suite.admin.faults import FaultRequests
from suite.endpoints.sockets import ListeningSocket
from suite.engine.listeners import with_listeners
from suite.errors import ConfigError
from suite.server.plan import Plan
from suite.server.service import EchoSuite

if TYPE_CHECKING:
    from suite.admin.site import Site

#: What sends metrics, for whoever has a collector.
_OTLP: Final = "suite.admin.metrics.otlp"


class Admin:
    """The admin interface of *suite*; see `suite.server.operations.Companion`.

    :param faults: answers what is asked about faults.
    :ivar site: what answers; None before there are sockets. It stays when they go: what it counts goes on.
    """

    name: ClassVar[str] = "admin"

    #: The module whose ``Site`` answers; whoever has no admin interface shall not wait for the import.
    module: ClassVar[str] = "suite.admin.site"

    def __init__(self, suite: EchoSuite, faults: FaultRequests) -> None:
        self.site: Site | None = None
        self._suite = suite
        self._faults = faults
        self._sockets: list[ListeningSocket] = []

    @property
    def is_open(self) -> bool:
        """Whether it answers."""
        return bool(self._sockets)

    def load(self, plan: Plan) -> None:
        """Import the interface, if *plan* has one: before anything else needs it, and before root is left.

        :raises ConfigError: whom the suite has become since may not read its code.
        """
        table = plan.config.admin
        if table is None:
            return
        try:
            import_module(self.module)
            if table.otlp is not None:
                import_module(_OTLP).load(table.otlp)
        except (ImportError, OSError) as error:
            raise ConfigError(
                text.shown(plan.config.file),
                "admin",
                f"cannot be served: {error}; expected a user who can read the suite's code and Python's, or a"
                " start with this admin interface in the configuration",
            ) from None

    def make_site(self) -> Site:
        """What answers, once there are sockets."""
        site: Site = import_module(self.module).Site(self._suite, self._faults)
        return site

    def serve(self, sockets: list[ListeningSocket], plan: Plan) -> None:
        """Answer on *sockets* from now on, and on no others; open connections stay, unless none is left."""
        if not sockets and not self._sockets:
            return
        if self.site is None:
            self.site = self.make_site()
        site = self.site
        if not self._sockets:
            site.start()
        site.use(plan)
        if sockets != self._sockets:
            self._move(site, sockets)
        if not sockets:
            site.stop()

    def _move(self, site: Site, sockets: list[ListeningSocket]) -> None:
        listeners = with_listeners(self._suite.reactor)
        reserve = self._suite.surroundings.reserve
        ports: dict[ListeningSocket, Any] = dict(zip(self._sockets, site.factory.ports, strict=True))
        for sock, port in ports.items():
            if sock not in sockets:
                port.detach()
        self._sockets = [*sockets]
        site.factory.ports = [
            ports.get(sock) or listeners.serve_streams(sock.sock, site.factory, None, reserve)
            for sock in sockets
        ]
        for sock, port in zip(sockets, site.factory.ports, strict=True):
            if sock not in ports:
                self._suite.announce(site.line(port))

    def drain(self) -> None:
        """Go on answering: that the suite is about to end is worth knowing."""

    def stop(self) -> None:
        """Answer no more."""
        self.serve([], self._suite.plan)
