"""One of the crew, as the supervisor sees it: its process, its link, and what is wrong with it."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from suite.errors import SuiteError
from suite.server.workers.link import Link
from suite.server.workers.trouble import Trouble


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


class StartError(SuiteError):
    """The process of a worker cannot be started.

    :ivar number: its number.
    :ivar code: what the operating system said, as `errno` has it.
    """

    def __init__(self, number: int, code: int) -> None:
        super().__init__(number, code)
        self.number = number
        self.code = code

    def __str__(self) -> str:
        return (
            f"worker {self.number} cannot be started: {os.strerror(self.code)}{_WAYS_OUT.get(self.code, '')}"
        )


_WAYS_OUT: Final = {
    errno.EMFILE: "; expected a higher limit of descriptors (ulimit -Hn, or LimitNOFILE= of a unit)",
    errno.EAGAIN: "; expected a higher limit of processes (ulimit -u, TasksMax=, or --pids-limit)",
}


class Worker:
    """One worker, and whoever has replaced it.

    :ivar number: its number, from 1.
    :ivar pid: the id of its process, or of the last one; 0: none could be started.
    :ivar state: ``starting``, ``serving``, ``ending`` (it does not speak to us any more) or ``gone``.
    :ivar restarts: how often it has been replaced.
    :ivar since: when its process was started, in seconds since the epoch.
    :ivar given: the slots of the sockets that it has.
    """

    def __init__(self, number: int, clock: Any) -> None:
        self.number = number
        self.pid = 0
        self.trouble = Trouble(clock)
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
