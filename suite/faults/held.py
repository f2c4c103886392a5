"""A transport on top of a transport, which holds back the bytes of both directions.

Rules: what is held is bounded (`MOST_HELD` for each direction); beyond that the peer is paused. It is not
owed by the peer: a limit ends the connection, but never blames the peer for it. A graceful end comes after
the bytes that are held, an abort at once. Each connection has one timer at most.
"""

from __future__ import annotations

import socket
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ISSLTransport
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from suite.config.faults import Fault
from suite.faults.pipe import END, NEVER, Pipe
from suite.guard.streams import Guarded

#: Bytes held in one direction of a connection, above which more is not read.
MOST_HELD: Final = 256 * 1024

#: Seconds between two looks whether the peer's kernel has the bytes before a reset or a close.
LOOK_EVERY: Final = 0.005

#: Seconds that it has for that.
PATIENCE: Final = 2.0


@implementer(IPushProducer)
class Output:
    """The producer that a transport pauses while its peer does not read."""

    def __init__(self, stream: HeldStream) -> None:
        self._stream = stream

    def pauseProducing(self) -> None:
        """The transport takes no more bytes for now."""
        self._stream.output_paused()

    def resumeProducing(self) -> None:
        """The transport takes bytes again."""
        self._stream.output_resumed()

    def stopProducing(self) -> None:
        """The connection is lost, which the protocol is told."""


