"""What answers have in common.

Rules: an answer is under the limits, faults, drain and log rules of its endpoint, as echo is; it begins once
the connection is established (over TLS after the handshake, and with faults when these let bytes pass); no
answer over UDP is longer than the datagram that asks for it (see `DatagramAnswer.may_be_longer`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport, ITCPTransport
from twisted.internet.protocol import DatagramProtocol
from typing_extensions import override
from zope.interface import implementer

from suite.engine.interfaces import INeedsNoLogContext
from suite.guard.datagrams import LOOK_EVERY, DatagramPolicy
from suite.guard.streams import Guard, Guarded
from suite.guard.sweep import UNKNOWN
from suite.reasons import Reason


@implementer(IHalfCloseableProtocol, INeedsNoLogContext)
class StreamAnswer(Guarded):
    """One connection that gets an answer; what arrives on it is counted and discarded.

    :param guard: the guard of the endpoint.
    :param most: the maximum number of bytes, of those received and of those sent; None: no limit.
    """

    guard: Guard

    def __init__(self, guard: Guard, most: int | None = None) -> None:
        super().__init__(guard)
        self.most = most

    def begin(self) -> None:
        """The connection is established: bytes may be sent from now on. Called once."""

    def finish(self, answer: bytes) -> None:
        """Send *answer*, which is all, and close this side."""
        cut = self.most is not None and len(answer) > self.most
        self.write(answer[: self.most])
        self.end(Reason.BYTES if cut else Reason.ANSWERED)

    def write(self, data: bytes) -> None:
        """Send *data*; from now on the peer owes it to us to take it (`Reason.STALL`)."""
        self.unchanged_since = self.guard.clock.seconds()
        self.last_owed = UNKNOWN
        if getattr(self.transport, "takes_bytes", True):
            self.written += len(data)
        cast(Any, self.transport).write(data)

    # Called by the transport.

    @override
    def connectionMade(self) -> None:
        transport = cast(Any, self.transport)
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        super().connectionMade()
        if _is_established(transport):
            self._begin()

    @override
    def handshakeCompleted(self) -> None:
        super().handshakeCompleted()
        if not hasattr(self.transport, "begins_answer"):
            self._begin()

    def _begin(self) -> None:
        if self.reason is None:  # it has not been refused just now
            self.begin()

    @override
    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        if self.most is not None and self.received >= self.most and self.reason is None:
            self.end(Reason.BYTES)

    @override
    def readConnectionLost(self) -> None:
        """The peer has closed its side: close ours once everything is sent."""
        super().readConnectionLost()
        cast(Any, self.transport).loseConnection()

    def writeConnectionLost(self) -> None:
        """Required by `IHalfCloseableProtocol`; nothing to do."""


def _is_established(transport: Any) -> bool:
    """Whether a connection just made can be answered now, not after a handshake or a fault."""
    if hasattr(transport, "begins_answer"):
        return False
    ours = getattr(transport, "handshake_complete", None)
    if ours is not None:
        return bool(ours)
    # Twisted's own TLS tells of its handshake later; a PROXY header within it has come after that.
    return not ISSLTransport.providedBy(transport) or hasattr(transport, "preamble_complete")


@implementer(INeedsNoLogContext)
class DatagramAnswer(DatagramProtocol):
    """Answers each datagram with one at the most, never longer than the datagram.

    :param policy: decides which sources are answered.
    """

    noisy = False

    def __init__(self, policy: DatagramPolicy) -> None:
        self.policy = policy
        self.traffic = policy.traffic
        self._until_look = LOOK_EVERY

    def answer(self, datagram: bytes, addr: tuple[str, int]) -> bytes | None:
        """The answer to *datagram* from *addr*; None: there is none."""
        raise NotImplementedError

    def may_be_longer(self, addr: tuple[str, int]) -> bool:  # noqa: ARG002  # for those that override it
        """Whether the answer to *addr*, which is a claim and no fact, may be longer."""
        return False

    @override
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if not self.policy.admit(addr, 1, getattr(self.transport, "sent_to_many", False)):
            return
        self._until_look -= 1
        if not self._until_look:
            self._until_look = LOOK_EVERY
            # Two servers could answer each other's answers, which need not be alike.
            if self.policy.goes_round(addr, b""):
                return
        answer = self.answer(datagram, addr)
        if answer is None:
            return
        if len(answer) > len(datagram) and not self.may_be_longer(addr):
            self.policy.too_short(addr)
            return
        self.transport.write(answer, addr)  # type: ignore[union-attr]  # listening


@dataclass(frozen=True)
class Answer:
    """One answer that an endpoint can have.

    :ivar name: its name in a configuration.
    :ivar summary: what it is, in a line, for people.
    :ivar stream: the protocol of a connection, made from a guard and the limit `bytes`; None: it has none.
    :ivar datagrams: the protocol of a UDP port, made from a policy; None: it has none.
    """

    name: str
    summary: str
    stream: type[Guarded] | None
    datagrams: type[DatagramProtocol] | None
