"""The supervisor: it opens every socket once, and has its workers serve them.

Rules: to the outside there is one suite, with one process to signal, one ready line and one admin interface;
a reload is prepared by all workers, and takes effect in all of them or in none; a worker that cannot do what
all the others have done is replaced; the suite ends when the last worker has.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from itertools import islice
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from typing_extensions import override

from suite.endpoints.descriptions import Description
from suite.endpoints.sockets import ListeningSocket
from suite.engine.binding import watchable
from suite.errors import SuiteError
from suite.guard.shared import Shared
from suite.server.counts import Counts
from suite.server.endpoint import RunningEndpoint
from suite.server.pauses import Turns
from suite.server.plan import Plan
from suite.server.service import EchoSuite
from suite.server.switching import Change
from suite.server.workers.asking import ask
from suite.server.workers.crew import Crew
from suite.server.workers.forking import fork
from suite.server.workers.held import HeldEndpoint
from suite.server.workers.link import MOST_DESCRIPTORS, GoneError
from suite.server.workers.member import Worker
from suite.server.workers.sockets import Given, Layout, SharedSockets, descriptors_for
from suite.server.workers.worker import InForce, Job, run

log = Logger()

#: Seconds that a worker may take to end beyond the time that it is given.
GRACE: Final = 1.0

#: Sockets that a worker is given at a time: each may have two descriptors.
SOME: Final = MOST_DESCRIPTORS // 2


class SharingError(SuiteError):
    """Workers cannot share memory here.

    :ivar workers: how many there were to be.
    :ivar reason: what the operating system said.
    """

    def __init__(self, workers: int, reason: str) -> None:
        super().__init__(workers, reason)
        self.workers = workers
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.workers} workers cannot share memory: {self.reason}; expected workers = 1"


class FilesChangedError(SuiteError):
    """Certificates have changed while they were read; the only argument is the number of a worker."""

    def __str__(self) -> str:
        return f"worker {self.args[0]} has read other certificates, which change just now; try again"


class Supervisor(EchoSuite):
    """A suite that is served by workers.

    :param reactor_name: the reactor of the workers; None: the best there is.
    :param signals: the signals that mean something to this process.
    :param extend: see `Job.extend`.
    :ivar crew: the workers.
    :ivar shared: what they share.
    """

    sockets: SharedSockets

    def __init__(
        self,
        reactor: Any,
        plan: Plan,
        announce: Callable[[str], None],
        *,
        reactor_name: str | None,
        signals: Iterable[int],
        extend: Callable[[EchoSuite, Any], object],
    ) -> None:
        self._count = plan.workers
        try:
            self.shared = Shared(self._count)
        except OSError as error:
            raise SharingError(self._count, error.strerror or str(error)) from None
        super().__init__(reactor, plan, announce)
        self.crew = Crew(reactor, self._count, self._fork, self._begin_worker, self._worker_gone)
        self._reactor_name = reactor_name
        self._signals = [*signals]
        self._extend = extend
        self._layout: dict[str, list[ListeningSocket]] = {}
        self._begun = False  # the workers have been started
        self._drains: list[Deferred[None]] = []

    @property
    def workers(self) -> list[Worker]:
        """The workers."""
        return self.crew.workers

    @property
    def heard(self) -> dict[str, Callable[..., Any]]:
        """What workers may tell: called with the worker and the arguments."""
        return self.crew.heard

    def open_at(self, numbers: Iterable[int], endpoint: RunningEndpoint | None = None) -> int:
        """How many connections are open at the workers *numbers*, which need not answer.

        :param endpoint: count those to this one only; None: to all.
        """
        slots = (
            None if endpoint is None else [sock.slot for sock in endpoint.sockets if sock.slot is not None]
        )
        return sum(self.shared.open_at(number, slots) for number in numbers)

    @override
    def _make_sockets(self) -> SharedSockets:
        return SharedSockets(self._count, self.shared, watchable(self.reactor))

    @override
    def make_endpoint(
        self, description: Description, context: SSL.Context | None, sockets: list[ListeningSocket]
    ) -> RunningEndpoint:
        return HeldEndpoint(self.surroundings, description, context, sockets, self.crew.tell_all)

    # Workers.

    def _fork(self, worker: Worker, theirs: socket.socket) -> int:
        job = Job(
            worker.number,
            self._reactor_name,
            self.plan,
            {
                name: InForce(endpoint.decider.faults, endpoint.paused)
                for name, endpoint in self.endpoints.items()
            },
            self.log,
            self.shared.of(worker.number),
            self._extend,
        )
        kept = [theirs.fileno(), *(self.log.descriptors if self.log is not None else [])]
        kept.append(self.shared.descriptor)
        kept += [keylog.fileno() for keylog in self.plan.credentials.keylogs.values()]
        return fork(lambda: run(job, theirs), kept, self._signals)

    async def _begin_worker(self, worker: Worker) -> None:
        await self._give(worker, self._layout)
        await worker.ask("begin", _slots_for(worker, self._layout))

    async def _give(self, worker: Worker, layout: Mapping[str, list[ListeningSocket]]) -> None:
        """Give *worker* the sockets of *layout* that it does not have."""
        missing = (
            (sock, descriptors)
            for sockets in layout.values()
            for sock in sockets
            if sock.slot not in worker.given and (descriptors := descriptors_for(worker.number, sock))
        )
        while some := [*islice(missing, SOME)]:
            given = [Given.of(sock) for sock, _ in some]
            worker.given.update(each.slot for each in given)
            await worker.ask("sockets", given, descriptors=[fd for _, fds in some for fd in fds])

    def _worker_gone(self, worker: Worker) -> None:
        self.shared.clear(worker.number)

    # Opening and changing.

    @override
    async def _prepare(self, plan: Plan, undo: AsyncExitStack, turns: Turns) -> Change:
        begun = self._begun
        if begun:
            await self.crew.hold()
            undo.callback(self.crew.release)
            await self.crew.weed()
        change = await super()._prepare(plan, undo, turns)
        if begun:
            undo.push_async_callback(self._abandon)
            layout = _layout_of(change)
            asked = [
                (worker, Deferred.fromCoroutine(self._prepare_worker(worker, plan, layout)))
                for worker in self.crew.serving
            ]
            problem: SuiteError | None = None
            for worker, answer in asked:
                try:
                    stamps = await answer
                    if stamps != plan.stamps:
                        raise FilesChangedError(worker.number)
                except GoneError:
                    pass  # its successor begins with what is served then
                except SuiteError as error:
                    problem = problem or error
            if problem is not None:
                raise problem
        return change

    async def _prepare_worker(
        self, worker: Worker, plan: Plan, layout: Mapping[str, list[ListeningSocket]]
    ) -> Any:
        await self._give(worker, layout)
        return await worker.ask(
            "prepare", plan.config, plan.gallery, plan.renewal, _slots_for(worker, layout)
        )

    async def _abandon(self) -> None:
        await self.crew.ask_all("abandon")
        for worker in self.crew.serving:
            self._forget_others(worker)

    def _forget_others(self, worker: Worker) -> None:
        """*worker* has closed the sockets that are not in the layout."""
        worker.given &= {sock.slot for sockets in self._layout.values() for sock in sockets}

    @override
    async def _switch(self, change: Change, turns: Turns) -> None:
        self._layout = _layout_of(change)
        if not self._begun:
            self._begun = True
            await self.crew.start()
            await super()._switch(change, turns)
            return
        try:
            # What is closed here first is closed for good as soon as the workers have accepted what waits.
            await super()._switch(change, turns)
            await self._commit_workers()
        finally:
            self.crew.release()

    async def _commit_workers(self) -> None:
        for worker, answer in [(worker, worker.ask("commit")) for worker in self.crew.serving]:
            try:
                await answer
            except GoneError:
                pass
            except SuiteError as error:
                log.error("worker {number} has not changed: {error}", number=worker.number, error=str(error))
                self.crew.kill(worker)
            else:
                self._forget_others(worker)

    # Questions.

    @override
    async def counts(self, turns: Turns) -> list[tuple[str, bool, Counts]]:
        total: dict[tuple[str, bool], Counts] = {(name, False): Counts() for name in self.endpoints}
        answers = await ask(self.crew, "counts")
        for number in answers.late:
            log.warn(
                "worker {number} (process {pid}) does not answer; its connections ({open:,} open) are not"
                " counted below",
                number=number,
                pid=self.workers[number - 1].pid,
                open=self.open_at([number]),
                requested=True,
            )
        for found in answers.found.values():
            async for name, leaving, counts in turns.between(found):
                total[name, leaving] = total.get((name, leaving), Counts()) + counts
        return [(name, leaving, counts) for (name, leaving), counts in total.items()]

    @override
    def reopen_log(self) -> None:
        super().reopen_log()
        self.crew.tell_all("reopen")

    @override
    def look_after(self) -> None:
        self.crew.kill_silent()

    # Closing.

    @override
    def stopService(self) -> Deferred[None]:
        self.crew.closing = True
        return super().stopService()

    @override
    async def _stop_accepting(self, turns: Turns) -> list[RunningEndpoint]:
        self.reactor.callLater(self.drain_left + GRACE, self._kill_all)
        self.crew.end()
        weeding = Deferred.fromCoroutine(self.crew.weed())
        weeding.addErrback(lambda why: log.failure("not all workers could be asked", why))
        endpoints = await super()._stop_accepting(turns)
        # Closed here already, they are closed for good as soon as the workers have accepted what waits.
        await self.crew.ask_all("end", self.drain_left)
        self._drains = [worker.ask("drained") for worker in self.crew.serving]
        return endpoints

    @override
    async def _finish(self, endpoints: list[RunningEndpoint], turns: Turns) -> None:
        for drain in self._drains:
            with suppress(SuiteError):  # it is gone, and so are its connections
                await drain
        self.crew.tell_all("dismiss")
        await self.crew.end()
        await super()._finish(endpoints, turns)

    @override
    def force(self) -> None:
        super().force()
        self.crew.tell_all("abort")
        self.reactor.callLater(GRACE, self._kill_all)

    def _kill_all(self) -> None:
        for worker in self.crew.workers:
            self.crew.kill(worker)


def _layout_of(change: Change) -> dict[str, list[ListeningSocket]]:
    """The sockets of each endpoint, by its name."""
    kept = {endpoint: sockets for endpoint, (_, _, sockets) in change.kept.items()}
    return {name: kept.get(endpoint, endpoint.sockets) for name, endpoint in change.endpoints.items()}


def _slots_for(worker: Worker, layout: Mapping[str, list[ListeningSocket]]) -> Layout:
    """What *worker* listens on."""
    found = {}
    for name, sockets in layout.items():
        slots = [sock.slot for sock in sockets if sock.slot is not None and sock.slot in worker.given]
        if slots:
            found[name] = slots
    return found
