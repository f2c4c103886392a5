"""Faults between a connection and the protocol that answers on it.

Rules: `FaultyStream` is a protocol to the transport, and a transport to the protocol that answers, so that
neither knows of it. What a fault holds back is bounded (`MOST_HELD` for each direction); beyond that the peer
is paused. It is not owed by the peer: a limit ends the connection, but never blames the peer for it. A
graceful end comes after the bytes that are held, an abort at once. Each connection has one timer at most.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
    IReactorTime,
    ISSLTransport,
    ITransport,
)
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import directlyProvides, implementer, providedBy

from suite.config.fault_text import shown, words
from suite.config.faults import TLS_ONLY, USAGE, Fault, Kind
from suite.engine.interfaces import INeedsNoLogContext, IPreambleListener
from suite.faults.decide import CLEAN, Decider, Decision
from suite.faults.pipe import END, NEVER, Pipe
from suite.faults.requested import in_name, request
from suite.guard.streams import Guarded
from suite.guard.sweep import Phase
from suite.reasons import Reason

log = Logger()

#: Bytes held in one direction of a connection, above which more is not read.
MOST_HELD: Final = 256 * 1024

#: Bytes of a request for faults, its end of line included.
LONGEST_REQUEST: Final = 512

#: Seconds between two looks whether the peer's kernel has the bytes before a reset or a close.
LOOK_EVERY: Final = 0.005

#: Seconds that it has for that.
PATIENCE: Final = 2.0

#: What strikes while bytes pass.
PASSING: Final = frozenset(
    {Kind.LATENCY, Kind.BANDWIDTH, Kind.SLICE, Kind.CORRUPT, Kind.STALL, Kind.BLACKHOLE}
)


@implementer(IPushProducer)
class Output:
    """The producer that a transport pauses while its peer does not read."""

    def __init__(self, stream: FaultyStream) -> None:
        self._stream = stream

    def pauseProducing(self) -> None:
        """The transport takes no more bytes for now."""
        self._stream.output_paused()

    def resumeProducing(self) -> None:
        """The transport takes bytes again."""
        self._stream.output_resumed()

    def stopProducing(self) -> None:
        """The connection is lost, which `FaultyStream.connectionLost` will say."""


@implementer(IHalfCloseableProtocol, IHandshakeListener, IPreambleListener, INeedsNoLogContext)
class FaultyStream(Protocol):
    """One connection under the faults that are decided for it.

    :param wrapped: the protocol that answers.
    :param decider: decides for the endpoint.
    :param clock: the source of time.
    :ivar decision: the faults of this connection.
    """

    transport: Any

    def __init__(self, wrapped: Guarded, decider: Decider, clock: IReactorTime) -> None:
        self.wrapped = wrapped
        self.decision = CLEAN
        self._decider = decider
        self._clock = clock
        began = clock.seconds()
        self._up = Pipe("up", began)
        self._down = Pipe("down", began)
        self._at: dict[Callable[[], None], float] = {}  # what else is to be done, and when
        self._timer: IDelayedCall | None = None
        self._connected = False  # the wrapped protocol knows its connection
        self._answering = False  # bytes may pass: after the handshake, and the delay at accept
        self._request: bytearray | None = None  # the first line, while a client has to ask for its faults
        self._decided = False  # the client was known, and its faults were decided
        self._name: str | None = None  # what a TLS client asks for (SNI)
        self._chosen = False  # the client has chosen its faults
        self._named = False  # in its name
        self._problem = ""  # what is wrong with that
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

    def __getattr__(self, name: str) -> Any:
        # What the guard and the answers ask of a transport, this one passes on.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.transport, name)

    # Called by the transport.

    @override
    def makeConnection(self, transport: ITransport) -> None:
        directlyProvides(self, providedBy(transport))
        self.connected = 1
        self.transport = transport
        self._connected = True
        self._registered = True
        cast(IConsumer, transport).registerProducer(Output(self), True)
        cast(Any, self.wrapped).makeConnection(self)
        if getattr(transport, "preamble_complete", True) and self.wrapped.reason is None:
            self._decide()

    def accepted(self) -> None:
        """The connection exists, at `transport`; its PROXY header has to come yet."""
        self.wrapped.transport = cast(Any, self)
        self.wrapped.accepted()

    def preamble_completed(self) -> bool:
        """`IPreambleListener.preamble_completed`: the PROXY header has named the client."""
        if not self.wrapped.preamble_completed():
            return False
        if self._connected:  # over TLS; otherwise `makeConnection` follows
            self._decide()
        return self.wrapped.reason is None

    def preamble_invalid(self, problem: str) -> None:
        """The connection begins with something that is no PROXY header."""
        self.wrapped.preamble_invalid(problem)

    def client_hello(self, name: str | None) -> None:
        """A TLS client asks for *name* (SNI); `decision` is complete now."""
        if name is None or self.wrapped.reason is not None:
            return
        self._name = name
        faults = self._decider.faults
        asked = in_name(name) if faults.requested else None
        if asked is not None:
            self._named = True
            self._problem = self._choose(asked)
        more = self._decider.named(self.wrapped.number, name, self._host())
        if more:
            self._apply(self.decision + more)

    def handshakeCompleted(self) -> None:
        """`IHandshakeListener.handshakeCompleted`: the TLS handshake has completed."""
        self.wrapped.handshakeCompleted()
        self._begin()

    @override
    def dataReceived(self, data: bytes) -> None:
        if self._over:
            self.wrapped.received += len(data)
        elif self._request is not None:
            self._read_request(data)
        else:
            self._take_in(data)

    def readConnectionLost(self) -> None:
        """The peer has closed its side: that passes behind its bytes."""
        if self._peer_ended:  # Twisted's own transports say it again if they are told to read
            return
        self._peer_ended = True
        if self._request:
            self._refuse_request("a request ends with a newline")
        elif self._request is not None or (self._over and self._ended):
            self._guard_ending()
            self._unregister()
            self.transport.loseConnection()
        if self._request is not None or self._over:  # then our end is on its way, or was a reset
            return
        now = self._clock.seconds()
        if self._up.swallows(now):
            self._guard_ending()
        self._up.feed_end(now)
        self._go_on()

    def writeConnectionLost(self) -> None:
        """This side has been closed."""
        if IHalfCloseableProtocol.providedBy(self.wrapped):
            cast(Any, self.wrapped).writeConnectionLost()

    @override
    def connectionLost(self, reason: Failure = ConnectionDone) -> None:  # type: ignore[assignment]  # Twisted's own default
        self._stop()
        self.wrapped.received += self._up.held
        self.wrapped.connectionLost(reason)

    def lost(self, reason: Failure) -> None:
        """The connection has ended, and was never served."""
        self._stop()
        self.wrapped.lost(reason)

    def output_paused(self) -> None:
        """The transport takes no more bytes for now."""
        self._output_paused = True

    def output_resumed(self) -> None:
        """The transport takes bytes again."""
        self._output_paused = False
        self._down.catch_up(self._clock.seconds())
        self._go_on()

    # Deciding.

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

    def _host(self) -> str | None:
        return getattr(self.getPeer(), "host", None)

    def _decide(self) -> None:
        self._decided = True
        self._apply(self._decider.connection(self.wrapped.number, self._host()))
        first = self._first
        if first(Kind.REFUSE) is not None:
            self.wrapped.reason = self.wrapped.reason or Reason.FAULT
            self.transport.abortConnection()
            return
        delay = first(Kind.ACCEPT_DELAY)
        if delay is not None:
            seconds = float(cast(float, delay.value))
            self._delayed = True
            self._update_reading()
            self._later(self._begin_reading, seconds)
            if self.wrapped.phase is Phase.HANDSHAKE:
                self.wrapped.since += seconds  # which is not the peer's time
        if getattr(self.transport, "handshake_complete", True):
            self._begin()

    def _begin_reading(self) -> None:
        self._delayed = False
        self._update_reading()
        if self._answering:
            self._go_on()

    def _begin(self) -> None:
        """Bytes may pass from now on."""
        self._answering = True
        if self._decider.faults.requested and not self._named:
            self._request = bytearray()
        if self._problem:
            self._refuse_request(self._problem)
        self._go_on()

    def change(self, decision: Decision) -> None:
        """Go on with another *decision*; what is held keeps its delay."""
        if decision != self.decision:
            self._apply(decision)
            self._go_on()

    def redecide(self) -> None:
        """Decide again, by the faults that are declared now."""
        if self._chosen or not self._decided:
            return
        number, host = self.wrapped.number, self._host()
        decision = self._decider.connection(number, host)
        if self._name is not None:
            decision += self._decider.named(number, self._name, host)
        self.change(decision)

    def _apply(self, decision: Decision) -> None:
        before, self.decision = self.decision, decision
        for pipe in (self._up, self._down):
            pipe.change(decision.faults, decision.seed, self._clock.seconds())
        if decision == before:
            return
        self.wrapped.faults = "; ".join(map(shown, decision.faults))
        for fault in decision.faults:
            if fault not in before.faults:
                self._decider.struck[fault.kind] += 1
        recorded = "; ".join(map(words, decision.faults)) + f" seed={decision.seed}" if decision else "none"
        guard = self.wrapped.guard
        log.info(
            "faults: {faults}",
            endpoint=guard.name if guard is not None else None,
            connection=self.wrapped.number,
            peer=self.wrapped.peer,
            faults=recorded,
            unlimited=True,  # a replay needs all of them
        )

    def _first(self, kind: Kind) -> Fault | None:
        return next((fault for fault in self.decision.faults if fault.kind is kind), None)

    # Faults that the client asks for.

    def _read_request(self, data: bytes) -> None:
        line = cast(bytearray, self._request)
        end = data.find(b"\n", 0, LONGEST_REQUEST - len(line))
        line += data[: end + 1] if end >= 0 else data
        self.wrapped.received += len(data) if end < 0 else end + 1
        if end < 0 and len(line) < LONGEST_REQUEST:
            return
        problem = ""
        if end < 0:
            problem = f"a request has at most {LONGEST_REQUEST} bytes, and ends with a newline"
        elif text := line.decode("ascii", "replace").strip():
            problem = self._choose(text, shaken=self._over_tls)
        self._request = None
        if problem:
            self._refuse_request(problem)
            return
        self.transport.write(b"ok\n")
        if len(data) > end + 1:
            self._take_in(data[end + 1 :])
        else:
            self._go_on()

    def _refuse_request(self, problem: str) -> None:
        """Say what is wrong with a request, and close."""
        self.wrapped.reason = self.wrapped.reason or Reason.FAULT
        self.wrapped.detail = problem
        self._over = True
        self._guard_ending()
        self.transport.write(f"{problem}\n".encode("ascii", "backslashreplace"))
        self._close_gently()

    def _choose(self, text: str, *, shaken: bool = False) -> str:
        """Apply what a client asks for; return what is wrong with it, if anything is.

        :param shaken: whether it asks after its TLS handshake, which is too late for faults of TLS.
        """
        faults = self._decider.faults
        if self._decider.chosen >= faults.most:
            return f"{faults.most} connections have chosen faults, which is the maximum; try again later"
        try:
            decision = request(text, "TLS" if self._over_tls else "TCP", faults)
        except ValueError as error:
            return str(error)
        late = [fault for fault in decision.faults if USAGE[fault.kind].transports == TLS_ONLY]
        if shaken and late:
            return f"{late[0].kind}: is too late after the handshake; ask for it in the name (SNI)"
        self._chosen = True
        self._decider.chosen += 1
        self._apply(decision)
        return ""

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
                self.transport.write(found)
                self.wrapped.unchanged_since = now  # a slow line is no idle one

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

    def _end(self) -> None:
        """All is sent: close, or half-close, now or later."""
        slow = self._first(Kind.SLOW_CLOSE)
        if slow is not None:
            self._later(self._end_now, float(cast(float, slow.value)))
        else:
            self._end_now()

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

    def _cut(self, fault: Fault) -> None:
        """*fault* has reached its offset, or its time."""
        wrapped = self.wrapped
        if wrapped.reason is None:
            wrapped.reason = Reason.FAULT
            wrapped.detail = shown(fault)
        self._over = True
        self._guard_ending()
        self._half = fault.kind is Kind.HALF_CLOSE
        if fault.kind is Kind.RESET:
            self._when_acknowledged(self.transport.abortConnection)
        elif self._down.finished:
            self._end()
        else:  # it cuts off what the client sends: the answers that are held come first
            self._down.feed_end(self._clock.seconds())

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
            self._when_acknowledged(transport.loseConnection)
        else:
            transport.loseConnection()

    def _when_acknowledged(self, then: Callable[[], None]) -> None:
        """Call *then* once the peer's kernel has all bytes, or after `PATIENCE`."""
        if self._looks_until is NEVER:
            self._looks_until = self._clock.seconds() + PATIENCE
        owed = getattr(self.transport, "owed", 0)
        if not owed or self._clock.seconds() >= self._looks_until:
            then()
        else:
            self._later(partial(self._when_acknowledged, then), LOOK_EVERY)

    def _guard_ending(self) -> None:
        if self.wrapped.guard is not None:
            self.wrapped.guard.ending(self.wrapped)

    # What the guard asks.

    @property
    def owed(self) -> int:
        """Bytes that the peer has not taken yet; not those that a fault holds back."""
        owed = getattr(self.transport, "owed", None)
        return int(self._output_paused) if owed is None else owed

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
        if self._chosen:
            self._chosen = False
            self._decider.chosen -= 1


def _or_never(time: float | None) -> float:
    return NEVER if time is None else time
