"""Writing where nobody may be reading: to standard output, to standard error, to a log file, to a terminal.

Rules: writing never waits for anybody and never raises; a line that cannot be written at once is dropped and
counted, and the next line that can be written is preceded by the count.
"""

from __future__ import annotations

import atexit
import io
import os
import select
import socket
import stat
import time
from collections.abc import Callable
from typing import Any, Final

from typing_extensions import override

#: Nobody waits for us, nor we for anybody, and a terminal does not become ours (open(2)).
_FLAGS: Final = (
    os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
)

#: The permissions of a new log file, less the umask: its owner writes, the group that looks after logs reads.
LOG_MODE: Final = 0o640


def loss_line(lost: int, why: str) -> str:
    """The line that stands where *lost* lines are missing, for people."""
    return f"lines dropped here: {lost:,} ({why})"


class LineWriter:
    """Writes lines to a descriptor that may be closed, full, or not read by anybody.

    :param descriptor: the descriptor to write to; it is not closed, unless `redirect` replaces it.
    :param encoding: the encoding of the lines; characters that it lacks are escaped.
    :ivar descriptor: the descriptor that it writes to now.
    :ivar loss: makes the line that stands for dropped ones, from their number and the reason.
    :ivar lost: lines dropped since the last successful write.
    :ivar lost_in_all: lines dropped so far.
    :ivar why: why the last of them was.
    """

    def __init__(self, descriptor: int, encoding: str = "utf-8") -> None:
        self._encoding = encoding
        self.loss: Callable[[int, str], str] = loss_line
        self._torn = False  # the last line was written in part
        self._use(descriptor)
        self.lost = self.lost_in_all = 0
        self.why = ""

    def _use(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._write_some: Callable[[Any], int] = self._write_ready
        try:
            is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        except OSError:  # closed, as writing will say
            is_socket = False
        if is_socket:  # journald's, for instance; send(2) need not guess how much fits
            self._write_some = self._send_some

    def redirect(self, descriptor: int) -> None:
        """Write to *descriptor* from now on, and close the previous one."""
        previous = self.descriptor
        self._use(descriptor)
        self._torn = False
        os.close(previous)

    def write(self, line: str) -> bool:
        """Write *line* and a line end; return whether that was possible."""
        lines = f"{line}\n" if not self.lost else f"{self.loss(self.lost, self.why)}\n{line}\n"
        data = lines.encode(self._encoding, "backslashreplace")
        try:
            self._write_all(b"\n" + data if self._torn else data)
        except OSError as error:
            self.lost += 1
            self.lost_in_all += 1
            unread = isinstance(error, BlockingIOError)
            self.why = "destination not read" if unread else error.strerror or str(error)
            return False
        self.lost = 0
        return True

    def _write_all(self, data: bytes) -> None:
        """Write all of *data*.

        :raises OSError: some or all of it could not be written.
        """
        rest = memoryview(data)
        while rest:
            rest = rest[self._write_some(rest) :]
            self._torn = bool(rest)

    def _write_ready(self, rest: memoryview) -> int:
        if not self._poll.poll(0):
            raise BlockingIOError
        # A pipe that is ready accepts this many bytes without blocking (see select.PIPE_BUF).
        return os.write(self.descriptor, rest[: select.PIPE_BUF])

    def _send_some(self, rest: memoryview) -> int:
        # With a family and a type, whichever, nothing is asked of the system.
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=self.descriptor)
        try:
            return sock.send(rest, socket.MSG_DONTWAIT)
        finally:
            sock.detach()


class Frames(io.StringIO):
    """A text stream for what is drawn again and again on a terminal, which may be stopped (Ctrl-S), or hang.

    What is written between two flushes is a frame. While the terminal has yet to take what is left of one,
    further ones are dropped; it is tried again with each flush, and for a second at the end of the process.

    :param descriptor: the descriptor to write to; it is not closed.
    :ivar last: whether frames are kept from now on: the last ones, which leave the terminal as it was.
    """

    encoding: str = ""  # which a StringIO has not

    def __init__(self, descriptor: int, encoding: str) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.encoding = encoding
        self._left = b""
        self.last = False
        atexit.register(self._finish)

    @override
    def isatty(self) -> bool:
        return True

    @override
    def flush(self) -> None:
        if self.last or not self._left:
            self._left += self.getvalue().encode(self.encoding, "backslashreplace")
        self.seek(0)
        self.truncate()
        try:
            while self._left:
                self._left = self._left[os.write(self._descriptor, self._left) :]
        except BlockingIOError:
            pass
        except OSError:  # it is gone
            self._left = b""

    def _finish(self) -> None:
        for _ in range(20):
            self.flush()
            if not self._left:
                return
            time.sleep(0.05)  # poll(2) would say that a terminal that is stopped is ready


def reopened(descriptor: int) -> int:
    """A non-blocking descriptor of our own for a terminal or pipe, or *descriptor* if there can be none.

    A terminal that is stopped, or whose other end hangs, is reported as ready, but blocks when written to; so
    does a pipe that another process fills first. The original descriptor cannot be made non-blocking, because
    it is shared with whoever has started us.
    """
    try:
        if os.isatty(descriptor):
            return os.open(os.ttyname(descriptor), _FLAGS)
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return os.open(f"/proc/self/fd/{descriptor}", _FLAGS)
    except OSError:  # no /dev, no /proc, no permission, or nobody reads any more
        pass
    return descriptor


def open_log_file(path: str | os.PathLike[str]) -> int:
    """A descriptor that appends to the file at *path*, which is created if it is missing.

    :raises OSError: it cannot be opened.
    """
    return os.open(path, _FLAGS | os.O_APPEND | os.O_CREAT, LOG_MODE)
