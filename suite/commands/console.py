"""How commands print."""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
import threading
from contextlib import suppress
from typing import Final, TextIO

from suite.errors import SuiteError
from suite.signals import arrived
from suite.text import one_line

#: Seconds in which a reader must have read something once a signal to stop has arrived.
STUCK_TIME: Final = 1.0


def prepare_output() -> None:
    """Make standard output and standard error fit to be written to.

    Characters that the encoding of standard output lacks are escaped, as on standard error. The descriptors
    of closed ones (``>&-``) lead nowhere from now on; otherwise the next socket would get such a number, and
    with it whatever a library writes there.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):  # no /dev
                os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one


def warn(line: str) -> None:
    """Print *line*, which is not what was asked for, on standard error, if that is possible."""
    complain(one_line(line))


def complain(lines: object) -> None:
    """Print *lines* on standard error, if that is possible; nobody else could be told that it is not."""
    if sys.stderr is None:  # closed; `print` would use standard output
        return
    try:
        _write(sys.stderr, f"{lines}\n")
    except OSError:
        _silence(sys.stderr)
    except _Signalled as signalled:
        _silence(sys.stderr)
        signalled.pass_on()


def say(*lines: str) -> bool:
    """Print *lines* now, also to a pipe; return False if nobody reads them any more.

    A slow reader is waited for. Ctrl-C and SIGTERM do what they always do; nothing more is printed to who has
    made us wait when they arrive, nor, afterwards, to who reads nothing for a second.

    :raises SuiteError: they cannot be written, because of a full disk, for instance. They are on standard
        error instead.
    """
    return put("".join(one_line(line) + "\n" for line in lines))


def put(text: str) -> bool:
    """Print *text* as it is, otherwise as `say` does; return False if nobody reads it any more.

    :raises SuiteError: it cannot be written. It is on standard error instead.
    """
    try:
        if sys.stdout is None:  # closed
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        _write(sys.stdout, text)
    except BrokenPipeError:
        _silence(sys.stdout)
        return False
    except OSError as error:
        if sys.stdout is not None:
            _silence(sys.stdout)
        complain(text.removesuffix("\n"))
        raise SuiteError(f"standard output: {error.strerror}") from None
    except _Signalled as signalled:
        _silence(sys.stdout)
        signalled.pass_on()
    return True


class _Signalled(Exception):  # noqa: N818  # nothing went wrong
    """Because of a signal, a reader is not waited for any longer.

    :param number: the signal, if it has arrived during the wait.
    """

    def __init__(self, number: int | None) -> None:
        super().__init__(number)
        self._number = number

    def pass_on(self) -> None:
        """Let whoever handles the signal do so, unless that has happened."""
        if self._number is not None:
            signal.raise_signal(self._number)


def _write(stream: TextIO, text: str) -> None:
    """Write *text* to *stream*, which may be non-blocking, at once.

    :raises OSError: it cannot be written.
    :raises _Signalled: nobody reads, and a signal to stop has arrived.
    """
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:  # a stand-in
        stream.write(text)
        return
    stream.flush()
    rest = memoryview(text.encode(stream.encoding, "backslashreplace"))
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    while rest:
        if not poll.poll(0):
            _wait(poll)
        with suppress(BlockingIOError):  # another process has been faster
            # A pipe that is ready accepts this many bytes without blocking (see select.PIPE_BUF).
            rest = rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]


def _wait(poll: select.poll) -> None:
    """Wait until a descriptor is ready; after a signal to stop, for `STUCK_TIME`.

    A system call goes on after a signal whose handler does not raise an error, as a reactor's does not.

    :raises _Signalled: a signal arrives meanwhile, or has arrived before and the time is over.
    """

    def stop(number: int, _frame: object) -> None:
        raise _Signalled(number)

    if threading.current_thread() is not threading.main_thread():
        poll.poll()
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number, handler in handlers.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, stop)
        if not poll.poll(STUCK_TIME * 1000 if arrived else None):
            raise _Signalled(None)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _silence(stream: TextIO) -> None:
    """Write nothing more to *stream*, not even when Python flushes it at its end: the exit code would be 120.

    Python's documentation advises this (library/signal.html, "Note on SIGPIPE").
    """
    with suppress(OSError):  # no /dev
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
