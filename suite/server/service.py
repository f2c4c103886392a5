"""The running suite as a Twisted service: opening, reloading and closing all endpoints.

Rules: every error in the configuration is found before the first port opens; either all endpoints open or
none (but for optional ones), and no connection is served before; a reload opens everything new before it
closes anything old, so that it takes effect completely or not at all; an endpoint whose address stays keeps
its connections and its queue; closing lets echoes in progress finish, and removes the files that opening has
created.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, cast

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock, gatherResults
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger
from typing_extensions import override

from suite import text
from suite.endpoints.descriptions import OWNED, Description
from suite.endpoints.sockets import ListeningSocket, Sockets
from suite.engine.binding import watchable
from suite.errors import CompanionError, ConfigError, ListenError, StoppingError
from suite.files import Stamp
from suite.logs.log import Log
from suite.server.announce import minted_line, ready_line
from suite.server.counts import Counts, counts_in_turns
from suite.server.endpoint import RunningEndpoint, Surroundings
from suite.server.pauses import Turns, without_collections
from suite.server.plan import Plan
from suite.server.tally import Key, Tally
from suite.system import become

log = Logger()


class Companion(Protocol):
    """What answers questions about the suite, beside the endpoints.

    :cvar name: whose sockets of a plan are its own (`Plan.companions`).
    """

    name: ClassVar[str]

    def load(self, plan: Plan) -> None:
        """Import what serving *plan* takes, which may be long: in a thread, while others are served.

        :raises SuiteError: it cannot be imported.
        """

    def serve(self, sockets: list[ListeningSocket], plan: Plan) -> None:
        """Answer on *sockets* from now on, and on no others, as *plan* says; all endpoints are open."""

    def drain(self) -> None:
        """The suite has begun to end: echoes in progress finish."""

    def stop(self) -> None:
        """Answer no more: everything is closed."""


class Operations(Protocol):
    """What can be done with a running suite as a whole."""

    def reload(self) -> Deferred[str]:
        """Read the configuration again and serve it.

        :returns: fires with a summary of the changes, or fails with `SuiteError`: nothing has changed.
        """

    def drain(self) -> None:
        """Let echoes in progress finish, and end, as SIGTERM does."""


@dataclass
class Reloads:
    """How reloads have gone, also those of files that have changed.

    :ivar good: how many took effect.
    :ivar bad: how many did not; the previous configuration is still served.
    :ivar last: when the last one ended, in seconds since the epoch; None: there was none.
    :ivar problem: why the last one had no effect, in one or more lines; empty if it had.
    """

    good: int = 0
    bad: int = 0
    last: float | None = None
    problem: str = ""

    def succeeded(self) -> None:
        """A reload has taken effect."""
        self.good += 1
        self.last, self.problem = time.time(), ""

    def failed(self, problem: str) -> None:
        """A reload has had no effect, because of *problem*."""
        self.bad += 1
        self.last, self.problem = time.time(), problem


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
def _logged(endpoint: RunningEndpoint, done: str) -> Iterator[None]:
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


class EchoSuite(Service):
    """The suite as a Twisted service.

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

    # Opening.

    @override
    def startService(self) -> None:
        """Open every endpoint; see `opened`."""
        super().startService()
        self._lock.run(Deferred.fromCoroutine, self._open()).chainDeferred(self.opened)

    async def _open(self) -> None:
        turns = Turns(self.reactor)
        with without_collections():
            try:
                async with AsyncExitStack() as undo:
                    self._opening = undo
                    self.surroundings.live_faults = self.plan.config.live_faults
                    self.load(self.plan)
                    change = await self._prepare(self.plan, undo, turns)
                    if not self.running:  # stopped meanwhile
                        return
                    if not change.endpoints and change.skipped:  # all of them are optional
                        raise change.skipped[0]
                    self._become(self.plan)
                    undo.pop_all()
            except BaseException:
                super().stopService()
                raise
            finally:
                self._opening = None
            self._warn(self.plan)
            await self._switch(change, turns)
        self.announce(
            ready_line(
                [(e.description, port) for e in self.endpoints.values() for port in e.ports],
                self.plan.config.gallery.ca if self.plan.config.gallery is not None else None,
            )
        )

    def load(self, plan: Plan) -> None:
        """Import what the companions need for *plan*, with the privileges of the start, or in a thread.

        :raises SuiteError: that cannot be imported.
        """
        for companion in self.companions:
            companion.load(plan)

    def _warn(self, plan: Plan) -> None:
        """Say which certificates have been made, and log what an operator should know."""
        if plan.minted:
            self.announce(minted_line(plan.minted))
        for line in plan.gallery.lines() if plan.gallery is not None else ():
            self.announce(line)
        for warning in plan.warnings:
            log.warn("{warning}", warning=warning)

    def _become(self, plan: Plan) -> None:
        """Drop the privileges that were needed to open the endpoints."""
        if plan.identity is not None:
            self.sockets.give_directories(plan.identity)
            become(plan.identity)
            self.sockets.look_again()
            plan.look_again()

    # From one plan to another.

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
            with _logged(endpoint, "changed"):
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
                with _logged(endpoint, "closed"):
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

    # Reloading.

    def reload(self, plan: Plan) -> Deferred[str]:
        """Switch to *plan* completely or, failing with `ListenError` or `StoppingError`, not at all.

        Endpoints whose address stays the same keep their connections; removed endpoints are drained. Fires
        with a summary of the changes, for people.
        """
        return self._lock.run(Deferred.fromCoroutine, self._reload(plan))

    def check_change(self, plan: Plan) -> None:
        """Check that a reload can switch to *plan*.

        :raises ConfigError: a change in *plan* requires a restart.
        """
        if plan.workers != self.plan.workers:
            raise ConfigError(
                text.shown(plan.config.file),
                "workers",
                f"a change to {plan.workers} requires a restart; expected {self.plan.workers} as before",
            )
        for key in ("user", "group"):
            now, then = getattr(self.plan.config, key), getattr(plan.config, key)
            if now != then:
                raise ConfigError(
                    text.shown(plan.config.file),
                    key,
                    f"a change to {then!r} requires a restart; expected {now!r} as before",
                )

    async def _reload(self, plan: Plan) -> str:
        if not self.running:
            raise StoppingError
        turns = Turns(self.reactor)
        with without_collections():
            async with AsyncExitStack() as undo:
                change = await self._prepare(plan, undo, turns)
                undo.pop_all()
            return await self._commit(plan, change, turns)

    async def _commit(self, plan: Plan, change: Change, turns: Turns) -> str:
        """Switch to *plan*, for which *change* has been prepared; return a summary, for people."""
        before = {name: endpoint.description for name, endpoint in self.endpoints.items()}
        old = set(self.endpoints.values())
        await turns.one_if_due()
        unchanged = 0
        async for endpoint, (description, _, _) in turns.between(change.kept.items()):
            unchanged += endpoint.description == description
        self.plan = plan
        self.surroundings.live_faults = plan.config.live_faults
        await turns.one_if_due()
        self._warn(plan)
        await self._switch(change, turns)
        await turns.one_if_due()
        # Another address under the same name is a change.
        moved = sum(endpoint.description.endpoint.name in before for endpoint in change.fresh)
        return (
            f"{len(change.fresh) - moved} added, {len(old) - len(change.kept) - moved} removed,"
            f" {len(change.kept) - unchanged + moved} changed, {unchanged} as before"
        )

    # Closing.

    @override
    def stopService(self) -> Deferred[None]:
        """Stop accepting, let echoes in progress finish, and close; fires when everything is closed."""
        super().stopService()
        # From now, not from the end of a reload in progress: whoever has sent the signal is counting, too.
        if self._drain_until is None:
            config = self.plan.config
            self._drain_until = self.reactor.seconds() + config.lameduck + config.drain
        if self._opening is not None:  # no connections yet to wait for, and opening might take forever
            return Deferred.fromCoroutine(self._opening.aclose())
        return self._lock.run(Deferred.fromCoroutine, self._stop())

    async def _linger(self) -> None:
        """Go on as before for a while, although no longer ready: load balancers look elsewhere in time."""
        seconds = cast(float, self._drain_until) - self.plan.config.drain - self.reactor.seconds()
        if seconds > 0:
            log.info("no longer ready; accepting for another {seconds:.1f} s", seconds=seconds)
            self._lingering = Deferred()
            call = self.reactor.callLater(seconds, self._lingering.callback, None)
            await self._lingering
            if call.active():
                call.cancel()

    @property
    def drain_left(self) -> float:
        """Seconds until the drain is over, which has begun."""
        return max(0.0, cast(float, self._drain_until) - cast(float, self.reactor.seconds()))

    async def _stop(self) -> None:
        turns = Turns(self.reactor)
        await self._linger()
        for companion in self.companions:
            companion.drain()
        await self._finish(await self._stop_accepting(turns), turns)

    async def _stop_accepting(self, turns: Turns) -> list[RunningEndpoint]:
        """Accept no more connections; return the endpoints that have."""
        endpoints, self.endpoints = list(self.endpoints.values()), {}
        self._closing = [*endpoints, *self.leaving]
        async for endpoint in turns.between(endpoints):
            with _logged(endpoint, "closed"):
                endpoint.turn_away()
                await endpoint.close(keep_datagrams=True)  # they are answered until the drain has ended
        still_used = [sock for endpoint in endpoints for sock in endpoint.sockets] + self._companions_sockets
        async for sock in turns.between(self.sockets.keep_only(still_used)):
            sock.close()
        return endpoints

    async def _finish(self, endpoints: list[RunningEndpoint], turns: Turns) -> None:
        """Let echoes in progress finish, and close *endpoints*."""
        drains = []
        async for endpoint in turns.between(self._closing):
            with _logged(endpoint, "drained"):
                drain = endpoint.drain(self.drain_left)
                if not drain.called:
                    drains.append(drain)
        await gatherResults(drains)
        await self._drained()
        async for endpoint in turns.between(endpoints):
            with _logged(endpoint, "closed"):
                await endpoint.close()
        for companion in self.companions:
            companion.stop()
        self._companions_sockets = []
        async for sock in turns.between(self.sockets.keep_only([])):
            sock.close()
        self.surroundings.reserve.drop()
        for endpoint in endpoints:
            summary = ""
            with _logged(endpoint, "summed up"):
                summary = endpoint.summary()
            if summary:
                log.debug("{summary}", summary=summary, endpoint=endpoint.description.endpoint.name)

    async def _drained(self) -> None:
        """The last echo has finished; datagrams are still answered."""

    def force(self) -> None:
        """Abort every connection; those that the end finds still open, too."""
        self._drain_until = float("-inf")
        if self._lingering is not None and not self._lingering.called:
            self._lingering.callback(None)
        for endpoint in [*self.endpoints.values(), *self.leaving, *self._closing]:
            endpoint.abort()
