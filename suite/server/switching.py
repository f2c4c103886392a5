"""From one plan to another: open what the new one wants, then let it take effect.

Rules: everything new is open before anything old is closed, so that a switch is complete or nothing has
changed; what can be served on a socket that is open already is; endpoints whose address stays keep their
connections and their queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger

from suite.endpoints.descriptions import OWNED, Description
from suite.endpoints.sockets import ListeningSocket, Sockets
from suite.engine.binding import watchable
from suite.errors import CompanionError, ListenError
from suite.files import Stamp
from suite.logs.log import Log
from suite.server.counts import Counts, counts_in_turns
from suite.server.endpoint import RunningEndpoint
from suite.server.operations import Companion, Operations, Reloads
from suite.server.pauses import Turns
from suite.server.plan import Plan
from suite.server.surroundings import Surroundings
from suite.server.tally import Key, Tally

log = Logger()


@dataclass
class Change:
    """A switch to another plan that has been prepared: everything is open, and nothing answers yet.

    :ivar endpoints: the endpoints from then on, by name.
    :ivar kept: those among them that go on, each with its new description, context and sockets.
    :ivar fresh: those that are new.
    :ivar skipped: the errors of optional endpoints that cannot be opened.
    :ivar companions: the sockets of each companion.
    :ivar renewal: whether the configuration is as before, and only files that it names have changed.
    """

    endpoints: dict[str, RunningEndpoint] = field(default_factory=dict)
    kept: dict[RunningEndpoint, tuple[Description, SSL.Context | None, list[ListeningSocket]]] = field(
        default_factory=dict
    )
    fresh: list[RunningEndpoint] = field(default_factory=list)
    skipped: list[ListenError] = field(default_factory=list)
    companions: dict[Companion, list[ListeningSocket]] = field(default_factory=dict)
    renewal: bool = False

    def sockets(self) -> Iterator[ListeningSocket]:
        """The listening sockets that are wanted."""
        for _, _, sockets in self.kept.values():
            yield from sockets
        for endpoint in self.fresh:
            yield from endpoint.sockets
        for sockets in self.companions.values():
            yield from sockets


@contextmanager
def logged(endpoint: RunningEndpoint, done: str) -> Iterator[None]:
    """Log an error that ends the block: one endpoint keeps no other from ending well.

    :param done: what should have been done to *endpoint*.
    """
    try:
        yield
    except Exception:  # noqa: BLE001  # a port may be a plugin's, or have died of a fault of the system
        log.failure("could not be {done}", endpoint=endpoint.description.endpoint.name, done=done)


def _with_faults_in_force(description: Description, endpoint: RunningEndpoint) -> Description:
    """*description* with the faults of *endpoint* as they have been changed since it was read."""
    faults = endpoint.decider.faults
    return replace(description, endpoint=replace(description.endpoint, faults=faults))


class Switching(Service):
    """A suite that serves one plan and can switch to another; `suite.server.service.EchoSuite` is all of it.

    :param reactor: the reactor for all endpoints.
    :param plan: the endpoints to open.
    :param announce: called with every line of output for users.
    :ivar endpoints: the endpoints that are listening, by name.
    :ivar leaving: endpoints that no longer listen but still have connections.
    :ivar companions: answer questions about the suite, where the configuration says so.
    :ivar operations: what can be done with it as a whole; None: nothing, as in other programs' tests.
    :ivar reloads: how reloads have gone.
    :ivar tally: what has been counted under names that endpoints do not have any more.
    :ivar log: the log of the process; None: it is another program's.
    :ivar started_at: when it was made, in seconds since the epoch.
    :ivar began: the same by the monotonic clock, in seconds.
    :ivar not_served: the errors of optional endpoints that could not be opened.
    :ivar opened: fires when every endpoint is open; fails with `ListenError` when one cannot be opened, after
        the others have been closed again.
    """

    def __init__(self, reactor: Any, plan: Plan, announce: Callable[[str], None]) -> None:
        self.reactor = reactor
        self.plan = plan
        self.announce = announce
        self.endpoints: dict[str, RunningEndpoint] = {}
        self.leaving: list[RunningEndpoint] = []
        self.companions: list[Companion] = []
        self.operations: Operations | None = None
        self.reloads = Reloads()
        self.tally = Tally()
        self.log: Log | None = None
        self.started_at = time.time()
        self.began = time.monotonic()
        self.not_served: list[ListenError] = []
        self.opened: Deferred[None] = Deferred()
        self.surroundings = Surroundings(reactor)
        self.surroundings.exhibition = self.exhibition
        self.sockets = self._make_sockets()
        self._opening: AsyncExitStack | None = None  # while opening: closes what is open so far
        self._closing: list[RunningEndpoint] = []
        self._companions_sockets: list[ListeningSocket] = []
        self._unused: list[str] = []  # inherited descriptors that the log has named
        #: When the drain is over, by the reactor's clock; None: nobody has asked for the end yet.
        self._drain_until: float | None = None
        self._lingering: Deferred[None] | None = None  # while it accepts, although it is about to end
        self._lock = DeferredLock()  # serializes opening, reloading and closing

    def _make_sockets(self) -> Sockets:
        return Sockets(watchable=watchable(self.reactor))

    def make_endpoint(
        self, description: Description, context: SSL.Context | None, sockets: list[ListeningSocket]
    ) -> RunningEndpoint:
        """Make an endpoint that does not answer yet."""
        return RunningEndpoint(self.surroundings, description, context, sockets)

    @property
    def draining(self) -> bool:
        """Whether the suite has begun to end."""
        return self._drain_until is not None

    @property
    def every_endpoint(self) -> list[RunningEndpoint]:
        """All endpoints that listen, or still have connections."""
        return [*dict.fromkeys([*self.endpoints.values(), *self.leaving, *self._closing])]

    async def counts(self, turns: Turns) -> list[tuple[str, bool, Counts]]:
        """What each endpoint has counted: its name, whether it is leaving, and the counts."""
        leaving = set(self.leaving)
        return [
            (endpoint.description.endpoint.name, endpoint in leaving, await counts_in_turns(endpoint, turns))
            async for endpoint in turns.between([*self.endpoints.values(), *self.leaving])
        ]

    def reopen_log(self) -> None:
        """Open the log file again.

        :raises OSError: it cannot be opened; the previous one is still in use.
        """
        if self.log is not None and self.log.file is not None:
            self.log.file.reopen()

    def look_after(self) -> None:
        """Called regularly where a service manager watches us: see to it that all that serves is alive."""

    def exhibition(self) -> tuple[Any, dict[str, int]]:
        """The gallery, and its open ports by what they serve."""
        ports = {
            endpoint.description.endpoint.gallery: cast(Any, port.getHost()).port
            for endpoint in self.endpoints.values()
            if endpoint.description.endpoint.gallery
            for port in endpoint.ports
        }
        return self.plan.gallery, ports

    # Preparing.

    async def _prepare(self, plan: Plan, undo: AsyncExitStack, turns: Turns) -> Change:
        """Open what *plan* wants and is not open yet; everything goes on as before.

        :param undo: gets what takes it back.
        :raises ListenError: an endpoint that is not optional cannot be opened.
        """
        change = Change(renewal=plan.renewal)
        by_key: dict[tuple[object, ...], RunningEndpoint] = {}
        async for endpoint in turns.between(self.endpoints.values()):
            by_key |= dict.fromkeys(endpoint.keys, endpoint)
        taken: dict[ListeningSocket, str] = {}
        async for description, context in turns.between(self._planned(plan)):
            name = description.endpoint.name
            try:
                with ExitStack() as attempt:
                    found, sockets = self._find(description, taken, attempt)
                    keys = [sock.key for sock in sockets] or [found.foreign_key()]
                    before = next((by_key[key] for key in keys if key in by_key), None)
                    if before is not None and before not in change.kept:
                        change.kept[before] = (found, context, sockets)
                        change.endpoints[name] = before
                    else:
                        endpoint = self.make_endpoint(found, context, sockets)
                        await endpoint.open()
                        undo.push_async_callback(endpoint.close)
                        change.fresh.append(endpoint)
                        change.endpoints[name] = endpoint
                    undo.push(attempt.pop_all())
            except ListenError as error:
                if not description.endpoint.optional:
                    raise
                change.skipped.append(error)
        for companion in self.companions:
            change.companions[companion] = self._open_for(companion, plan, undo)
        return change

    def _planned(self, plan: Plan) -> Iterable[tuple[Description, SSL.Context | None]]:
        """What of *plan* is to be opened here."""
        return plan.planned()

    def _open_for(self, companion: Companion, plan: Plan, undo: AsyncExitStack) -> list[ListeningSocket]:
        """The sockets of *companion* that *plan* has: open, but not answered on yet.

        :raises ListenError: one cannot be opened.
        """
        if not isinstance(self.reactor, PosixReactorBase):
            return []
        found = []
        for description in plan.companions[companion.name]:
            try:
                with ExitStack() as attempt:
                    found += self.sockets.open(description, attempt, shared=False)
                    undo.push(attempt.pop_all())
            except ListenError as error:
                raise CompanionError(companion.name, error.address, error.reason) from error
        return found

    def _find(
        self, description: Description, taken: dict[ListeningSocket, str], undo: ExitStack
    ) -> tuple[Description, list[ListeningSocket]]:
        """The sockets of *description*, and the description as they make it; none if they are not ours."""
        if description.kind not in OWNED or not isinstance(self.reactor, PosixReactorBase):
            return description, []
        sockets = self.sockets.open(description, undo)
        for sock in sockets:
            other = taken.setdefault(sock, description.endpoint.name)
            if other != description.endpoint.name:
                raise ListenError(
                    description.endpoint.name,
                    description.address,
                    f"descriptor {sock.fd} is taken by endpoints.{other}; expected one of its own",
                )
        if any(sock.fd is not None for sock in sockets):
            streams = [sock.transport for sock in sockets if sock.transport != "UDP"]
            description = replace(description, found=(streams or ["UDP"])[0])
        return description, sockets

    async def _switch(self, change: Change, turns: Turns) -> None:
        """Let the prepared *change* take effect."""
        old, self.endpoints = self.endpoints, change.endpoints
        self.not_served = change.skipped
        for error in change.skipped:
            log.warn("not served: {error}", error=error)
        lines = []
        async for endpoint, (description, context, sockets) in turns.between(change.kept.items()):
            if sockets != endpoint.sockets and all(sock.path is not None for sock in sockets):
                log.warn(
                    "{path} had been removed or replaced; it is there again",
                    path=description.address,
                    endpoint=description.endpoint.name,
                )
            with logged(endpoint, "changed"):
                before = endpoint.lines()
                found = _with_faults_in_force(description, endpoint) if change.renewal else description
                if Key.of(endpoint) != (found.endpoint.name, found.transport):
                    self.tally.settle(endpoint)
                endpoint.change(found, context, sockets)
                lines += [line for line in endpoint.lines() if line not in before]
        paused = {name for name, endpoint in old.items() if endpoint.paused}
        async for endpoint in turns.between(change.fresh):
            if endpoint.description.endpoint.name in paused:  # it has another address now
                endpoint.paused = True
            endpoint.start()
            lines += endpoint.lines()
        async for endpoint in turns.between(old.values()):
            if endpoint not in change.kept:
                with logged(endpoint, "closed"):
                    await endpoint.close()
                self._leave(endpoint)
        await turns.one_if_due()
        self._companions_sockets = [sock for sockets in change.companions.values() for sock in sockets]
        for companion, sockets in change.companions.items():
            companion.serve(sockets, self.plan)
        async for sock in turns.between(self.sockets.keep_only([*change.sockets()])):
            sock.close()
        self._name_unused(change)
        async for line in turns.between(lines):
            self.announce(line)

    def _leave(self, endpoint: RunningEndpoint) -> None:
        self.leaving.append(endpoint)
        endpoint.drain(self.plan.config.drain).addCallback(lambda _: self._gone(endpoint))

    def _gone(self, endpoint: RunningEndpoint) -> None:
        self.leaving.remove(endpoint)
        self.tally.settle(endpoint)

    def _name_unused(self, change: Change) -> None:
        """Log the inherited descriptors that no endpoint takes: their clients wait in vain."""
        if not self.sockets.inherited.names:
            return
        used = [sock.fd for sock in change.sockets() if sock.fd is not None]
        before, self._unused = self._unused, [*self.sockets.inherited.unused(used)]
        if self._unused and self._unused != before:
            log.warn("inherited, but of no endpoint: {unused}", unused=", ".join(self._unused))

    def stamps(self) -> dict[str, Stamp]:
        """The certificates and UNIX sockets in use, by path, as they were when they were read or made."""
        sockets = [
            sock for endpoint in self.endpoints.values() for sock in endpoint.sockets
        ] + self._companions_sockets
        made = {sock.path.path: sock.stamp for sock in sockets if sock.path is not None}
        return self.plan.stamps | made
