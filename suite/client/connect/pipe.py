"""``connect``: what you type, or pipe, goes to a target; what comes back is shown.

Rules: in a pipe, bytes are bytes: they go out exactly as they came in, an end of the input is a half-close,
and the end of the other side is ours. At a terminal, a line is a line (`suite.client.connect.prompt`), and
nothing that comes back can do to the terminal what a terminal does with control characters.
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

#: Bytes asked of standard input at once.
READ_SIZE: Final = 65536


# Hexadecimal.


# A pipe.


class Input:
    """Standard input, read in a thread: it may be a file, which no poller watches, and it stays blocking.

    :param reactor: where the answers go.
    """

    def __init__(self, reactor: Any, fileno: int) -> None:
        self._reactor = reactor
        self._fileno = fileno
        self._asked: queue.SimpleQueue[Deferred[bytes]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def read(self) -> Deferred[bytes]:
        """Fires with what there is, as soon as there is something; with nothing at the end."""
        asked: Deferred[bytes] = Deferred()
        self._asked.put(asked)
        return asked

    def _read(self) -> None:
        while True:
            asked = self._asked.get()
            try:
                # Closed before we began, its number may be anybody's by now; Python's own object knows.
                data = os.read(self._fileno, READ_SIZE) if sys.stdin is not None else b""
            except OSError:  # its terminal has gone
                data = b""
            self._reactor.callFromThread(self._answer, asked, data)

    @staticmethod
    def _answer(asked: Deferred[bytes], data: bytes) -> None:
        if not asked.called:
            asked.callback(data)


class Output:
    """Standard output. Writing waits, and makes the target wait, when its reader does."""

    def __init__(self, convert: Callable[[bytes], bytes]) -> None:
        self._convert = convert
        self.broken: Deferred[None] = Deferred()

    def __call__(self, data: bytes) -> None:
        """Write *data*; what goes wrong is told by `broken`."""
        if self.broken.called:
            return
        view = memoryview(self._convert(data))
        try:
            while view:
                view = view[os.write(1, view) :]
        except BrokenPipeError:
            self.broken.callback(None)  # whoever wanted it has enough
        except OSError as error:
            self.broken.errback(SuiteError(f"standard output: {error.strerror}"))


async def pieces(source: Input, *, lines: bool) -> AsyncIterator[bytes]:
    """What *source* has, as it comes or, with *lines*, line by line; the last one may have no newline."""
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
    """Join standard input and output with the target.

    :raises SuiteError: the connection breaks, or the output does.
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
