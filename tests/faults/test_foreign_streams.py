"""Faults on the transports of others: Twisted's own, plain and over TLS, as the endpoints of plugins have."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from suite import certs
from suite.config.faults import Fault, Faults, Kind, Span
from suite.config.limits import Limits
from suite.echo import EchoFactory
from suite.faults.decide import Decider
from suite.guard.streams import Guard
from suite.reasons import Reason
from tests.engine.test_stream import the_reactor
from tests.running import PATIENCE, TLSClient, echo, read_to_end

T = TypeVar("T")

MIXED = (
    Fault(Kind.LATENCY, 0.02, direction="both"),
    Fault(Kind.BANDWIDTH, 2**21, direction="both"),
    Fault(Kind.SLICE, 999, direction="both"),
)


def at(size: int, kind: Kind) -> Fault:
    return Fault(kind, after=Span(size=size))


class ForeignStreams(TestCase):
    """Echo endpoints on transports that tell nothing of what is unsent, and may not half-close."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        certs.mint(self.directory)

    def listen(self, *faults: Fault, tls: bool = False, limits: Limits | None = None, **options: Any) -> None:
        self.guard = Guard(the_reactor(), "foreign", limits or Limits(), handshakes=tls)
        factory = EchoFactory(self.guard)
        factory.decider = Decider(Faults(faults, **options))
        if tls:
            files = (str(self.directory / name) for name in ("server.key", "server.pem"))
            port = the_reactor().listenSSL(
                0, factory, DefaultOpenSSLContextFactory(*files), interface="127.0.0.1"
            )
        else:
            port = the_reactor().listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port: int = port.getHost().port

    async def with_client(self, talk: Callable[[Any], T], *, tls: bool = False) -> T:
        """The result of *talk*, which gets a connected client, once the connection has ended here, too."""

        def connect() -> T:
            with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as sock:
                if tls:
                    context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
                    return talk(TLSClient(sock, context))
                return talk(sock)

        result = await deferToThread(connect)
        while self.guard.open:
            await deferToThread(lambda: None)
        return result

    async def test_every_byte_comes_back(self) -> None:
        data = os.urandom(2**19)
        self.listen(*MIXED)
        assert await self.with_client(lambda s: echo(s, data, lambda: s.shutdown(socket.SHUT_WR))) == data
        assert self.guard.ends == {Reason.CLOSED: 1}

    async def test_every_byte_comes_back_over_tls(self) -> None:
        data = os.urandom(2**18)
        self.listen(*MIXED, tls=True)

        def talk(client: TLSClient) -> bytes:
            client.sendall(data)
            received = b""
            while len(received) < len(data):
                received += client.recv(65536)
            client.close_notify_and_fin()
            return received + read_to_end(client.recv)

        assert await self.with_client(talk, tls=True) == data

    async def test_an_end_behind_a_latency(self) -> None:
        """The peer has ended its side, is paused and read again, and that end is seen once."""
        self.listen(Fault(Kind.LATENCY, 0.05, direction="both"), Fault(Kind.SLOW_CLOSE, 0.05))
        got = await self.with_client(lambda s: echo(s, b"hola", lambda: s.shutdown(socket.SHUT_WR)))
        assert got == b"hola"
        assert self.guard.ends == {Reason.CLOSED: 1}

    async def test_a_limit_a_half_close_and_a_reset(self) -> None:
        for tls in (False, True):
            for fault in (Fault(Kind.LIMIT, 4), at(4, Kind.CLOSE), at(4, Kind.HALF_CLOSE)):
                self.listen(fault, tls=tls)

                def talk(client: Any) -> bytes:
                    client.sendall(b"hola mundo")
                    return read_to_end(client.recv)

                assert await self.with_client(talk, tls=tls) == b"hola"
                assert self.guard.ends == {Reason.FAULT: 1}

    async def test_a_reset(self) -> None:
        self.listen(at(4, Kind.RESET))

        def talk(sock: socket.socket) -> str:
            sock.sendall(b"hola")
            try:
                return repr(sock.recv(5))
            except ConnectionResetError:
                return "reset"

        assert await self.with_client(talk) == "reset"

    async def test_a_limit_on_bytes(self) -> None:
        for tls in (False, True):
            self.listen(Fault(Kind.LATENCY, 0.02, direction="both"), limits=Limits(bytes=4), tls=tls)

            def talk(client: Any) -> bytes:
                client.sendall(b"hola mundo")
                return read_to_end(client.recv)

            assert await self.with_client(talk, tls=tls) == b"hola"
            assert self.guard.ends == {Reason.BYTES: 1}

    async def test_a_request(self) -> None:
        for tls in (False, True):
            self.listen(requested=True, tls=tls)

            def talk(client: Any) -> bytes:
                client.sendall(b"latency=20ms limit=4\nhola mundo")
                return read_to_end(client.recv)

            assert await self.with_client(talk, tls=tls) == b"ok\nhola"

    async def test_a_delay_at_accept_over_tls(self) -> None:
        """The handshake waits for it here, too."""
        self.listen(Fault(Kind.ACCEPT_DELAY, 0.1), at(4, Kind.CLOSE), tls=True)

        def talk(client: TLSClient) -> bytes:
            client.sendall(b"hola")
            return read_to_end(client.recv)

        assert await self.with_client(talk, tls=True) == b"hola"

    async def test_a_refused_connection(self) -> None:
        """Connecting may be told already."""
        self.listen(Fault(Kind.REFUSE))
        with contextlib.suppress(ConnectionResetError):
            assert await self.with_client(lambda sock: sock.recv(1)) == b""
        while not self.guard.ends:
            await deferToThread(lambda: None)
        assert self.guard.ends == {Reason.FAULT: 1}
