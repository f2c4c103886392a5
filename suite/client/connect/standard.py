"""Standard input and standard output of ``connect`` in a pipe, each with a thread that may wait.

Rules: the reactor never waits for them; a descriptor that somebody who shares it has made non-blocking is
waited for, and left as it is; a reader of our output that goes away is noticed at once, not only by the next
write. The threads are daemons: a process that ends does not wait for a reader that is stuck.
"""

from __future__ import annotations

import errno
import os
import queue
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from suite.errors import SuiteError

#: The most bytes to read from standard input at once.
READ_SIZE: Final = 65536

#: Bytes waiting to be written above which the target is asked to pause, as in Twisted's transports.
HIGH_WATER: Final = 65536


class Input:
    """Standard input, read in a thread: it may be a file, which epoll cannot watch.

    :param reactor: the reactor in whose thread results are delivered.
    """

    def __init__(self, reactor: Any, fileno: int) -> None:
        self._reactor = reactor
        self._fileno = fileno
        self._asked: queue.SimpleQueue[Deferred[bytes]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def read(self) -> Deferred[bytes]:
        """Fires with the next bytes as soon as there are some; with no bytes at the end of the input.

        Fails with `SuiteError` if the input cannot be read.
        """
        asked: Deferred[bytes] = Deferred()
        self._asked.put(asked)
        return asked

    def _serve(self) -> None:
        while True:
            asked = self._asked.get()
            result: bytes | Failure
            try:
                result = self._read()
            except OSError as error:  # a directory; a terminal that is gone
                result = Failure(SuiteError(f"standard input: {error.strerror}"))
            self._reactor.callFromThread(self._answer, asked, result)

    def _read(self) -> bytes:
        if sys.stdin is None:  # closed before we started: its number may be another file's
            return b""
        while True:
            with suppress(BlockingIOError):
                return os.read(self._fileno, READ_SIZE)
            _wait(self._fileno, select.POLLIN)

    @staticmethod
    def _answer(asked: Deferred[bytes], result: bytes | Failure) -> None:
        if not asked.called:
            asked.callback(result)  # a Failure goes to the errbacks


class Output:
    """Standard output, written in a thread.

    :param reactor: the reactor in whose thread callbacks are called.
    :ivar broken: fires when the reader has gone away; fails with `SuiteError` when writing fails.
    :raises SuiteError: it is closed.
    """

    def __init__(self, reactor: Any, fileno: int) -> None:
        if sys.stdout is None:  # see `Input`
            raise SuiteError(f"standard output: {os.strerror(errno.EBADF)}")
        self.broken: Deferred[None] = Deferred()
        self._reactor = reactor
        self._fileno = fileno
        self._problem: Failure | None = None
        self._waiting = 0
        self._is_full = False
        self._pause: Callable[[bool], None] = lambda _: None
        self._flushed: Deferred[None] | None = None
        self._pieces: deque[bytes] = deque()
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        threading.Thread(target=self._serve, daemon=True).start()

    def throttle(self, pause: Callable[[bool], None]) -> None:
        """Call *pause* with True when much is waiting to be written, and with False when it has been."""
        self._pause = pause
        if self._is_full:
            pause(True)

    def write(self, data: bytes) -> None:
        """Write *data*, later; errors are reported by `broken`."""
        if self.broken.called or not data:
            return
        self._waiting += len(data)
        self._pieces.append(data)
        with suppress(BlockingIOError):  # full of wake-ups already
            os.write(self._wake, b"!")
        self._report_level()

    def flush(self) -> Deferred[None]:
        """Fires when everything has been written, or the reader has gone; fails as `broken` does."""
        if self.broken.called:
            return succeed(None) if self._problem is None else fail(self._problem)
        if not self._waiting:
            return succeed(None)
        self._flushed = Deferred()
        return self._flushed

    def _report_level(self) -> None:
        is_full = self._waiting > HIGH_WATER
        if is_full != self._is_full:
            self._is_full = is_full
            self._pause(is_full)

    def _written(self, size: int) -> None:
        self._waiting -= size
        self._report_level()
        if not self._waiting:
            self._release(None)

    def _fail(self, why: Failure | None) -> None:
        self._problem = why
        self.broken.callback(why)  # a Failure goes to the errbacks
        self._release(why)

    def _release(self, why: Failure | None) -> None:
        flushed, self._flushed = self._flushed, None
        if flushed is not None and not flushed.called:
            flushed.callback(why)

    # In the thread.

    def _serve(self) -> None:
        why = None
        try:
            while self._await_piece():
                data = self._pieces.popleft()
                write_all(self._fileno, data)
                self._reactor.callFromThread(self._written, len(data))
        except BrokenPipeError:
            pass  # the reader wants no more
        except OSError as error:
            why = Failure(SuiteError(f"standard output: {error.strerror}"))
        self._reactor.callFromThread(self._fail, why)

    def _await_piece(self) -> bool:
        """Wait for a piece to write; return False if the reader has gone first."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        poll.register(self._fileno, 0)  # errors only: of a pipe, that nobody can read it any more
        while not self._pieces:
            ready = dict(poll.poll())
            if ready.get(self._fileno, 0) & (select.POLLERR | select.POLLHUP):
                return False
            if self._woken in ready:
                os.read(self._woken, READ_SIZE)
        return True


def write_all(fileno: int, data: bytes) -> None:
    """Write all of *data*, however slowly it is read.

    :raises OSError: it cannot be written.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fileno, rest) :]
        except BlockingIOError:
            _wait(fileno, select.POLLOUT)


def _wait(fileno: int, event: int) -> None:
    """Wait until *fileno* is ready for *event*, or has an error, which the next call will tell."""
    poll = select.poll()
    poll.register(fileno, event)
    poll.poll()
