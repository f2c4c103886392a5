"""The character generator (RFC 864).

Rules: a stream gets lines for as long as its peer takes them; what it does not take is not made, so that a
connection holds one piece at the most. Over UDP an answer is as long as the datagram, and no longer than the
RFC's 512 bytes: this service is known for its use as an amplifier (CERT CA-1996-01).
"""

from __future__ import annotations

from typing import Any, Final, cast

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.answers.answer import Answer, DatagramAnswer, StreamAnswer
from suite.reasons import Reason

#: The printing characters of ASCII in their order.
PRINTING: Final = bytes(range(32, 127))

#: Characters in a line.
WIDTH: Final = 72

#: All lines of the popular pattern: each begins one character later than that before.
CYCLE: Final = b"".join(
    (PRINTING + PRINTING)[start : start + WIDTH] + b"\r\n" for start in range(len(PRINTING))
)

#: What is written at once: whole cycles, just below 64 KiB.
PIECE: Final = CYCLE * 9

#: The longest answer over UDP.
MOST_DATAGRAM: Final = 512


@implementer(IPushProducer)
class Chargen(StreamAnswer):
    """Sends characters while its peer takes them, a piece in each turn of the reactor."""

    endless = True

    _sent = 0
    _paused = False
    _registered = False
    _next: IDelayedCall | None = None

    @override
    def begin(self) -> None:
        self._registered = True
        cast(Any, self.transport).registerProducer(self, True)
        self._go_on()

    def resumeProducing(self) -> None:
        """`IPushProducer.resumeProducing`."""
        self._paused = False
        self._go_on()

    def pauseProducing(self) -> None:
        """`IPushProducer.pauseProducing`."""
        self._paused = True

    def stopProducing(self) -> None:
        """`IPushProducer.stopProducing`: the connection is lost."""
        self._paused = True
        self._cancel()

    def _go_on(self) -> None:
        """Send a piece in the next turn: the caller may be in the middle of a write."""
        if self.reason is not None:
            self._unregister()
        elif self._next is None:
            self._next = self.guard.clock.callLater(0, self._send)

    def _send(self) -> None:
        self._next = None
        if self._paused:
            return
        if self.reason is None:
            piece = PIECE if self.most is None else PIECE[: self.most - self._sent]
            self._sent += len(piece)
            self.write(piece)
            if self._sent == self.most:
                self._unregister()
                self.end(Reason.BYTES)
                return
        if not self._paused:
            self._go_on()

    def _unregister(self) -> None:
        """Be no producer any more: one would be resumed where the transport should close."""
        if self._registered:
            self._registered = False
            cast(Any, self.transport).unregisterProducer()

    def _cancel(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    @override
    def readConnectionLost(self) -> None:
        self._cancel()
        self._paused = True
        self._unregister()
        super().readConnectionLost()

    @override
    def lost(self, reason: Failure) -> None:
        self._cancel()
        super().lost(reason)


class ChargenDatagrams(DatagramAnswer):
    """Answers with as many characters as it got bytes, 512 at the most."""

    @override
    def answer(self, datagram: bytes, addr: tuple[str, int]) -> bytes:
        return CYCLE[: min(len(datagram), MOST_DATAGRAM)]


ANSWER = Answer("chargen", "lines of characters, without end (RFC 864)", Chargen, ChargenDatagrams)
