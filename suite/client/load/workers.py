"""A load from several processes, one for each core, say.

Rules: each has its share of the connections and of the messages, which take turns as those of one process do;
all connections of all of them are open before the first message; figures are merged before anything is
derived from them. One that dies ends the load with an error: what it has measured is not known. None outlives
the process that has started it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Final, NamedTuple, cast

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.client.dial.dialer import ConnectOptions, Dialer
from suite.client.histogram import Histogram
from suite.client.load.figures import Figures, merged
from suite.client.load.load import Load
from suite.client.load.measurement import Snapshot
from suite.client.load.options import Options
from suite.client.load.schedule import Part
from suite.client.load.series import HistogramLog
from suite.client.run import run_until
from suite.errors import SuiteError
from suite.server import process
from suite.signals import arrived

#: Signals that end a load early, as in one process.
INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM)


class WorkerError(SuiteError):
    """A worker that has ended before its time; the only argument says how."""

    def __str__(self) -> str:
        return f"a worker of this load {self.args[0]}; what it has measured is lost"


# What a worker tells.


class Opened(NamedTuple):
    """All connections of a worker are open, or have failed."""


class Began(NamedTuple):
    """Measuring begins, at *now*, in seconds since the epoch."""

    now: float


class Logged(NamedTuple):
    """One interval of the log."""

    start: float
    seconds: float
    histogram: Histogram


# The workers.


class Word(Enum):
    """What a worker is told."""

    BEGIN = auto()
    INTERRUPT = auto()


@implementer(IReadDescriptor)
class Ear(FileDescriptor):
    """Hears what a worker is told.

    :param interrupt: called when the load is to end early: somebody has said so, or the parent is gone.
    :ivar begun: fires when the first message may be sent.
    """

    def __init__(self, reactor: IReactorFDSet, parent: Connection, interrupt: Callable[[], object]) -> None:
        super().__init__(reactor)
        self.begun: Deferred[None] = Deferred()
        self._parent = parent
        self._interrupt = interrupt

    @override
    def fileno(self) -> int:
        return self._parent.fileno()

    @override
    def doRead(self) -> Failure | None:
        try:
            word = self._parent.recv()
        except (EOFError, OSError):
            return Failure(ConnectionDone())
        if word is Word.INTERRUPT:
            self._interrupt()
        elif not self.begun.called:
            self.begun.callback(None)
        return None

    @override
    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self._interrupt()


class Told:
    """A `HistogramLog` that is written elsewhere.

    :param tell: tells what is to be written.
    """

    problem = None

    def __init__(self, tell: Callable[[object], object]) -> None:
        self._tell = tell

    def begin(self, now: float) -> None:
        """`HistogramLog.begin`."""
        self._tell(Began(now))

    def add(self, start: float, seconds: float, histogram: Histogram) -> None:
        """`HistogramLog.add`."""
        self._tell(Logged(start, seconds, histogram))


def _work(parent: Connection, inherited: Iterable[Connection], measure: Callable[[], Figures]) -> None:
    """One worker, to its end.

    :param inherited: the parent's ends of connections, which are to end with the parent.
    """
    for each in inherited:
        each.close()
    os.setpgid(0, 0)  # Ctrl-C is for the parent, which says so
    with suppress(OSError):  # the parent is gone, and nobody wants to know
        try:
            parent.send(measure())
        except SuiteError as error:
            parent.send(error)


def _measure(
    parent: Connection, name: str | None, options: Options, reach: ConnectOptions, part: Part, logs: bool
) -> Figures:
    """What this worker measures.

    :raises SuiteError: it cannot.
    """
    reactor = process.install_reactor(name)

    def opened() -> Deferred[None]:
        parent.send(Opened())
        return ear.begun

    log: Any = Told(parent.send) if logs else None
    dialer = Dialer(reactor, options.target, reach)
    load = Load(reactor, options, dialer, parent.send, log, part=part, opened=opened)
    ear = Ear(reactor, parent, load.interrupt)

    def start() -> Deferred[Figures]:
        running = load.run()
        ear.startReading()
        return running

    try:
        return run_until(reactor, start, lambda _: load.interrupt())
    except CancelledError:
        return Figures([], interrupted=True)


# Their parent.


class Workers:
    """The workers of one load, and what they have told.

    :param show: called with a `Snapshot` of all of them.
    :param log: takes a histogram for each second.
    """

    def __init__(self, show: Callable[[Snapshot], None], log: HistogramLog | None) -> None:
        self._show = show
        self._log = log
        self._workers: dict[Connection, Any] = {}
        self._opened: set[Connection] = set()
        self._snapshots: dict[Connection, list[Snapshot]] = {}
        self._logged: dict[Connection, list[Logged]] = {}
        self._figures: dict[Connection, Figures] = {}
        self._began = False
        self._interrupted = False

    def run(self, reactor: str | None, options: Options, reach: ConnectOptions) -> Figures:
        """Load the target from `Options.workers` processes, each of which runs *reactor*.

        :raises SuiteError: one of them cannot, or has died.
        """
        forks, count = get_context("fork"), options.workers
        with self._interruptible():
            try:
                for number in range(count):
                    ours, theirs = forks.Pipe()
                    inherited = [*self._workers, ours]
                    work = partial(_measure, theirs, reactor, options, reach, Part(number, count))
                    worker = forks.Process(
                        target=_work,
                        args=(theirs, inherited, partial(work, self._log is not None)),
                        daemon=True,
                    )
                    worker.start()
                    theirs.close()
                    self._workers[ours] = worker
                    if self._interrupted:
                        ours.send(Word.INTERRUPT)
                while len(self._figures) < count:
                    for each in wait([each for each in self._workers if each not in self._figures]):
                        self._hear(cast(Connection, each))
            except BaseException:
                for worker in self._workers.values():
                    worker.kill()
                raise
            finally:
                for worker in self._workers.values():
                    worker.join()
        self._write_log(last=True)
        return merged([*self._figures.values()])

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Tell the workers of each Ctrl-C and SIGTERM in the block."""

        def interrupt(number: int, _frame: object) -> None:
            self._interrupted = True
            arrived.append(number)
            for worker in [*self._workers]:
                with suppress(OSError):  # it has ended
                    worker.send(Word.INTERRUPT)

        before = [(number, signal.signal(number, interrupt)) for number in INTERRUPTS]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    def _hear(self, worker: Connection) -> None:
        try:
            told = worker.recv()
        except (EOFError, OSError):
            ended = self._workers[worker]
            ended.join()
            code = ended.exitcode
            how = f"has been killed by signal {-code}" if code < 0 else f"has ended with code {code}"
            raise WorkerError(how) from None
        if isinstance(told, SuiteError):
            raise told
        if isinstance(told, Opened):
            self._opened.add(worker)
            if len(self._opened) == len(self._workers):
                for each in self._workers:
                    with suppress(OSError):  # it has died, which is heard next
                        each.send(Word.BEGIN)
        elif isinstance(told, Snapshot):
            self._snapshots.setdefault(worker, []).append(told)
            self._show_progress()
        elif isinstance(told, Began):
            if self._log is not None and not self._began:
                self._began = True
                self._log.begin(told.now)
        elif isinstance(told, Logged):
            self._logged.setdefault(worker, []).append(told)
            self._write_log()
        else:
            self._figures[worker] = told

    def _show_progress(self) -> None:
        """Show what all of them have told of the same time."""
        if len(self._snapshots) == len(self._workers) and all(self._snapshots.values()):
            found = [waiting.pop(0) for waiting in self._snapshots.values()]
            self._show(
                Snapshot(
                    max(each.seconds for each in found),
                    sum(each.messages for each in found),
                    sum(each.rate for each in found),
                    sum(each.errors for each in found),
                )
            )

    def _write_log(self, *, last: bool = False) -> None:
        """Write the intervals that all of them have told; at the end, what is left."""
        if self._log is None:
            return
        waiting = [*self._logged.values()]
        while any(waiting) and (last or (len(waiting) == len(self._workers) and all(waiting))):
            found = [each.pop(0) for each in waiting if each]
            whole = Histogram()
            for each in found:
                whole.merge(each.histogram)
            self._log.add(found[0].start, max(each.seconds for each in found), whole)
