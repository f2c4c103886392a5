"""The running suite as a Twisted service: opening, reloading and closing all endpoints.

Rules: every error in the configuration is found before the first port opens; either all endpoints open or
none, and no connection is served before; a reload takes effect completely or not at all; closing lets echoes
in progress finish, and removes the files that opening has created.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock, gatherResults
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from typing_extensions import override

from suite import text
from suite.endpoints.descriptions import Description, conflicts
from suite.errors import ConfigError
from suite.guard.datagrams import OwnPorts
from suite.server.announce import minted_line, ready_line
from suite.server.endpoint import RunningEndpoint, accept_what_waits
from suite.server.plan import Plan
from suite.system import become

log = Logger()


class EchoSuite(Service):
    """The suite as a Twisted service.

    :param reactor: the reactor for all endpoints.
    :param plan: the endpoints to open.
    :param announce: called with every line of output for users.
    :ivar endpoints: the endpoints that are listening, by name.
    :ivar leaving: endpoints that no longer listen but still have connections.
    :ivar opened: fires when every endpoint is open; fails with `ListenError` when one cannot be opened, after
        the others have been closed again.
    """

    def __init__(self, reactor: Any, plan: Plan, announce: Callable[[str], None]) -> None:
        self.reactor = reactor
        self.plan = plan
        self.announce = announce
        self.endpoints: dict[str, RunningEndpoint] = {}
        self.leaving: list[RunningEndpoint] = []
        self.opened: Deferred[None] = Deferred()
        self._starting: list[RunningEndpoint] = []
        self._closing: list[RunningEndpoint] = []
        self.own_ports = OwnPorts()
        self._lock = DeferredLock()  # serializes opening, reloading and closing

    def make_endpoint(self, description: Description, context: SSL.Context | None) -> RunningEndpoint:
        """Make an endpoint that is not open yet."""
        return RunningEndpoint(self.reactor, description, context, self.own_ports)

    # Opening.

    @override
    def startService(self) -> None:
        """Open every endpoint; see `opened`."""
        super().startService()
        self._lock.run(Deferred.fromCoroutine, self._open()).chainDeferred(self.opened)

    async def _open(self) -> None:
        endpoints = self._starting = [self.make_endpoint(*planned) for planned in self.plan.planned()]
        try:
            for endpoint in endpoints:
                await endpoint.open()
                if not self.running:  # stopped while this endpoint was opening
                    await endpoint.close()
                    return
            self._become(self.plan)
        except BaseException:
            super().stopService()
            await self._close_all(endpoints)
            raise
        finally:
            self._starting = []
        self.endpoints = {endpoint.description.endpoint.name: endpoint for endpoint in endpoints}
        if self.plan.minted:
            self.announce(minted_line(self.plan.minted))
        self._warn(self.plan)
        for endpoint in endpoints:
            endpoint.start()
            self.announce(endpoint.line())
        self.announce(ready_line([(e.description, cast(IListeningPort, e.port)) for e in endpoints]))

    @staticmethod
    def _warn(plan: Plan) -> None:
        """Log what an operator should know."""
        for warning in plan.warnings:
            log.warn("{warning}", warning=warning)

    @staticmethod
    def _become(plan: Plan) -> None:
        """Drop the privileges that were needed to open the endpoints."""
        if plan.identity is not None:
            become(plan.identity)

    @staticmethod
    async def _close_all(endpoints: Iterable[RunningEndpoint]) -> None:
        for endpoint in endpoints:
            await endpoint.close()

    # Reloading.

    def reload(self, plan: Plan) -> Deferred[str]:
        """Switch to *plan* completely or, failing with `ListenError`, not at all.

        Endpoints whose listening socket stays the same keep their connections, under the new limits; removed
        endpoints are drained. Fires with a summary of the changes, for people.
        """
        return self._lock.run(Deferred.fromCoroutine, self._reload(plan))

    def check_change(self, plan: Plan) -> None:
        """Check that a reload can switch to *plan*.

        :raises ConfigError: a change in *plan* requires a restart.
        """
        for key in ("user", "group"):
            now, then = getattr(self.plan.config, key), getattr(plan.config, key)
            if now != then:
                raise ConfigError(
                    text.shown(plan.config.file),
                    key,
                    f"a change to {then!r} requires a restart; expected {now!r} as before",
                )

    async def _reload(self, plan: Plan) -> str:
        old = dict(self.endpoints)
        kept: dict[str, tuple[Description, SSL.Context | None]] = {}
        fresh: list[RunningEndpoint] = []
        for description, context in plan.planned():
            before = old.get(description.endpoint.name)
            if before is not None and before.description.socket_key() == description.socket_key():
                kept[description.endpoint.name] = (description, context)
            else:
                fresh.append(self.make_endpoint(description, context))
        gone = [endpoint for name, endpoint in old.items() if name not in kept]
        # Close old endpoints whose address a new one needs; reopen them if the new ones fail.
        wanted = [endpoint.description.bound_address() for endpoint in fresh]
        away = [e for e in gone if any(conflicts(e.bound_address(), address) for address in wanted)]
        try:
            await self._close_all(away)
            for endpoint in fresh:
                await endpoint.open()
        except BaseException:
            await self._close_all(fresh)
            for endpoint in away:
                await endpoint.open()
                endpoint.start()
            raise
        changed = sum(old[name].description != description for name, (description, _) in kept.items())
        for name, (description, context) in kept.items():
            old[name].adopt(description, context)
        self.plan = plan
        self._warn(plan)
        by_name = {endpoint.description.endpoint.name: endpoint for endpoint in fresh}
        self.endpoints = {
            d.endpoint.name: by_name.get(d.endpoint.name) or old[d.endpoint.name] for d in plan.descriptions
        }
        for endpoint in fresh:
            endpoint.start()
            self.announce(endpoint.line())
        await self._close_all(gone)
        for endpoint in gone:
            self._leave(endpoint)
        swapped = len(by_name.keys() & old.keys())
        return (
            f"{len(fresh) - swapped} added, {len(gone) - swapped} removed, {changed + swapped} changed,"
            f" {len(kept) - changed} as before"
        )

    def _leave(self, endpoint: RunningEndpoint) -> None:
        self.leaving.append(endpoint)
        endpoint.drain(self.plan.config.drain).addCallback(lambda _: self.leaving.remove(endpoint))

    # Closing.

    @override
    def stopService(self) -> Deferred[None]:
        """Stop accepting, let echoes in progress finish, and close; fires when everything is closed."""
        super().stopService()
        if self._starting:  # no connections yet to wait for, and opening might take forever
            return Deferred.fromCoroutine(self._close_all(self._starting))
        return self._lock.run(Deferred.fromCoroutine, self._stop())

    async def _stop(self) -> None:
        endpoints, self.endpoints = list(self.endpoints.values()), {}
        streams = [endpoint for endpoint in endpoints if endpoint.guard is not None]
        for endpoint in streams:
            accept_what_waits(endpoint.port)
        await self._close_all(streams)
        self._closing = [*streams, *self.leaving]
        seconds = self.plan.config.drain
        await gatherResults([endpoint.drain(seconds) for endpoint in self._closing])
        await self._close_all(endpoints)  # UDP endpoints answer until the drain has ended
        for endpoint in endpoints:
            summary = endpoint.summary()
            if summary:
                log.debug("{summary}", summary=summary, endpoint=endpoint.description.endpoint.name)

    def force(self) -> None:
        """Abort every connection."""
        for endpoint in [*self.endpoints.values(), *self.leaving, *self._closing]:
            if endpoint.guard is not None:
                endpoint.guard.abort()
