"""The workers of a supervisor: starting them, replacing those that die, and asking them.

Rules: one that dies is replaced, soon if it has served for a while, and otherwise after a pause that grows,
so that what kills each of them does not take the machine; what waits in its queue waits for the next one;
nobody is started while a change is under way, so that each serves one plan or the other.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

from suite.errors import SuiteError
from suite.server.workers.link import GoneError, Link, connect

log = Logger()

#: Seconds for which a worker has to have served for its successor to be started at once.
SETTLED: Final = 1.0

#: Seconds until the successor of one that has not; twice as many each time, up to the most.
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 0.5

#: Seconds within which a worker answers, or is taken to hang.
PATIENCE: Final = 5.0

#: Seconds between two looks at whether a worker that is gone has ended, and how many of them there are before
#: it is killed.
LOOK_INTERVAL: Final = 0.01
MOST_LOOKS: Final = 100


class WorkerError(SuiteError):
    """A worker that has ended before it served.

    :ivar number: its number.
    :ivar how: how it has ended, for people.
    """

    def __init__(self, number: int, how: str) -> None:
        super().__init__(number, how)
        self.number = number
        self.how = how

    def __str__(self) -> str:
        return f"worker {self.number} {self.how} before it served"


class Worker:
    """One worker, and whoever has replaced it.

    :ivar number: its number, from 1.
    :ivar pid: the id of its process, or of the last one.
    :ivar state: ``starting``, ``serving``, ``ending`` (it does not speak to us any more) or ``gone``.
    :ivar restarts: how often it has been replaced.
    :ivar since: when its process was started, in seconds since the epoch.
    :ivar given: the slots of the sockets that it has.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.state = "gone"
        self.restarts = 0
        self.since = 0.0
        self.given: set[int] = set()
        self.link = Link()
        #: While it starts: fires when it serves, or is gone.
        self.started: Deferred[None] | None = None
        #: Fires with how its process has ended, for people.
        self.ended: Deferred[str] = Deferred()
        self.began = 0.0
        self.pause = 0.0
        self.restart: IDelayedCall | None = None
        #: Fires when it has said that it is alive, as it was asked to; None: it was not.
        self.asked: Deferred[Any] | None = None
        #: The same, of one that has not answered something else in time.
        self.doubted: Deferred[Any] | None = None

    def ask(self, what: str, *arguments: object, descriptors: Sequence[int] = ()) -> Deferred[Any]:
        """Ask it something; see `Link.ask`."""
        return self.link.ask(what, *arguments, descriptors=descriptors)

    def ask_for_life(self) -> Deferred[Any]:
        """Fires when it has said that it is alive, or when it is gone."""
        return self.ask("alive").addErrback(lambda why: why.trap(SuiteError))

    @property
    def silent(self) -> bool:
        """Whether it did not answer in time, and has said nothing since."""
        return self.doubted is not None and not self.doubted.called

    def doubt(self) -> None:
        """It has not answered in time: it is silent until it says that it is alive, or is gone."""
        if not self.silent:
            self.doubted = self.ask_for_life()


