"""One worker: an ordinary suite that serves the sockets it is given, as the supervisor says.

Rules: it reads no configuration, and opens no listening socket; of a change it prepares everything before it
says so, and waits for the word; it ends when the supervisor does.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from typing_extensions import override

from suite.config.faults import Faults
from suite.config.file import Config
from suite.endpoints.descriptions import Description
from suite.endpoints.sockets import ListeningSocket
from suite.files import Stamp
from suite.logs.log import Log
from suite.server.counts import Counts
from suite.server.endpoint import RunningEndpoint
from suite.server.pauses import Turns, short_intervals, without_collections
from suite.server.plan import Plan
from suite.server.process import install_reactor
from suite.server.service import EchoSuite
from suite.server.switching import Change
from suite.server.threads import defer_to_daemon
from suite.server.workers.link import Link, connect
from suite.server.workers.sockets import Given, GivenSockets, Layout

log = Logger()


class InForce(NamedTuple):
    """What an operator may have changed at an endpoint.

    :ivar faults: how it misbehaves.
    :ivar paused: whether it accepts nothing for now.
    """

    faults: Faults
    paused: bool


@dataclass(frozen=True)
class Job:
    """What a worker begins with.

    :ivar number: its number, from 1.
    :ivar reactor: the name of its reactor; None: the best there is.
    :ivar plan: what it serves.
    :ivar in_force: what has been changed since the plan was made, by the name of the endpoint.
    :ivar log: the log, which the supervisor has started.
    :ivar shared: what it shares with other workers: its view of `suite.guard.shared.Shared`.
    :ivar extend: called with the suite and the link before anything is served, for what else answers there.
    """

    number: int
    reactor: str | None
    plan: Plan
    in_force: Mapping[str, InForce]
    log: Log | None
    shared: Any
    extend: Callable[[WorkerSuite, Link], object]


class WorkerSuite(EchoSuite):
    """The suite of one worker.

    :ivar number: its number, from 1.
    :ivar deaf: fires when it accepts no more connections, because it is about to end.
    :ivar drained: fires when its last echo has finished; it answers datagrams until `dismiss`.
    """

    sockets: GivenSockets

    def __init__(self, reactor: Any, job: Job) -> None:
        super().__init__(reactor, job.plan, lambda _line: None)
        self.number = job.number
        self.log = job.log
        self.surroundings.shared = job.shared
        self.deaf: Deferred[None] = Deferred()
        self.drained: Deferred[None] = Deferred()
        self._dismissed: Deferred[None] = Deferred()
        self._in_force = job.in_force
        self._prepared: tuple[Plan, Change, AsyncExitStack] | None = None

    @override
    def _make_sockets(self) -> GivenSockets:
        return GivenSockets()

    @override
    def _planned(self, plan: Plan) -> Iterable[tuple[Description, SSL.Context | None]]:
        layout = self.sockets.layout
        return (pair for pair in plan.planned() if pair[0].endpoint.name in layout)

    @override
    def _warn(self, plan: Plan) -> None:
        """The supervisor does."""

    @override
    def make_endpoint(
        self, description: Description, context: SSL.Context | None, sockets: list[ListeningSocket]
    ) -> RunningEndpoint:
        in_force = self._in_force.get(description.endpoint.name)
        if in_force is not None:
            description = replace(description, endpoint=replace(description.endpoint, faults=in_force.faults))
        endpoint = super().make_endpoint(description, context, sockets)
        endpoint.paused = in_force is not None and in_force.paused
        return endpoint

    # What the supervisor asks for.

    async def begin(self, layout: Layout) -> None:
        """Serve the sockets of *layout*.

        :raises SuiteError: that cannot be done.
        """
        self.sockets.layout = layout
        self.startService()
        await self.opened
        self._in_force = {}

    async def prepare(self, make_plan: Callable[[], Plan], layout: Layout) -> Mapping[str, Stamp]:
        """Prepare all that is needed to serve another plan; return the files as they were read for it.

        Nothing else changes until `commit` or `abandon`.

        :raises SuiteError: it cannot be served here.
        """
        async with AsyncExitStack() as undo:
            undo.callback(self.sockets.forget_unused)
            with short_intervals():
                plan = await defer_to_daemon(self.reactor, make_plan)
            await self._lock.acquire()
            undo.callback(self._lock.release)
            undo.callback(setattr, self.sockets, "layout", self.sockets.layout)
            self.sockets.layout = layout
            change = await self._prepare(plan, undo, Turns(self.reactor))
            self._prepared = plan, change, undo.pop_all()
        return plan.stamps

    async def commit(self) -> None:
        """Serve what has been prepared."""
        if self._prepared is None:
            return
        (plan, change, undo), self._prepared = self._prepared, None
        undo.pop_all()
        try:
            with without_collections():
                await self._commit(plan, change, Turns(self.reactor))
        finally:
            self._lock.release()

    async def abandon(self) -> None:
        """Forget what has been prepared; everything is as before."""
        if self._prepared is None:
            return
        (_, _, undo), self._prepared = self._prepared, None
        await undo.aclose()

    def end(self, seconds: float) -> Deferred[None]:
        """Accept no more, and let echoes in progress finish for up to *seconds*.

        :returns: fires when everything is closed.
        """
        self._drain_until = self.reactor.seconds() + seconds
        return self.stopService()

    @override
    async def _stop_accepting(self, turns: Turns) -> list[RunningEndpoint]:
        endpoints = await super()._stop_accepting(turns)
        self.deaf.callback(None)
        return endpoints

    @override
    async def _drained(self) -> None:
        self.drained.callback(None)
        await self._dismissed

    def dismiss(self) -> None:
        """The others have finished, too, or the time for that is over."""
        if not self._dismissed.called:
            self._dismissed.callback(None)


class WorkerProcess:
    """A worker's process, from its first moment to its last.

    :ivar code: the exit code.
    """

    def __init__(self, reactor: Any, job: Job, sock: socket.socket) -> None:
        self.code = 0
        self._reactor = reactor
        self._suite = WorkerSuite(reactor, job)
        self._link = connect(reactor, sock)
        self._link.ended = self._supervisor_gone
        self._link.answers |= {
            "sockets": self._take,
            "begin": self._suite.begin,
            "prepare": self._prepare,
            "commit": self._suite.commit,
            "abandon": self._suite.abandon,
            "end": self._end,
            "drained": self._drained,
            "dismiss": self._suite.dismiss,
            "abort": self._suite.force,
            "faults": self._change_faults,
            "pause": self._pause,
            "counts": self._counts,
            "reopen": self._suite.reopen_log,
            "alive": lambda: True,
        }
        job.extend(self._suite, self._link)

    def _supervisor_gone(self) -> None:
        """Nobody says what is to be done any more, and nobody else may wait for us."""
        os._exit(self.code)

    def _take(self, given: Sequence[Given], descriptors: Sequence[int]) -> None:
        rest = iter(descriptors)
        for each in given:
            self._suite.sockets.take(each, [next(rest) for _ in range(1 + each.counted)])

    async def _prepare(self, config: Config, gallery: Any, renewal: bool, layout: Layout) -> Any:
        before = self._suite.plan
        return await self._suite.prepare(
            lambda: Plan.passed_on(config, gallery, before, renewal=renewal), layout
        )

    def _end(self, seconds: float) -> Deferred[None]:
        """Fires when no more connections are accepted."""
        self._suite.end(seconds).addErrback(lambda why: log.failure("not ended well", why)).addBoth(
            lambda _: self._reactor.stop()
        )
        return self._suite.deaf

    def _drained(self) -> Deferred[None]:
        return self._suite.drained

    def _change(self, name: str, change: Callable[[RunningEndpoint], None]) -> None:
        """Change the endpoint *name*, once everything is open."""

        def change_it(_: object) -> None:
            endpoint = self._suite.endpoints.get(name)
            if endpoint is not None:
                change(endpoint)

        self._suite.opened.addCallback(change_it)

    def _change_faults(self, name: str, faults: Faults) -> None:
        self._change(name, lambda endpoint: endpoint.change_faults(faults))

    def _pause(self, name: str, paused: bool) -> None:
        self._change(name, lambda endpoint: endpoint.hold_back(paused))

    async def _counts(self) -> list[tuple[str, bool, Counts]]:
        return await self._suite.counts(Turns(self._reactor))


def run(job: Job, sock: socket.socket) -> int:
    """Serve until the supervisor says, over *sock*, that it is enough; return the exit code."""
    reactor = install_reactor(job.reactor)
    if job.log is not None:
        job.log.carry_on(reactor, job.number)
    worker = WorkerProcess(reactor, job, sock)
    reactor.run(installSignalHandlers=False)
    return worker.code
