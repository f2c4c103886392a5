"""``connect`` at a terminal: a prompt with history and editing; received bytes are shown above it.

Rules: control characters from the target are escaped; bytes that arrive never disturb the line being typed; a
target that sends faster than the terminal shows has to wait, and keys are obeyed in between.
"""

from __future__ import annotations

import asyncio
import codecs
import signal
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from twisted.internet.defer import CancelledError, Deferred

from suite.client.connect.channel import Channel, open_channel
from suite.client.connect.hexdump import Dump, from_hex
from suite.client.connect.pipe import truncation
from suite.client.connect.standard import write_all
from suite.client.dial.dialer import Dialer
from suite.client.dial.failures import TargetError
from suite.errors import EXIT_FAILURE, UsageError
from suite.signals import end_in
from suite.text import one_line

PROMPT: Final = "> "

#: Seconds that the next prompt waits for an answer to the last line.
ANSWER_TIME: Final = 0.1

#: Seconds that an orderly end may take after SIGTERM.
STUCK_TIME: Final = 1.0


class _EndedError(Exception):
    """The end of the channel."""


class _InterruptedError(Exception):
    """Ctrl-C.

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
        self._pause: Callable[[bool], None] = lambda _: None
        self._unshown = 0

    def throttle(self, pause: Callable[[bool], None]) -> None:
        """Call *pause* with True while something waits to be shown, and with False after that."""
        self._pause = pause

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
        data = f"{lines}\n".encode(sys.stdout.encoding, "backslashreplace")
        if not self._session.app.is_running:
            _write(data)
            return
        self._unshown += 1
        self._pause(True)
        shown = asyncio.ensure_future(run_in_terminal(lambda: _write(data)))
        shown.add_done_callback(self._shown)

    def _shown(self, _: object) -> None:
        self._unshown -= 1
        if not self._unshown:
            self._pause(False)


def _write(data: bytes) -> None:
    with suppress(OSError):  # the terminal is gone, as the prompt will find
        write_all(sys.stdout.fileno(), data)


def end_even_if_stuck() -> None:
    """End on SIGTERM also while nobody reads the terminal: the reactor may wait for it in a write.

    prompt-toolkit writes where it reads keys, in the reactor's thread. Nobody reads a terminal while the
    connection that it is behind hangs.
    """
    attributes = termios.tcgetattr(0)
    previous = signal.getsignal(signal.SIGTERM)

    def restore() -> None:
        termios.tcsetattr(0, termios.TCSANOW, attributes)

    def terminate(number: int, frame: FrameType | None) -> None:
        end_in(STUCK_TIME, EXIT_FAILURE, restore)
        if callable(previous):
            previous(number, frame)  # the reactor's, which ends well if it can

    signal.signal(signal.SIGTERM, terminate)


async def converse(dialer: Dialer, warn: Callable[[str], None], *, in_hex: bool, wait: float | None) -> None:
    """Send lines to the dialer's target until either side ends the connection.

    :param warn: called with a line if the target's end may have come too early.
    :param wait: seconds that the target has after our end; None: as long as it takes.
    :raises TargetError: the connection fails or breaks.
    :raises CancelledError: it was interrupted (Ctrl-C).
    """
    session: PromptSession[str] = PromptSession(PROMPT, interrupt_exception=_InterruptedError)
    screen = Screen(session, in_hex=in_hex)
    end_even_if_stuck()
    channel = await open_channel(dialer, screen)
    screen.throttle(channel.pause)
    screen.show(f"connected to {dialer.target.text}; Ctrl-D ends")

    def over(result: Any) -> Any:
        if session.app.is_running and not session.app.is_done:
            session.app.exit(exception=_EndedError)
        return result

    channel.ended.addBoth(over)
    while not channel.ended.called:
        try:
            # By default a prompt installs a signal handler, which would replace the reactor's.
            line = await Deferred.fromFuture(asyncio.ensure_future(session.prompt_async(handle_sigint=False)))
        except EOFError:
            channel.end(wait)
            break
        except _EndedError:
            break
        except _InterruptedError:
            channel.break_off(None)
            raise CancelledError from None
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
