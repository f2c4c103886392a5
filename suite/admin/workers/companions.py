"""What answers questions about a suite with workers: in the supervisor, and in each worker."""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from typing_extensions import override

from suite.admin.admin import Admin
from suite.admin.control import Control
from suite.admin.faults import FaultRequests
from suite.endpoints.sockets import ListeningSocket
from suite.server.plan import Plan
from suite.server.threads import defer_to_daemon
from suite.server.workers.asking import settled

if TYPE_CHECKING:
    from suite.admin.site import Site
    from suite.admin.workers.inside import Inside
    from suite.admin.workers.told import Ledger
    from suite.server.workers.supervisor import Supervisor

log = Logger()

#: What answers in a worker; whoever has no admin interface shall not wait for the import.
_INSIDE: Final = "suite.admin.workers.inside"


class WholeAdmin(Admin):
    """The admin interface of a suite with workers, in the supervisor."""

    module: ClassVar[str] = "suite.admin.workers.routes"

    def __init__(self, supervisor: Supervisor, faults: FaultRequests) -> None:
        super().__init__(supervisor, faults)
        self._supervisor = supervisor
        self._ledger: Ledger | None = None
        supervisor.heard["told"] = self._hear
        supervisor.heard["events"] = self._hear_events

    @override
    def make_site(self) -> Site:
        site: Site = import_module(self.module).make_site(self._supervisor, self._faults, self._ledger)
        return site

    @override
    def load(self, plan: Plan) -> None:
        super().load(plan)
        if plan.config.admin is not None:
            import_module(_INSIDE)  # workers have it, then, when they are forked
            if self._ledger is None:  # from before they tell anything
                self._ledger = import_module("suite.admin.workers.metrics").new_ledger()

    @override
    def serve(self, sockets: list[ListeningSocket], plan: Plan) -> None:
        super().serve(sockets, plan)
        self._supervisor.crew.tell_all("watched", self.is_open)

    def _hear(self, worker: Any, *told: Any) -> None:
        if self._ledger is not None:
            self._ledger.hear(worker.number, *told)

    def _hear_events(self, _worker: Any, events: list[dict[str, Any]], debug: bool, others: bool) -> None:
        if self.site is None or not self.is_open:
            return
        for missing, at_debug in ((debug, True), (others, False)):
            if missing:
                self.site.events.note_missing(debug=at_debug)
        for event in events:
            self.site.events.note_fields(event)


def add(supervisor: Supervisor) -> None:
    """Let *supervisor* have a control socket and an admin interface wherever its configuration says so."""
    faults = FaultRequests(supervisor)  # one, so that a fault has one id
    control = Control(supervisor, faults, partial(settled, supervisor.crew))
    supervisor.companions += [control, WholeAdmin(supervisor, faults)]


class Attendant:
    """Answers the supervisor's questions about *suite*, that of a worker.

    :param link: the link to the supervisor.
    """

    def __init__(self, suite: Any, link: Any) -> None:
        self._suite = suite
        self._link = link
        self._inside: Inside | None = None
        link.answers["settled"] = lambda: None
        link.answers["watched"] = self._watched
        for what in ("admin", "reasons", "tell"):
            link.answers[what] = partial(self._answer, what)

    def begin(self) -> None:
        """Measure, and tell, from the start."""
        beginning = Deferred.fromCoroutine(self._watched(True))
        beginning.addErrback(lambda why: log.failure("nothing is told", why))

    async def _watched(self, on: bool) -> None:
        if on or self._inside is not None:  # otherwise nothing of it is needed
            await self._answer("watched", on)

    async def _answer(self, what: str, *arguments: Any) -> Any:
        inside = self._inside or await self._load()
        answer = getattr(inside, what)(*arguments)
        return await answer if isinstance(answer, Deferred) else answer

    async def _load(self) -> Inside:
        """What answers, which may have to be imported: in a thread, while others are served."""
        if _INSIDE not in sys.modules:
            await defer_to_daemon(self._suite.reactor, import_module, _INSIDE)
        if self._inside is None:
            self._inside = import_module(_INSIDE).Inside(self._suite, self._suite.number, self._link)
            self._suite.reactor.addSystemEventTrigger("before", "shutdown", self._inside.end)
        return self._inside


def attend(suite: Any, link: Any) -> None:
    """Let the supervisor ask about *suite*, that of a worker, over *link*."""
    attendant = Attendant(suite, link)
    if suite.plan.config.admin is not None:
        attendant.begin()