class Crew:
    """All workers.

    :param reactor: the supervisor's.
    :param count: how many there are.
    :param fork: starts the process of a worker, which is to speak over a socket; returns its id.
    :param begin: has a worker that has just been started serve.
    :param gone: called when a worker's process has ended.
    :ivar workers: the workers, by number from 1.
    """

    def __init__(
        self,
        reactor: Any,
        count: int,
        fork: Callable[[Worker, socket.socket], int],
        begin: Callable[[Worker], Coroutine[Deferred[Any], Any, None]],
        gone: Callable[[Worker], object],
    ) -> None:
        self.workers = [Worker(number) for number in range(1, count + 1)]
        #: What workers tell: called with the worker and the arguments.
        self.heard: dict[str, Callable[..., Any]] = {}
        self.reactor = reactor
        self._fork = fork
        self._begin = begin
        self._gone = gone
        self._begun = False
        self._held = False
        self._weeding: IDelayedCall | None = None
        #: Nobody is to be started any more: the suite is about to end.
        self.closing = False
        self._ending: Deferred[None] | None = None

    @property
    def serving(self) -> list[Worker]:
        """The workers that serve."""
        return [worker for worker in self.workers if worker.state == "serving"]

    async def start(self) -> None:
        """Start all of them.

        :raises SuiteError: one of them cannot serve.
        """
        starts = [Deferred.fromCoroutine(self._start(worker)) for worker in self.workers]
        try:
            await gatherResults(starts, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        finally:
            self._begun = True

    async def _start(self, worker: Worker) -> None:
        """Start *worker*; it serves then.

        :raises SuiteError: it cannot.
        """
        worker.state, worker.restart = "starting", None
        worker.given.clear()
        worker.asked = worker.doubted = None
        started: Deferred[None] = Deferred()
        ended: Deferred[str] = Deferred()
        worker.started, worker.ended = started, ended
        worker.since, worker.began = time.time(), self.reactor.seconds()
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    worker.pid = self._fork(worker, theirs)
                except BaseException:
                    ours.close()
                    raise
            worker.link = connect(self.reactor, ours)
            worker.link.ended = lambda: self._lost(worker)
            for what, hear in self.heard.items():
                worker.link.answers[what] = partial(hear, worker)
            try:
                await self._begin(worker)
            except GoneError:
                raise WorkerError(worker.number, await ended) from None
            worker.state = "serving"
        finally:
            worker.started = None
            started.callback(None)

    def _restart(self, worker: Worker) -> None:
        worker.restart = None
        if self._held or self.closing or self._ending is not None:
            return  # `release` looks for those that are gone
        worker.restarts += 1
        starting = Deferred.fromCoroutine(self._start(worker))
        starting.addCallbacks(
            lambda _: log.info(
                "worker {number} serves again, as process {pid}", number=worker.number, pid=worker.pid
            ),
            lambda why: self._not_started(worker, why),
        )

    def _not_started(self, worker: Worker, why: Any) -> None:
        if why.check(WorkerError):
            return  # and is replaced
        log.error("worker {number} cannot serve: {why}", number=worker.number, why=why.getErrorMessage())
        if worker.link.transport is None:  # no process could be started
            worker.state = "gone"
            self._replace_later(worker)
        else:
            self.kill(worker)

    def _replace_later(self, worker: Worker) -> None:
        if self.reactor.seconds() - worker.began >= SETTLED:
            worker.pause = 0.0
        else:
            worker.pause = min(LONGEST_PAUSE, 2 * worker.pause or FIRST_PAUSE)
        worker.restart = self.reactor.callLater(worker.pause, self._restart, worker)

    # Their ends.

    def _lost(self, worker: Worker) -> None:
        """*worker* does not speak to us any more: it has ended, or is about to."""
        worker.state = "ending"
        ending = Deferred.fromCoroutine(self._reap(worker.pid))
        ending.addCallback(self._ended, worker)
        ending.addErrback(lambda why: log.failure("worker {number} lost", why, number=worker.number))

    async def _reap(self, pid: int) -> str:
        """How the process *pid* has ended, for people."""
        for look in range(MOST_LOOKS + 1):
            try:
                found, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # as the first process of a container, we leave that to the kernel
                return "has ended"
            if found:
                code = os.waitstatus_to_exitcode(status)
                return f"has been killed by signal {-code}" if code < 0 else f"has ended with code {code}"
            if look == MOST_LOOKS - 1:
                os.kill(pid, signal.SIGKILL)
            await deferLater(self.reactor, LOOK_INTERVAL)
        return "does not end"

    def _ended(self, how: str, worker: Worker) -> None:
        worker.state = "gone"
        self._gone(worker)
        worker.ended.callback(how)
        if self._ending is not None:
            self._check_ended()
            return
        if not self._begun:
            return  # `start` fails
        log.error(
            "worker {number} (process {pid}) {how}; another takes its place",
            number=worker.number,
            pid=worker.pid,
            how=how,
        )
        self._replace_later(worker)

    def kill(self, worker: Worker) -> None:
        """End the process of *worker* now."""
        if worker.state != "gone":
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)

    async def weed(self) -> None:
        """End those that hang: whoever serves has answered when this returns."""
        asked = [
            (worker.ask_for_life(), self.reactor.callLater(PATIENCE, self._kill_late, worker))
            for worker in self.serving
        ]
        for answer, late in asked:
            await answer  # fires when it is gone, too
            if late.active():
                late.cancel()

    def _kill_late(self, worker: Worker) -> None:
        log.error("worker {number} does not answer; it is killed", number=worker.number)
        self.kill(worker)

    def kill_silent(self) -> None:
        """End those that have not answered since the last call, and ask the others whether they are alive."""
        for worker in self.serving:
            if worker.asked is not None and not worker.asked.called:
                self._kill_late(worker)
            else:
                worker.asked = worker.ask_for_life()

    def end(self) -> Deferred[None]:
        """Replace nobody any more; fires when all are gone."""
        if self._ending is None:
            self._ending = Deferred()
            for worker in self.workers:
                if worker.state == "starting":  # it has served nobody
                    self.kill(worker)
                if worker.restart is not None:
                    worker.restart.cancel()
                    worker.restart = None
            self._check_ended()
        return self._ending

    def _check_ended(self) -> None:
        ending = self._ending
        if (
            ending is not None
            and not ending.called
            and all(worker.state == "gone" for worker in self.workers)
        ):
            ending.callback(None)

    # Changes.

    async def hold(self) -> None:
        """Start nobody from now on, until `release`; return when nobody is about to serve."""
        self._held = True
        for worker in self.workers:
            if worker.started is not None:
                await worker.started
        if self._held and self._weeding is None:
            self._weeding = self.reactor.callLater(PATIENCE, self._weed_again)

    def _weed_again(self) -> None:
        """A change waits for all of them: for one that has begun to hang meanwhile, not for ever."""

        def next_time(_: object) -> None:
            if self._held:
                self._weeding = self.reactor.callLater(PATIENCE, self._weed_again)

        self._weeding = None
        weeding = Deferred.fromCoroutine(self.weed())
        weeding.addErrback(lambda why: log.failure("not all workers could be asked", why))
        weeding.addCallback(next_time)

    def release(self) -> None:
        """Start those again that are missing."""
        self._held = False
        if self._weeding is not None:
            self._weeding.cancel()
            self._weeding = None
        for worker in self.workers:
            if worker.state == "gone" and worker.restart is None and self._begun and self._ending is None:
                self._restart(worker)

    async def ask_all(self, what: str, *arguments: object) -> dict[int, Any]:
        """The answers of all that serve, by number; those that have died meanwhile are left out.

        :raises SuiteError: one of them has answered with it.
        """
        asked = [(worker.number, worker.ask(what, *arguments)) for worker in self.serving]
        found = {}
        problem: SuiteError | None = None
        for number, answer in asked:
            try:
                found[number] = await answer
            except GoneError:
                pass
            except SuiteError as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return found

    def tell_all(self, what: str, *arguments: object) -> None:
        """Tell all that serve, and those that are about to."""
        for worker in self.workers:
            if worker.state in ("starting", "serving"):
                worker.link.tell(what, *arguments)
