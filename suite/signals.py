"""Signals, from the first moment of the process to the last.

Rules: a signal that arrives before anything can act on it is remembered; none is fatal, so none leaves the
file of a UNIX socket behind; a signal mask inherited from the parent does not make the server deaf. This
module imports next to nothing, because it has to act before the slow imports. As the first process of a
container it inherits orphans, which leave no zombies: the suite starts no process whose end it wants to know.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from enum import Enum
from typing import Any, Final


class Action(Enum):
    """What a signal asks for."""

    STOP = "stop, and let current echoes finish"
    ABORT = "stop at once"
    RELOAD = "read the configuration again"
    REOPEN = "open the log file again"
    STATUS = "write a status to the log"


#: What each signal asks for, by name: not every system has all of them.
MEANINGS: Final = {
    "SIGTERM": Action.STOP,
    "SIGINT": Action.STOP,
    "SIGBREAK": Action.STOP,  # Ctrl-Break on Windows
    "SIGQUIT": Action.ABORT,
    "SIGHUP": Action.RELOAD,
    "SIGUSR1": Action.REOPEN,
    "SIGUSR2": Action.STATUS,
}

#: Signals that would kill the process unless they are handled (signal(7)), and mean nothing to it. They stop
#: it, as SIGTERM does. Not those of a crash (SIGSEGV, SIGABRT, …), which should leave a core dump where one
#: is wanted.
OTHERS: Final = ("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR", "SIGSTKFLT", "SIGXCPU")

#: Signals to stop that have arrived at a command that ends when its work has: from then on, it waits for
#: nobody who does not read.
arrived: Final[list[int]] = []

#: The exit code of a process that was told twice to stop before it served.
EXIT_INTERRUPTED: Final = 1


def actions() -> dict[int, Action]:
    """What each signal of this system asks for, by number."""
    found = {getattr(signal, name): action for name, action in MEANINGS.items() if hasattr(signal, name)}
    for name in OTHERS:
        if hasattr(signal, name):
            found.setdefault(getattr(signal, name), Action.STOP)
    if hasattr(signal, "SIGRTMIN"):
        found.update(dict.fromkeys(range(signal.SIGRTMIN, signal.SIGRTMAX + 1), Action.STOP))
    return found


def end_in(seconds: float, code: int, leave: Callable[[], object] = bool) -> None:
    """End this process with *code* in *seconds*, even if all it does then is to wait for somebody.

    :param leave: called just before, in another thread.
    """
    import threading  # noqa: PLC0415  # not for everyone who starts

    def end() -> None:
        leave()
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True  # nobody waits for it
    timer.start()


class Signals:
    """The signals of this process: remembered from `catch` on, passed on from `connect` on.

    The methods must be called in the main thread.
    """

    def __init__(self) -> None:
        self._actions = actions()
        self._previous: dict[int, Any] = {}
        self._pending: dict[int, None] = {}
        self._deliver: Callable[[int], None] | None = None

    def catch(self) -> None:
        """Handle all signals, also those that the parent has blocked or ignored.

        Handlers that others have set stay (a profiler's, or that of `twistd` for its log file), but for those
        of the signals that stop us: the reactor's.
        """
        stop = {getattr(signal, name, None) for name in ("SIGTERM", "SIGINT", "SIGBREAK")}
        others = {getattr(signal, name, None) for name in OTHERS}
        for number in self._actions:
            current = signal.getsignal(number)  # None: a handler that is not Python's
            is_free = current is signal.SIG_DFL or (current is signal.SIG_IGN and number not in others)
            if number in stop or is_free:
                self._handle(number, self._arrived)
        if hasattr(signal, "SIGTTOU"):
            # A background process that writes to its terminal would be stopped where `stty tostop` is set.
            self._handle(signal.SIGTTOU, signal.SIG_IGN)
        if os.getpid() == 1 and hasattr(signal, "SIGCHLD"):
            # The kernel reaps them (wait(2), "NOTES"). Again after a reactor has set its own handler.
            self._handle(signal.SIGCHLD, signal.SIG_IGN)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._actions)

    def _handle(self, number: int, handler: Any) -> None:
        previous = signal.signal(number, handler)
        self._previous.setdefault(number, previous)

    def _arrived(self, number: int, _frame: object) -> None:
        if self._deliver is not None:
            self._deliver(number)
            return
        if self.stopping and self._actions[number] in {Action.STOP, Action.ABORT}:
            # It may be reading from a file server that does not answer, so it is not waited for.
            os._exit(EXIT_INTERRUPTED)
        self._pending[number] = None

    @property
    def stopping(self) -> bool:
        """Whether a signal to stop has arrived before `connect`."""
        return any(self._actions[number] in {Action.STOP, Action.ABORT} for number in self._pending)

    @property
    def numbers(self) -> list[int]:
        """The signals that mean something."""
        return [*self._actions]

    def action(self, number: int) -> Action:
        """What the signal *number* asks for."""
        return self._actions[number]

    def connect(self, deliver: Callable[[int], None]) -> None:
        """Pass the number of every signal to *deliver*, first those that have arrived already.

        :param deliver: called between any two steps of the program, so it should do little.
        """
        self._deliver = deliver
        pending, self._pending = self._pending, {}
        for number in pending:
            deliver(number)

    def release(self) -> None:
        """Undo `catch`, and let the signals that have arrived do what they would have done without it."""
        for number, previous in self._previous.items():
            if previous is not None:  # a handler that is not Python's, which Python cannot set
                signal.signal(number, previous)
        pending, self._pending, self._previous = self._pending, {}, {}
        for number in pending:
            signal.raise_signal(number)

    def ignore(self) -> None:
        """Ignore all signals from now on.

        During its exit, Python restores the default actions of handled signals, but not of ignored ones: a
        late signal would change the exit code.
        """
        for number in self._previous:
            signal.signal(number, signal.SIG_IGN)
