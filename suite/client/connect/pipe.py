"""``connect`` in a pipe: standard input goes to the target, the target's bytes go to standard output.

Rules: bytes pass unchanged, except in hexadecimal mode; the end of the input becomes a half-close; when the
target ends the connection, so do we. (Interactive use is in `suite.client.connect.prompt`.)
"""

from __future__ import annotations

import errno
import os
import queue
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred

from suite.client.connect.channel import Channel, open_channel
from suite.client.connect.hexdump import Dump, from_hex
from suite.client.dial.dialer import Dialer
from suite.client.dial.target import Target
from suite.errors import SuiteError

#: The most bytes to read from standard input at once.
READ_SIZE: Final = 65536


class Input:
    """Standard input, read in a thread: it may be a file, which epoll cannot watch, and must stay blocking.

    :param reactor: the reactor in whose thread results are delivered.
    """

    def __init__(self, reactor: Any, fileno: int) -> None:
        self._reactor = reactor
        self._fileno = fileno
        self._asked: queue.SimpleQueue[Deferred[bytes]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def read(self) -> Deferred[bytes]:
        """Fires with the next bytes as soon as there are some; with no bytes at the end of the input."""
        asked: Deferred[bytes] = Deferred()
        self._asked.put(asked)
        return asked

    def _read(self) -> None:
        while True:
            asked = self._asked.get()
            try:
                # sys.stdin is None if it was closed before we started: its number may be another file's.
                data = os.read(self._fileno, READ_SIZE) if sys.stdin is not None else b""
            except OSError:  # the terminal is gone
                data = b""
            self._reactor.callFromThread(self._answer, asked, data)

    @staticmethod
    def _answer(asked: Deferred[bytes], data: bytes) -> None:
        if not asked.called:
            asked.callback(data)


class Output:
    """Standard output. A write blocks while the pipe is full, which slows down the target too.

    :ivar broken: fires when the reader has closed the pipe; fails with `SuiteError` when writing fails.
    """

    def __init__(self, convert: Callable[[bytes], bytes]) -> None:
        self._convert = convert
        self.broken: Deferred[None] = Deferred()

    def __call__(self, data: bytes) -> None:
        """Write *data*; errors are reported by `broken`."""
        if self.broken.called:
            return
        view = memoryview(self._convert(data))
        try:
            while view:
                view = view[os.write(1, view) :]
        except BrokenPipeError:
            self.broken.callback(None)  # the reader wants no more
        except OSError as error:
            self.broken.errback(SuiteError(f"standard output: {error.strerror}"))


async def pieces(source: Input, *, lines: bool) -> AsyncIterator[bytes]:
    """The bytes of *source* as they arrive or, with *lines*, line by line; the last may lack a newline."""
    rest = b""
    while data := await source.read():
        if not lines:
            yield data
            continue
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest


async def pipe(dialer: Dialer, *, in_hex: bool) -> None:
    """Copy standard input to the target, and the target's bytes to standard output.

    :raises SuiteError: the connection breaks, or writing to standard output fails.
    """
    if sys.stdout is None:  # see `Input`
        raise SuiteError(f"standard output: {os.strerror(errno.EBADF)}")
    output = Output(Dump() if in_hex else lambda data: data)
    channel = await open_channel(dialer, output)
    output.broken.addCallbacks(lambda _: channel.break_off(None), channel.break_off)
    pumping = Deferred.fromCoroutine(_pump(Input(dialer.reactor, 0), channel, dialer.target, in_hex=in_hex))
    pumping.addErrback(lambda why: None if why.check(CancelledError) else channel.break_off(why))
    try:
        await channel.ended
    finally:
        pumping.cancel()


async def _pump(source: Input, channel: Channel, target: Target, *, in_hex: bool) -> None:
    async for piece in pieces(source, lines=in_hex or target.transport == "udp"):
        await channel.send(from_hex(piece.decode("ascii", "replace")) if in_hex else piece)
    channel.end()
