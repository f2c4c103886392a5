"""A timer accurate to microseconds, if the kernel has one.

Rules: it ticks at a fixed interval and never drifts; ticks that the reactor could not handle in time are
merged into one.

The reactor's own ``callLater`` relies on epoll_wait(2), which counts in milliseconds: longer than the round
trip of a message over a cable. timerfd_create(2) counts in nanoseconds.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from cffi import FFI
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from suite.engine.interfaces import Selectable

ffi = FFI()
ffi.cdef("""
    struct timespec { long tv_sec; long tv_nsec; };
    struct itimerspec { struct timespec it_interval; struct timespec it_value; };
    int timerfd_create(int, int);
    int timerfd_settime(int, int, const struct itimerspec *, struct itimerspec *);
""")

_NANO: Final = 1_000_000_000
_TFD_TIMER_ABSTIME: Final = 1


def _library() -> Any:
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return None
    library = ffi.dlopen(None)
    return library if hasattr(library, "timerfd_create") else None


_LIBRARY: Final = _library()


def start_timer(reactor: Any, begin: int, interval: int, tick: Callable[[], None]) -> Callable[[], None]:
    """Call *tick* at *begin*, and every *interval* from then on.

    :param begin: the time of the first tick, on the clock of `time.monotonic_ns`.
    :param interval: the time between ticks, in nanoseconds.
    :returns: a function that stops the timer.
    """
    if _LIBRARY is not None and IReactorFDSet.providedBy(reactor):
        return _KernelTimer(reactor, begin, interval, tick).stop
    looping = LoopingCall(tick)
    looping.clock = reactor
    delay = max(0, begin - time.monotonic_ns()) / _NANO
    waiting = reactor.callLater(delay, lambda: looping.start(interval / _NANO))

    def stop() -> None:
        if waiting.active():
            waiting.cancel()
        elif looping.running:
            looping.stop()

    return stop


@implementer(IReadDescriptor)
class _KernelTimer(Selectable):
    """A timerfd that the reactor reads."""

    needs_log_context = False

    def __init__(self, reactor: Any, begin: int, interval: int, tick: Callable[[], None]) -> None:
        self._reactor = reactor
        self._tick = tick
        self._fd: int = _LIBRARY.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        when: Any = ffi.new("struct itimerspec *")
        when.it_value.tv_sec, when.it_value.tv_nsec = divmod(max(begin, 1), _NANO)
        when.it_interval.tv_sec, when.it_interval.tv_nsec = divmod(max(interval, 1), _NANO)
        _LIBRARY.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, when, ffi.NULL)
        reactor.addReader(self)

    def fileno(self) -> int:
        """The descriptor; -1 once it is closed."""
        return self._fd

    def doRead(self) -> None:
        """`IReadDescriptor.doRead`: one tick or more are due."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        self._tick()

    def stop(self) -> None:
        """Stop the timer."""
        if self._fd >= 0:
            self._reactor.removeReader(self)
            os.close(self._fd)
            self._fd = -1

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002  # the reactor is stopping
        """`IReadDescriptor.connectionLost`."""
        self.stop()

    def logPrefix(self) -> str:
        """`ILoggingContext.logPrefix`."""
        return "timer"
