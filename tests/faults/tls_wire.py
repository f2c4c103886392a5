"""A `FaultyTLS` between a protocol and an OpenSSL client in memory: a socket pair, and no reactor."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

import pytest
from OpenSSL import SSL
from twisted.internet import main
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.config.faults import Fault, Kind, Span
from suite.endpoints.tls import ContextFactory
from suite.engine.tls import TLSPort, TLSServer
from suite.faults.decide import CLEAN, Decision
from suite.faults.records import split_records
from suite.faults.tls import FaultyTLS
from suite.guard.streams import Guarded
from suite.reasons import Reason
from tests.helpers import Watcher

VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}

#: More than one record, and no multiple of one.
DATA = os.urandom(100_001)


class Reactor(Watcher):
    """Records the watched selectables; its time passes when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.callLater = self.clock.callLater
        self.seconds = self.clock.seconds


@implementer(IHalfCloseableProtocol)
class Faulty(Guarded):
    """Echoes, with the faults that it is made with and those that come with a name."""

    def __init__(self, *faults: Fault, **named: Sequence[Fault]) -> None:
        super().__init__()
        self.decision = Decision(faults, seed=7) if faults else CLEAN
        self.named = named
        self.names: list[str | None] = []
        self.handshakes = 0
        self.data = b""
        self.failure: Failure | None = None

    def client_hello(self, name: str | None) -> None:
        self.names.append(name)
        self.decision += Decision(tuple(self.named.get(name or "", ())), seed=7)

    @override
    def handshakeCompleted(self) -> None:
        self.handshakes += 1

    @override
    def dataReceived(self, data: bytes) -> None:
        self.data += data
        cast(Any, self.transport).write(data)

    @override
    def readConnectionLost(self) -> None:
        cast(Any, self.transport).loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def lost_because(self, error: type[Exception]) -> bool:
        return self.failure is not None and self.failure.check(error) is not None

    @property
    def struck(self) -> str:
        """The fault that ended it; empty: none."""
        return self.detail if self.reason is Reason.FAULT else ""

    @override
    def connectionLost(self, reason: Failure = Failure(main.CONNECTION_DONE)) -> None:  # noqa: B008
        self.failure = reason


class Wire:
    """A `FaultyTLS`, its protocol, and an OpenSSL client whose bytes are in the test's hands.

    :param transport: another class in place of `FaultyTLS`.
    :ivar received: the application data that the client has received.
    :ivar end: how TCP has ended, as the client sees it: ``eof`` or ``reset``; empty: not.
    :ivar error: what OpenSSL has said last, or ``close_notify``.
    """

    def __init__(
        self,
        context: SSL.Context,
        protocol: Any,
        version: str = "1.3",
        name: bytes | None = b"localhost",
        session: SSL.Session | None = None,
        client: SSL.Context | None = None,
        transport: type[TLSServer] = FaultyTLS,
    ) -> None:
        self.reactor = Reactor()
        self.protocol = protocol
        self.peer, ours = socket.socketpair()
        self.peer.setblocking(False)
        port = TLSPort(0, Factory(), ContextFactory(context), 5, "127.0.0.1", self.reactor)
        self.port = port
        self.transport: Any = transport(ours, protocol, ("127.0.0.1", 4711), port, 0, self.reactor)
        protocol.makeConnection(self.transport)
        if client is None:
            client = SSL.Context(SSL.TLS_CLIENT_METHOD)
            client.set_min_proto_version(VERSIONS[version])
            client.set_max_proto_version(VERSIONS[version])
        self.tls = SSL.Connection(client, None)
        if session is not None:
            self.tls.set_session(session)
        if name is not None:
            self.tls.set_tlsext_host_name(name)
        self.tls.set_connect_state()
        self._received = bytearray()
        self.received = b""
        self.shaken = False
        self.end = ""
        self.error = ""

    @property
    def wire(self) -> bytes:
        """All bytes that the client has received."""
        return bytes(self._received)

    def turn(self) -> bool:
        """Let each side do what it can; return whether anything moved."""
        moved = False
        for watched, act in ((self.reactor.readers, "doRead"), (self.reactor.writers, "doWrite")):
            if self.transport in watched and self._is_ready(act):
                moved = self.act(act) or moved
        return self.client() or moved

    def _is_ready(self, act: str) -> bool:
        sockets = [self.transport.socket]
        readable, writable, _ = select.select(*((sockets, []) if act == "doRead" else ([], sockets)), [], 0)
        return bool(readable or writable)

    def act(self, act: str) -> bool:
        """What Twisted's reactors do with a selectable that is ready."""
        before = self.state()
        why = getattr(self.transport, act)()
        if why is not None and self.transport.connected:
            if why is main.CONNECTION_DONE and act == "doRead":
                self.reactor.removeReader(self.transport)
                self.transport.readConnectionLost(Failure(why))
            else:
                self.reactor.removeReader(self.transport)
                self.reactor.removeWriter(self.transport)
                self.transport.connectionLost(Failure(why))
        return self.state() != before

    def state(self) -> object:
        transport = self.transport
        return (
            len(self.protocol.data),
            transport.unsent,
            transport.connected,
            transport.reading,
            transport in self.reactor.writers,
        )

    def client(self) -> bool:
        """Let the client do what it can; return whether anything moved."""
        try:
            if not self.shaken:
                self.tls.do_handshake()
                self.shaken = True
            while True:
                self.received += self.tls.recv(65536)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.error = "close_notify"
        except SSL.Error as error:
            if error.args and isinstance(error.args[0], list) and error.args[0]:
                self.error = str(error.args[0][-1][-1])
        moved = False
        with suppress(SSL.WantReadError):
            while data := self.tls.bio_read(65536):
                moved = True
                with suppress(OSError):
                    self.peer.send(data)
        try:
            while data := self.peer.recv(65536):
                self._received += data
                self.tls.bio_write(data)
                moved = True
            self.end = self.end or "eof"
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.end = "reset"
        return moved

    def run(self) -> None:
        """Go on until nothing moves."""
        while self.turn():
            pass

    def talk(self, data: bytes = DATA) -> None:
        """Send *data*, piece by piece."""
        self.run()
        for start in range(0, len(data), 16384):
            self.tls.send(data[start : start + 16384])
            self.run()

    def finish(self) -> None:
        """The client ends properly."""
        with suppress(SSL.Error):
            self.tls.shutdown()
        self.client()
        with suppress(OSError):
            self.peer.shutdown(socket.SHUT_WR)
        self.run()

    def plain(self) -> Iterator[tuple[int, int]]:
        """The content type and the size of each record that was sent, as the wire shows them."""
        return ((record[0], len(record) - 5) for record in split_records(self.wire))

    def close(self) -> None:
        if self.transport.connected:
            self.transport.connectionLost(Failure(main.CONNECTION_DONE))
        self.peer.close()


both = pytest.mark.parametrize("version", VERSIONS)


def fragment(size: int) -> Fault:
    return Fault(Kind.FRAGMENT, size)


def end(word: str) -> Fault:
    return Fault(Kind.END, word)


def storm(count: int, **after: Any) -> Fault:
    return Fault(Kind.KEY_UPDATE, count, after=Span(**after) if after else None)
