"""``connect`` at a terminal: a prompt with history and editing; received bytes are shown above it.

Rules: control characters from the target are escaped; bytes that arrive never disturb the line being typed.
"""

from __future__ import annotations

import asyncio
import codecs
import sys
from collections.abc import Callable
from typing import Any, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from twisted.internet.defer import Deferred

from suite.client.connect.channel import Channel, open_channel
from suite.client.connect.hexdump import Dump, from_hex
from suite.client.connect.pipe import truncation
from suite.client.dial.dialer import Dialer
from suite.client.dial.failures import TargetError
from suite.errors import UsageError
from suite.text import one_line

PROMPT: Final = "> "

#: Seconds that the next prompt waits for an answer to the last line.
ANSWER_TIME: Final = 0.1


class _InterruptedError(Exception):
    """Ctrl-C, or the end of the channel.

    KeyboardInterrupt in a task would stop asyncio's loop, and the reactor with it.
    """


class Screen:
    """Shows received bytes.

    :param session: the session whose prompt must not be overwritten.
    """

    def __init__(self, session: PromptSession[str], *, in_hex: bool) -> None:
        self._session = session
        self._dump = Dump() if in_hex else None
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._next: Deferred[None] = Deferred()

    def __call__(self, data: bytes) -> None:
        """Show *data*."""
        text = self._decoder.decode(data) if self._dump is None else self._dump(data).decode()
        if text:
            self.show(text)
        if not self._next.called:
            self._next.callback(None)

    def next(self) -> Deferred[None]:
        """Fires when the next bytes arrive."""
        self._next = Deferred()
        return self._next

    def show(self, text: str) -> None:
        """Show *text* on its own lines, above the prompt if there is one."""
        lines = "\n".join(one_line(line) for line in text.removesuffix("\n").split("\n"))
        if self._session.app.is_running:
            run_in_terminal(lambda: print(lines, flush=True))
        else:
            print(lines, flush=True)


async def converse(dialer: Dialer, warn: Callable[[str], None], *, in_hex: bool, wait: float | None) -> None:
    """Send lines to the dialer's target until either side ends the connection.

    :param warn: called with a line if the target's end may have come too early.
    :param wait: seconds that the target has after our end; None: as long as it takes.
    :raises TargetError: the connection fails or breaks.
    """
    session: PromptSession[str] = PromptSession(PROMPT, interrupt_exception=_InterruptedError)
    screen = Screen(session, in_hex=in_hex)
    channel = await open_channel(dialer, screen)
    screen.show(f"connected to {dialer.target.text}; Ctrl-D ends")

    def over(result: Any) -> Any:
        if session.app.is_running and not session.app.is_done:
            session.app.exit(exception=_InterruptedError)
        return result

    channel.ended.addBoth(over)
    while not channel.ended.called:
        try:
            # By default a prompt installs a signal handler, which would replace the reactor's.
            line = await Deferred.fromFuture(asyncio.ensure_future(session.prompt_async(handle_sigint=False)))
        except EOFError:
            channel.end(wait)
            break
        except _InterruptedError:
            channel.break_off(None)
            break
        await _say(channel, screen, line, dialer.reactor, in_hex=in_hex)
    await channel.ended
    if channel.truncated:
        warn(truncation(dialer.target))


async def _say(channel: Channel, screen: Screen, line: str, reactor: Any, *, in_hex: bool) -> None:
    try:
        # What is no character of the terminal's encoding is a surrogate here, and is sent as it was typed.
        data = from_hex(line) if in_hex else (line + "\n").encode(sys.stdin.encoding, "surrogateescape")
    except UsageError as error:
        screen.show(str(error))
        return
    answered = screen.next()
    try:
        await channel.send(data)
    except TargetError as error:  # of a datagram; a stream's error ends the channel
        screen.show(str(error))
        return
    # An answer that arrives at once is shown before the next prompt.
    answered.addTimeout(ANSWER_TIME, reactor)
    answered.addErrback(lambda _: None)
    await answered
