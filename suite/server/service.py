"""The running suite as a Twisted service: opening, reloading and closing all endpoints.

Rules: every error in the configuration is found before the first port opens; either all endpoints open or
none (but for optional ones), and no connection is served before; closing lets echoes in progress finish, and
removes the files that opening has created. How a reload switches is in `suite.server.switching`.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from typing_extensions import override

from suite import text
from suite.errors import ConfigError, StoppingError
from suite.server.announce import minted_line, ready_line
from suite.server.endpoint import RunningEndpoint
from suite.server.pauses import Turns, without_collections
from suite.server.plan import Plan
from suite.server.switching import Change, Switching, logged
from suite.system import become

log = Logger()


class EchoSuite(Switching):
    """The suite as a Twisted service."""

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
            with logged(endpoint, "closed"):
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
            with logged(endpoint, "drained"):
                drain = endpoint.drain(self.drain_left)
                if not drain.called:
                    drains.append(drain)
        await gatherResults(drains)
        await self._drained()
        async for endpoint in turns.between(endpoints):
            with logged(endpoint, "closed"):
                await endpoint.close()
        for companion in self.companions:
            companion.stop()
        self._companions_sockets = []
        async for sock in turns.between(self.sockets.keep_only([])):
            sock.close()
        self.surroundings.reserve.drop()
        for endpoint in endpoints:
            summary = ""
            with logged(endpoint, "summed up"):
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
