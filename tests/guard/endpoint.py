"""An endpoint with a guard, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from suite.config.limits import Limits
from suite.echo import EchoFactory
from suite.faults.streams import FaultyStream
from suite.guard.streams import Guard
from suite.guard.sweep import SWEEP

PEER = IPv4Address("TCP", "192.0.2.1", 40000)
LOOPBACK = IPv4Address("TCP", "127.0.0.1", 40000)


class Transport(StringTransport):
    """A transport that records how it was closed, and whose peer may be slow.

    :ivar owed: the number of bytes to report that the peer has not taken.
    :ivar unsent: the number of those to report that the kernel has not accepted; None: it does not tell.
    :ivar ends: the calls that closed it: ``lose``, ``abort`` and ``half``.
    :ivar protocol: its protocol.
    """

    protocol: Any

    def __init__(self, address: Any = PEER) -> None:
        super().__init__(peerAddress=address)
        self.owed = 0
        self.unsent: int | None = None
        self.preamble_complete = True
        self.handshake_complete = False
        self.socket: Any = None
        self.ends: list[str] = []

    def read_header(self, client: Any) -> bool:
        """The PROXY header is complete and names *client*; return whether that is admitted."""
        self.preamble_complete = True
        self.peerAddr = client
        return bool(self.protocol.preamble_completed())

    def loseConnection(self) -> None:
        self.ends.append("lose")

    def abortConnection(self) -> None:
        if "abort" not in self.ends:  # repeated calls have no effect, as in Twisted
            self.ends.append("abort")

    def loseWriteConnection(self) -> None:
        self.ends.append("half")

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Called for TCP connections only."""


class GuardedEndpoint:
    """An endpoint with a guard, in memory.

    :ivar events: the log events of the guard.
    """

    def __init__(self, limits: Limits | None = None, **options: bool) -> None:
        self.clock = Clock()
        self.guard = Guard(self.clock, "tcp", limits or Limits(), **options)
        self.factory = EchoFactory(self.guard)
        self.events: list[dict[str, Any]] = []
        self.observe: Any = self.events.append

    def connect(self, address: Any = PEER, *, header: bool = False, sock: Any = None) -> tuple[Any, Any]:
        """A connection from *address*, and its `Transport`, which a *header* may have to begin."""
        protocol = self.factory.buildProtocol(address)
        assert protocol is not None, "refused"
        transport = Transport(address)
        transport.preamble_complete = not header
        transport.socket = sock
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return protocol, transport

    def refused(self, address: Any = PEER) -> bool:
        return self.factory.buildProtocol(address) is None

    def wait(self, seconds: float) -> None:
        """Let time pass, sweep by sweep."""
        while seconds > 0:
            self.clock.advance(min(seconds, SWEEP / 5))
            seconds -= SWEEP / 5


Endpoint = TypeVar("Endpoint", bound=GuardedEndpoint)


@contextmanager
def observed(kind: type[Endpoint]) -> Iterator[type[Endpoint]]:
    """The class *kind*, whose instances see the log; at the end their connections are lost.

    Then nothing may be scheduled.
    """
    built: list[Endpoint] = []

    def make(*args: Any, **options: Any) -> Endpoint:
        one = kind(*args, **options)
        globalLogPublisher.addObserver(one.observe)
        built.append(one)
        return one

    yield cast(type[Endpoint], make)
    for one in built:
        globalLogPublisher.removeObserver(one.observe)
        for connection in [*one.guard.open]:
            # What stands between it and the transport, if anything does, is told first.
            below: Any = connection.transport
            disconnect(below if isinstance(below, FaultyStream) else connection)
        assert one.clock.getDelayedCalls() == []


def disconnect(protocol: Any, reason: Exception | None = None) -> None:
    protocol.connectionLost(Failure(reason or ConnectionDone()))
