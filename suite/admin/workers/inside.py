"""The admin interface inside a worker: it has no sockets, and answers the supervisor.

Rules: a request of a client of the supervisor's is answered here by the handler that would answer it in a
suite without workers; all of it together takes at most its share of the reactor's time (`suite.admin.http`);
nothing is measured or told unless the supervisor has an admin interface.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

from suite.admin.events import Events
from suite.admin.exchange import Call, Problem, Response
from suite.admin.faults import FaultRequests
from suite.admin.health import reasons_against
from suite.admin.http import AdminFactory
from suite.admin.lag import Lag
from suite.admin.metrics.family import Value
from suite.admin.metrics.observed import CountedTurns, Observed, Observer, Snapshot
from suite.admin.routes import ROUTES
from suite.admin.workers.forward import Forwarder
from suite.admin.workers.metrics import ACCUMULATING, TOLD
from suite.server.pauses import Turns
from suite.server.service import EchoSuite
from suite.server.tally import Key

log = Logger()

#: Seconds between two tellings of what has been counted, at the least: what `kill -9` can lose.
INTERVAL: Final = 1.0

#: The part of the reactor's time that telling takes at the most: with thousands of endpoints, it is done less
#: often.
SHARE: Final = 0.01

#: Endpoints that are told of at a time.
SOME: Final = 100


class Inside:
    """What answers about *suite*, that of a worker; see `suite.admin.route.Site`.

    :param number: the number of the worker.
    :param link: the link to the supervisor.
    """

    def __init__(self, suite: EchoSuite, number: int, link: Any) -> None:
        self.suite = suite
        self.faults = FaultRequests(suite)
        self.events = Events(suite.reactor)  # the supervisor has them all
        self.lag = Lag(suite.reactor)
        self.observer = Observer(self)
        self.routes = ROUTES
        self.factory = AdminFactory(suite.reactor, self._answer_nobody)
        self._link = link
        self._forwarder = Forwarder(suite.reactor, number, self._tell_events)
        self._told: dict[Key, Observed] = {}
        self._next: IDelayedCall | None = None
        self._on = False

    @staticmethod
    async def _answer_nobody(_request: object) -> Response | None:
        raise NotImplementedError("there are no sockets")

    def end(self) -> Deferred[None]:
        """Tell all that there is, and no more; fires when that has left."""
        if not self._on:
            return succeed(None)
        telling = Deferred.fromCoroutine(self._tell(ACCUMULATING))
        telling.addErrback(lambda why: log.failure("what has been counted was not told", why))
        telling.addCallback(lambda _: self.watched(False))
        return telling.addCallback(lambda _: deferLater(self.suite.reactor, 0, lambda: None))

    def watched(self, on: bool) -> None:
        """Measure, and tell, from now on, or no longer."""
        if on == self._on:
            return
        self._on = on
        if on:
            self.lag.start()
            self._forwarder.start()
            self._wait(INTERVAL)
        else:
            self.lag.stop()
            self._forwarder.stop()
            if self._next is not None:
                self._next.cancel()
                self._next = None

    # Requests.

    def _in_turn(self, work: Callable[[], Any]) -> Deferred[Any]:
        """What the coroutine that *work* returns does, when its turn has come."""
        done: Deferred[Any] = Deferred()
        self.factory.queue.put(lambda: Deferred.fromCoroutine(work()).chainDeferred(done))
        return done

    def admin(self, method: str, path: str, parameters: Mapping[str, str], query: Mapping[str, str]) -> Any:
        """What the handler of the route *path* answers, which is one without a body: a `Response`."""
        route = next(each for each in ROUTES if (each.method, each.path) == (method, path))
        call = Call(method, path, parameters, query, b"", "", may_change=route.changes, http=None)
        return self._in_turn(lambda: self._handled(route.handler, call))

    async def _handled(self, handler: Any, call: Call) -> Response:
        try:
            response: Response = await handler(self, call)
        except Problem as problem:
            return problem.response()
        return response

    def reasons(self) -> Deferred[list[str]]:
        """Why this worker is not ready, one line each; none if it is.

        A probe has waited for its turn at the supervisor, and does not wait for long.
        """
        with self.factory.budget.charged():
            return Deferred.fromCoroutine(reasons_against(self.suite, Turns(self.suite.reactor)))

    # What has been counted.

    def tell(self) -> Any:
        """Tell all that has been counted; it is told when this has been answered."""
        return self._in_turn(lambda: self._tell(TOLD))

    async def _tell(self, families: tuple[Any, ...]) -> None:
        """Tell which endpoints have changed, in pieces, and the values of *families*."""
        observer, turns = self.observer, CountedTurns(self.suite.reactor)
        # One after the other, so that nothing is told after what is newer.
        await observer.lock.acquire()
        try:
            snapshot = await observer.observe(turns)
            seen = snapshot.endpoints
            gone = [key for key in self._told if key not in seen]
            changed: dict[Key, Observed] = {}
            async for key, each in turns.between(seen.items()):
                if self._told.get(key) != each:
                    changed[key] = each
                if len(changed) == SOME:
                    self._say(changed, [], {})
                    changed = {}
            self._say(changed, gone, _values(snapshot, families))
            self._told = {**seen}
        finally:
            observer.lock.release()
            self.factory.budget.charge(turns.worked)

    def _say(
        self, endpoints: Mapping[Key, Observed], gone: list[Key], values: Mapping[str, list[Value]]
    ) -> None:
        self._link.tell("told", os.getpid(), endpoints, gone, values)

    def _wait(self, seconds: float) -> None:
        self._next = self.suite.reactor.callLater(seconds, self._tell_now_and_then)

    def _tell_now_and_then(self) -> None:
        self._next = None
        spent = self.factory.budget.spent

        def wait(_: object) -> None:
            if self._on and self._next is None:
                self._wait(max(INTERVAL, (self.factory.budget.spent - spent) / SHARE))

        telling = self._in_turn(lambda: self._tell(ACCUMULATING))
        telling.addErrback(lambda why: log.failure("what has been counted was not told", why))
        telling.addCallback(wait)

    # Events.

    def _tell_events(self, events: list[dict[str, Any]], *missing: bool) -> None:
        self._link.tell("events", events, *missing)


def _values(snapshot: Snapshot, families: tuple[Any, ...]) -> dict[str, list[Value]]:
    return {family.name: [*snapshot.values(family)] for family in families}
