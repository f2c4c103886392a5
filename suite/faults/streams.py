"""Faults between a connection and the protocol that answers on it.

Rules: `FaultyStream` is a protocol to the transport, and a transport to the protocol that answers, so that
neither knows of it. How bytes are held back is in `suite.faults.held`; here is what strikes, and when.
"""

from __future__ import annotations

from typing import Any, Final, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IReactorTime,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import directlyProvides, implementer, providedBy

from suite.config.fault_text import shown, words
from suite.config.faults import TLS_ONLY, USAGE, Fault, Kind
from suite.engine.interfaces import INeedsNoLogContext, IPreambleListener
from suite.faults.decide import CLEAN, Decider, Decision
from suite.faults.held import HeldStream, Output
from suite.faults.requested import in_name, request
from suite.guard.streams import Guarded
from suite.guard.sweep import Phase
from suite.reasons import Reason

log = Logger()

#: Bytes of a request for faults, its end of line included.
LONGEST_REQUEST: Final = 512


@implementer(IHalfCloseableProtocol, IHandshakeListener, IPreambleListener, INeedsNoLogContext)
class FaultyStream(HeldStream):
    """One connection under the faults that are decided for it.

    :param wrapped: the protocol that answers.
    :param decider: decides for the endpoint.
    :param clock: the source of time.
    :ivar decision: the faults of this connection.
    """

    def __init__(self, wrapped: Guarded, decider: Decider, clock: IReactorTime) -> None:
        super().__init__(wrapped, clock)
        self.decision = CLEAN
        self._decider = decider
        self._connected = False  # the wrapped protocol knows its connection
        self._request: bytearray | None = None  # the first line, while a client has to ask for its faults
        self._decided = False  # the client was known, and its faults were decided
        self._name: str | None = None  # what a TLS client asks for (SNI)
        self._chosen = False  # the client has chosen its faults
        self._named = False  # in its name
        self._problem = ""  # what is wrong with that
        self._begun = False  # the wrapped protocol may answer, and knows

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

    # Deciding.

    def _host(self) -> str | None:
        return getattr(self.transport.getPeer(), "host", None)

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
            self.begins_answer()
            self._go_on()

    def _begin(self) -> None:
        """Bytes may pass from now on."""
        self._answering = True
        if self._decider.faults.requested and not self._named:
            self._request = bytearray()
        if self._problem:
            self._refuse_request(self._problem)
        self.begins_answer()
        self._go_on()

    def begins_answer(self) -> None:
        """Let an answer begin that needs nothing from the peer, once bytes may pass."""
        waits = self._begun or self._delayed or self._over or self._request is not None
        if self._answering and not waits:
            self._begun = True
            self.wrapped.begin()

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
        self._hand(b"ok\n")
        self.begins_answer()
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
        self._hand(f"{problem}\n".encode("ascii", "backslashreplace"))
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

    # Ends.

    @override
    def _end(self) -> None:
        """All is sent: close, or half-close, now or later."""
        slow = self._first(Kind.SLOW_CLOSE)
        if slow is not None:
            self._later(self._end_now, float(cast(float, slow.value)))
        else:
            self._end_now()

    @override
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

    def _guard_ending(self) -> None:
        if self.wrapped.guard is not None:
            self.wrapped.guard.ending(self.wrapped)

    @override
    def _stop(self) -> None:
        super()._stop()
        if self._chosen:
            self._chosen = False
            self._decider.chosen -= 1