class HeldStream(Protocol):
    """One connection with a `Pipe` for each direction.

    Subclasses decide what is held, and are the protocol of the transport below.

    :param wrapped: the protocol that answers, to which this is the transport.
    :param clock: the source of time.
    """

    transport: Any

    def __init__(self, wrapped: Guarded, clock: IReactorTime) -> None:
        self.wrapped = wrapped
        self._clock = clock
        began = clock.seconds()
        self._up = Pipe("up", began)
        self._down = Pipe("down", began)
        self._at: dict[Callable[[], None], float] = {}  # what else is to be done, and when
        self._timer: IDelayedCall | None = None
        self._answering = False  # bytes may pass: after the handshake, and the delay at accept
        self._delayed = False  # nothing is read yet
        self._producer: Any = None  # the wrapped protocol's
        self._streaming = True
        self._producer_paused = False
        self._reading_wanted = True  # the wrapped protocol's wish
        self._reading = True
        self._registered = False  # `Output` is the transport's producer
        self._output_paused = False
        self._ending = False  # the wrapped protocol has asked for an end, once all is sent
        self._half = False  # of its side only
        self._over = False  # what still arrives is discarded
        self._peer_ended = False  # the peer has closed its side
        self._ended = False  # this side has been closed, at least for writing
        self._discarded = 0  # of the bytes that never come out, those that are counted as received
        self._looks_until = NEVER
        self._handed = 0  # bytes that the transport below has been given

    if not TYPE_CHECKING:  # mypy sees a name that is misspelt

        def __getattr__(self, name: str) -> Any:
            # What the guard and the answers ask of a transport, this one passes on.
            if name.startswith("_"):
                raise AttributeError(f"{type(self).__name__} has no {name}", name=name, obj=self)
            return getattr(self.transport, name)

    # For subclasses to implement.

    @abstractmethod
    def _cut(self, fault: Fault) -> None:
        """*fault* has reached its offset, or its time."""

    @abstractmethod
    def _end(self) -> None:
        """All is sent: close, or half-close, now or later."""

    def output_paused(self) -> None:
        """The transport takes no more bytes for now."""
        self._output_paused = True

    def output_resumed(self) -> None:
        """The transport takes bytes again."""
        self._output_paused = False
        self._down.catch_up(self._clock.seconds())
        self._go_on()

    # The transport below.

    @property
    def _over_tls(self) -> bool:
        """Whether the transport is our own TLS."""
        return hasattr(self.transport, "handshake_complete")

    @property
    def _half_closes(self) -> bool:
        """Whether the transport can end this side alone.

        Twisted's own TLS would end that of the TCP connection below it, before it has sent everything.
        """
        ours = self._over_tls or not ISSLTransport.providedBy(self.transport)
        return ours and hasattr(self.transport, "loseWriteConnection")

    # Bytes.

    def _take_in(self, data: bytes) -> None:
        self._up.feed(data, self._clock.seconds())
        self._count_discarded()
        self._go_on()

    def _count_discarded(self) -> None:
        """Count what will never reach the wrapped protocol, which counts the rest."""
        self.wrapped.received += self._up.discarded - self._discarded
        self._discarded = self._up.discarded

    def write(self, data: bytes) -> None:
        """Send *data* to the peer, as the faults allow."""
        self._down.feed(data, self._clock.seconds())
        if self._answering:
            self._send_due()
            self._schedule()
        self._update_producer()

    def writeSequence(self, iovec: Any) -> None:
        """`ITransport.writeSequence`."""
        self.write(b"".join(iovec))

    def _go_on(self) -> None:
        """Do what is due, and see to it that the rest is done in time."""
        if self._answering and not self._delayed and self.wrapped.transport is not None:
            self._deliver_due()
            self._send_due()
        self._update_producer()
        self._update_reading()
        self._schedule()

    def _deliver_due(self) -> None:
        now = self._clock.seconds()
        if not self._reading_wanted and not self._ending:
            cut = self._up.take_cut(now)
            if cut is not None:
                self._count_discarded()
                self._cut(cut)
            return
        due = self._up.take(now)
        self._count_discarded()
        for found in due:
            if found is END:
                self.wrapped.readConnectionLost()
            elif isinstance(found, Fault):
                self._cut(found)
            else:
                self.wrapped.dataReceived(found)
        if self._ending and not self._up.held:
            self._down.feed_end(self._clock.seconds())

    def _send_due(self) -> None:
        now = self._clock.seconds()
        if self._output_paused:
            cut = self._down.take_cut(now)
            if cut is not None:
                self._cut(cut)
            return
        for found in self._down.take(now):
            if found is END:
                self._end()
            elif isinstance(found, Fault):
                self._cut(found)
            else:
                self._hand(found)
                self.wrapped.unchanged_since = now  # a slow line is no idle one

    def _hand(self, data: bytes) -> None:
        """Give *data* to the transport below."""
        if getattr(self.transport, "takes_bytes", True):
            self._handed += len(data)
        self.transport.write(data)

    # Ends.

    def loseConnection(self, *_: object) -> None:
        """End once all that is held has been delivered, answered and sent."""
        if self._ending:
            return
        self._ending = True
        if self._ended:  # its side only, so far
            self.transport.loseConnection()
            return
        if not self._answering or (self._delayed and not self._up.held):
            self._unregister()
            self.transport.loseConnection()
            return
        self._update_reading()
        if not self._up.held:
            self._down.feed_end(self._clock.seconds())
        self._go_on()

    def loseWriteConnection(self) -> None:
        """End this side once all that is held has been sent."""
        self._half = True
        self._down.feed_end(self._clock.seconds())
        self._go_on()

    def abortConnection(self) -> None:
        """End at once."""
        self.transport.abortConnection()

    def _end_now(self) -> None:
        self._unregister()
        self._ended = True
        half = self._half and not self._ending and not (self._over and self._peer_ended)
        if half and self._half_closes:
            self.transport.loseWriteConnection()
        elif self._over:
            self._close_gently()
        else:
            self.transport.loseConnection()

    def _unregister(self) -> None:
        """Be the transport's producer no longer: it would resume us where it should close."""
        if self._registered:
            self._registered = False
            self.transport.unregisterProducer()

    def _close_gently(self) -> None:
        """Close so that our last bytes, and the FIN behind them, are not overtaken by a reset.

        Closing a TCP socket with unread bytes in it would send one. Over TLS the transport itself does this.
        """
        transport = self.transport
        self._unregister()
        if self._half_closes and not self._over_tls:
            transport.loseWriteConnection()
            self._when_acknowledged(self._close)
        else:
            transport.loseConnection()

    def _close(self) -> None:
        """Close the connection; a peer's bytes that are still unread must not turn that into a reset.

        Over TCP, the peer has had our FIN by now, which a reset does not undo. A UNIX socket's peer would be
        told of the reset first; so nothing more is let in, and what is there is thrown away.
        """
        sock = getattr(self.transport, "socket", None)
        if isinstance(sock, socket.socket) and sock.family not in (socket.AF_INET, socket.AF_INET6):
            with suppress(OSError):  # the peer is gone, or nothing is left
                sock.shutdown(socket.SHUT_RD)
                while sock.recv(MOST_HELD, socket.MSG_DONTWAIT):
                    pass
        self.transport.loseConnection()

    def _when_acknowledged(self, then: Callable[[], None]) -> None:
        """Call *then* once the peer's kernel has all bytes, or after `PATIENCE`."""
        if self._looks_until is NEVER:
            self._looks_until = self._clock.seconds() + PATIENCE
        owed = getattr(self.transport, "owed", 0)
        if not owed or self._clock.seconds() >= self._looks_until:
            then()
        else:
            self._later(partial(self._when_acknowledged, then), LOOK_EVERY)

    # What the guard asks.

    @property
    def owed(self) -> int:
        """Bytes that the peer has not taken yet; not those that a fault holds back."""
        owed = getattr(self.transport, "owed", None)
        return int(self._output_paused) if owed is None else owed

    @property
    def sent(self) -> int:
        """Bytes that the kernel has accepted, with the answers to requests for faults."""
        return max(0, self._handed - (getattr(self.transport, "unsent", 0) or 0))

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not accepted yet, those that a fault holds back among them."""
        return getattr(self.transport, "unsent", 0) + self._up.held + self._down.held

    # Producers.

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """`IConsumer.registerProducer`."""
        self._producer, self._streaming = producer, streaming
        self._update_producer()

    def unregisterProducer(self) -> None:
        """`IConsumer.unregisterProducer`."""
        self._producer = None

    def pauseProducing(self) -> None:
        """The wrapped protocol wants no more for now."""
        self._reading_wanted = False
        self._update_reading()

    def resumeProducing(self) -> None:
        """The wrapped protocol wants more."""
        if not self._reading_wanted:
            self._reading_wanted = True
            self._up.catch_up(self._clock.seconds())
        self._update_reading()
        if self._up.due(self._clock.seconds()) is not None:
            self._later(self._go_on, 0)  # in the next turn: the caller may be in the middle of a write

    def stopProducing(self) -> None:
        """The wrapped protocol wants nothing any more."""
        self.loseConnection()

    def _update_producer(self) -> None:
        """Pause the wrapped protocol's producer while too much is held, and resume it at half of that."""
        producer, held = self._producer, self._down.held
        if producer is None:
            return
        if not self._streaming:
            if not held and not self._ending and not self._output_paused:
                self._later(self._pull, 0)
        elif not self._producer_paused and held >= MOST_HELD:
            self._producer_paused = True
            producer.pauseProducing()
        elif self._producer_paused and held <= MOST_HELD // 2:
            self._producer_paused = False
            producer.resumeProducing()

    def _pull(self) -> None:
        """Ask a producer that waits for it: in a turn of its own, since it may go on without end."""
        if self._producer is not None and not self._streaming:
            self._producer.resumeProducing()

    def _update_reading(self) -> None:
        """Read while more can be held, and what is read is wanted."""
        full = self._up.held >= (MOST_HELD if self._reading else MOST_HELD // 2 + 1)
        wanted = self._over or (self._reading_wanted and not full and not self._ending)
        if self._delayed or self.transport is None:
            wanted = False
        if wanted and not self._reading:
            self._reading = True
            self.transport.resumeProducing()
        elif not wanted and self._reading:
            self._reading = False
            self.transport.pauseProducing()

    # Time.

    def _later(self, call: Callable[[], None], delay: float) -> None:
        self._at[call] = self._clock.seconds() + delay
        self._schedule()

    def _schedule(self) -> None:
        """Set the timer for what is due first."""
        now = self._clock.seconds()
        times = [*self._at.values()]
        if self._answering and not self._delayed:
            wanted = self._reading_wanted or self._ending
            times.append(_or_never(self._up.due(now) if wanted else self._up.cut_due))
            times.append(_or_never(self._down.cut_due if self._output_paused else self._down.due(now)))
        due = min(times, default=NEVER)
        timer = self._timer
        if due == NEVER or not self.connected:
            if timer is not None:
                timer.cancel()
                self._timer = None
        elif timer is None:
            self._timer = self._clock.callLater(max(0.0, due - now), self._tick)
        elif timer.getTime() != due:
            timer.reset(max(0.0, due - now))

    def _tick(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for call in [call for call, time in self._at.items() if time <= now]:
            if self._at.pop(call, None) is not None and self.connected:
                call()
        if self.connected:
            self._go_on()

    def _stop(self) -> None:
        """The connection is lost: nothing is due any more."""
        self.connected = 0
        self._at.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _or_never(time: float | None) -> float:
    return NEVER if time is None else time
