"""``connect`` in a pipe: standard input goes to the target, the target's bytes go to standard output.

Rules: bytes pass unchanged, except in hexadecimal mode; the end of the input becomes a half-close; when the
target ends the connection, so do we. (Interactive use is in `suite.client.connect.prompt`.)
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from typing import Final

from twisted.internet.defer import CancelledError, Deferred

from suite.client.connect.channel import Channel, open_channel
from suite.client.connect.hexdump import Dump, from_hex
from suite.client.connect.standard import Input, Output
from suite.client.dial.dialer import Dialer
from suite.client.dial.target import Target
from suite.errors import SuiteError

#: Longer than the line of any datagram, in hexadecimal with spaces, too: no more is read to find its end.
LONGEST_DATAGRAM: Final = 3 * 65536


async def pieces(source: Input, *, lines: bool, longest: float = math.inf) -> AsyncIterator[bytes]:
    """The bytes of *source* as they arrive or, with *lines*, line by line; the last may lack a newline.

    :param longest: bytes after which a line is not waited for any more.
    """
    rest = b""
    while data := await source.read():
        if not lines:
            yield data
            continue
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line + b"\n"
        if len(rest) > longest:
            yield rest
            rest = b""
    if rest:
        yield rest


async def pipe(dialer: Dialer, warn: Callable[[str], None], *, in_hex: bool, wait: float | None) -> None:
    """Copy standard input to the target, and the target's bytes to standard output.

    :param warn: called with a line if the target's end may have come too early.
    :param wait: seconds that the target has after our end; None: as long as it takes.
    :raises SuiteError: the connection breaks, or standard input or output fails.
    """
    output = Output(dialer.reactor, 1)
    convert: Callable[[bytes], bytes] = Dump() if in_hex else bytes
    channel = await open_channel(dialer, lambda data: output.write(convert(data)))
    output.throttle(channel.pause)
    output.broken.addCallbacks(lambda _: channel.break_off(None), channel.break_off)
    pumping = Deferred.fromCoroutine(
        _pump(Input(dialer.reactor, 0), channel, dialer.target, in_hex=in_hex, wait=wait)
    )
    pumping.addErrback(lambda why: None if why.check(CancelledError) else channel.break_off(why))
    try:
        await channel.ended
    except SuiteError:
        await output.flush()  # what came before
        raise
    finally:
        pumping.cancel()
    await output.flush()
    if channel.truncated:
        warn(truncation(dialer.target))


def truncation(target: Target) -> str:
    """The line that says that *target* ended TLS without ``close_notify`` (RFC 8446, section 6.1)."""
    return f"{target.text}: ended without close_notify, so bytes may be missing at the end"


async def _pump(source: Input, channel: Channel, target: Target, *, in_hex: bool, wait: float | None) -> None:
    datagrams = target.transport == "udp"
    longest = LONGEST_DATAGRAM if datagrams else math.inf
    async for piece in pieces(source, lines=in_hex or datagrams, longest=longest):
        await channel.send(from_hex(piece.decode("ascii", "replace")) if in_hex else piece)
    channel.end(wait)
