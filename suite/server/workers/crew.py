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
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

from suite.engine.accept import Reserve
from suite.errors import SuiteError
from suite.server.workers.link import GoneError, connect
from suite.server.workers.member import StartError, Worker, WorkerError

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

#: Seconds between two looks for ended processes that are no workers.
ORPHANS_INTERVAL: Final = 1.0


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
        self.workers = [Worker(number, reactor) for number in range(1, count + 1)]
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
        #: What a process can be started with when there are no other descriptors: its link takes some.
        self._reserve = [Reserve() for _ in range(3)]

    @property
    def serving(self) -> list[Worker]:
        """The workers that serve."""
        return [worker for worker in self.workers if worker.state == "serving"]

    async def start(self) -> None:
        """Start all of them.

        :raises SuiteError: one of them cannot serve.
        """
        self._take_reserve()
        if os.getpid() == 1:
            # How a worker has ended is worth knowing (for want of memory, perhaps), so the kernel does
            # not reap our children (`suite.signals`): those of others that have become ours are reaped here.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._reap_orphans()
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
        worker.state, worker.restart, worker.pid = "starting", None, 0
        worker.given.clear()
        worker.asked = worker.doubted = None
        started: Deferred[None] = Deferred()
        ended: Deferred[str] = Deferred()
        worker.started, worker.ended = started, ended
        worker.since, worker.began = time.time(), self.reactor.seconds()
        try:
            for each in self._reserve:
                each.drop()
            try:
                self._open(worker)
            finally:
                self._take_reserve()
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

    def _open(self, worker: Worker) -> None:
        """Start the process of *worker*, to which there is a link then.

        :raises StartError: there is no process, or no descriptor, to be had.
        """
        try:
            ours, theirs = socket.socketpair()
            with theirs, ExitStack() as undo:
                undo.callback(ours.close)
                worker.pid = self._fork(worker, theirs)
                undo.pop_all()
        except OSError as error:
            worker.state = "gone"
            raise StartError(worker.number, error.errno or 0) from error
        try:
            worker.link = connect(self.reactor, ours)
        except OSError as error:
            ours.close()  # at which it ends
            self._lost(worker)
            raise StartError(worker.number, error.errno or 0) from error

    def _take_reserve(self) -> None:
        for each in self._reserve:
            each.take()

    def _restart(self, worker: Worker) -> None:
        worker.restart = None
        if self._held or self.closing or self._ending is not None:
            return  # `release` looks for those that are gone
        worker.restarts += 1
        starting = Deferred.fromCoroutine(self._start(worker))
        starting.addCallbacks(lambda _: self._started(worker), lambda why: self._not_started(worker, why))

    def _started(self, worker: Worker) -> None:
        pid, is_new = worker.pid, worker.trouble.is_new

        def settled() -> None:
            if worker.pid == pid and worker.state == "serving":
                worker.trouble.over()
                if not is_new:
                    say()

        def say() -> None:
            log.info("worker {number} serves again, as process {pid}", number=worker.number, pid=pid)

        self.reactor.callLater(SETTLED, settled)
        if is_new:
            say()

    def _not_started(self, worker: Worker, why: Any) -> None:
        if why.check(WorkerError):
            return  # and is replaced
        problem = why.getErrorMessage()
        if not why.check(StartError):
            problem = f"worker {worker.number} cannot serve: {problem}"
        worker.trouble.say("{problem}", problem=problem)
        if worker.state != "gone":
            self.kill(worker)
        elif self._ending is None:  # no process could be started
            self._replace_later(worker)
        else:
            self._check_ended()

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

    def _reap_orphans(self) -> None:
        """As the first process of a container: reap all that have ended and are no workers, now and then."""
        workers = {worker.pid for worker in self.workers}
        with suppress(ChildProcessError):  # there are none
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if found.si_pid in workers:
                    break  # `_reap` is about to; the others are for the next time
                os.waitpid(found.si_pid, 0)
        self.reactor.callLater(ORPHANS_INTERVAL, self._reap_orphans)

    async def _reap(self, pid: int) -> str:
        """How the process *pid* has ended, for people."""
        for look in range(MOST_LOOKS + 1):
            try:
                found, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # the kernel was told to reap it
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
        worker.trouble.say(
            "worker {number} (process {pid}) {how}; another takes its place",
            number=worker.number,
            pid=worker.pid,
            how=how,
        )
        self._replace_later(worker)

    def kill(self, worker: Worker) -> None:
        """End the process of *worker* now."""
        if worker.state != "gone" and worker.pid:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)

    async def weed(self) -> None:
        """End those that hang: whoever serves has answered when this returns."""
        for answer in [self._weeded(worker) for worker in self.serving]:
            await answer

    def _weeded(self, worker: Worker) -> Deferred[Any]:
        """Fires when *worker* has answered, or is gone because it did not."""
        late = self.reactor.callLater(PATIENCE, self._kill_late, worker)

        def answered(_: object) -> None:
            if late.active():
                late.cancel()

        return worker.ask_for_life().addCallback(answered)

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
