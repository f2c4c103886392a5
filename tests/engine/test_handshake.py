"""What a handshake that fails leaves behind: nothing that only the garbage collector could free."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from suite import certs
from suite.config.tls import TLS
from suite.endpoints.tls import ContextFactory
from suite.engine.tls import TLSPort, TLSServer
from suite.faults.tls import FaultyTLS
from tests.engine.test_stream import HalfCloseable, context_of
from tests.faults.tls_wire import Reactor


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> SSL.Context:
    directory = tmp_path_factory.mktemp("certs")
    certs.mint(directory)
    return context_of(directory, TLS(alpn=("http/1.1",)))


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Forgetful(HalfCloseable):
    """Forgets why it was lost: the reason holds frames while a test looks at them."""

    why: str = ""

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008
        self.why = str(reason.value)


def http(peer: socket.socket) -> None:
    peer.send(b"GET / HTTP/1.0\r\n\r\n")


def leave(peer: socket.socket) -> None:
    peer.send(b"\x16\x03\x01")
    peer.shutdown(socket.SHUT_WR)


def too_long(peer: socket.socket) -> None:
    peer.send(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff")


def no_protocol_in_common(peer: socket.socket) -> None:
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client.set_alpn_protos([b"h2"])
    peer.send(hello_of(client))


def version_that_nobody_wants(peer: socket.socket) -> None:
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client.set_cipher_list(b"AES128-SHA:@SECLEVEL=0")
    client.set_max_proto_version(SSL.TLS1_2_VERSION)
    peer.send(hello_of(client))


def hello_of(context: SSL.Context) -> bytes:
    client = SSL.Connection(context, None)
    client.set_connect_state()
    with suppress(SSL.WantReadError):
        client.do_handshake()
    return client.bio_read(2**16)


@pytest.mark.parametrize("spoil", [http, leave, too_long, no_protocol_in_common, version_that_nobody_wants])
@pytest.mark.parametrize("kind", [TLSServer, FaultyTLS])
@pytest.mark.usefixtures("no_collector")
def test_a_failed_handshake_leaves_no_cycle(
    context: SSL.Context, kind: type[TLSServer], spoil: Callable[[socket.socket], None]
) -> None:
    """A flood of them would grow until the collector looks at its oldest generation, which stops all."""
    reactor: Any = Reactor()
    port = TLSPort(0, Factory(), ContextFactory(context), 5, "127.0.0.1", reactor)
    assert fail(port, kind, spoil)
    gc.collect()  # what is made once
    assert fail(port, kind, spoil)
    assert gc.collect() == 0


def fail(port: TLSPort, kind: type[TLSServer], spoil: Callable[[socket.socket], None]) -> str:
    """Have a handshake fail as on a reactor; return why it did."""
    reactor: Any = port.reactor
    peer, ours = socket.socketpair()
    protocol = Forgetful()
    transport = kind(ours, protocol, ("127.0.0.1", 4711), port, 0, reactor)
    protocol.makeConnection(transport)
    with peer:
        spoil(peer)
        while (why := transport.doRead()) is None:
            assert transport in reactor.readers
        transport.connectionLost(Failure(why))
    reactor.removeReader(transport)
    reactor.removeWriter(transport)
    return protocol.why
